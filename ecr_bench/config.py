"""The typed experiment: what a YAML in ``baselines/`` may say, and nothing else.

Every field that can change a result is here or in ``sections``. A wrong key or value is a UserError that names the
allowed ones.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

from ecr_bench.bounds import reason
from ecr_bench.consistency import check_data, check_overrides, check_sizes, check_tuned
from ecr_bench.errors import UserError
from ecr_bench.io import fingerprint
from ecr_bench.names import secret_at
from ecr_bench.section import Distinct, Filled, LanguageCode, RunName, Section, Seed, SizeName
from ecr_bench.sections import (
    MOST_ROWS,
    AnchorsConfig,
    ControlTokensConfig,
    CorpusConfig,
    FinetuneConfig,
    OptimiserConfig,
    Placement,
    Precision,
    PretrainConfig,
    ProjectionConfig,
    TeacherConfig,
    TokenizerConfig,
)
from ecr_bench.sizes import SIZES, Size, SizeConfig
from ecr_bench.yaml_files import CHOOSERS, drop_options, locate, parse_set, read, shipped

__all__ = ["Experiment", "Section", "SizeConfig", "load", "parse", "parse_set", "read", "shipped"]
__all__ += [
    "AnchorsConfig",
    "ControlTokensConfig",
    "CorpusConfig",
    "FinetuneConfig",
    "OptimiserConfig",
    "Placement",
    "Precision",
    "PretrainConfig",
    "ProjectionConfig",
    "TeacherConfig",
    "TokenizerConfig",
]


class ScoringConfig(Section):
    items: int = Field(default=40, ge=1, le=MOST_ROWS)
    """Test items per task and language (or language pair)."""
    pairs: Annotated[tuple[Literal["to-en", "from-en", "ring"], ...], Filled, Distinct] = ("to-en", "from-en")
    """Language pairs of the ``meaning`` task: X-en, en-X, and each language with the next one."""
    batch_tokens: int = Field(default=8192, ge=256, le=16_777_216)
    """Upper bound on padded tokens in one scoring batch. Changes speed, never scores."""
    unconditional: bool = False
    """Also score every option without its text, for accuracy by pointwise mutual information (docs/geometry.md)."""


class GeometryConfig(Section):
    """Where and when hidden states are compared (data/parallel.py, evaluation/pooled.py)."""

    layer: int = Field(default=-1, ge=-1_001, le=1_000)
    """Which hidden state is pooled: 0 the embeddings, -1 the last."""
    per_language: int = Field(default=24, ge=1, le=1_000_000)
    """Held-out translation pairs with English, for each other language."""
    snapshots: int = Field(default=4, ge=0, le=1_000)
    """Times during fine-tuning, evenly spaced, at which pooled states are kept, besides the start; 0: none at all."""
    measure: bool = True
    """Whether finished cells are measured beside accuracy (docs/geometry.md): about two seconds a cell of ``quick``."""
    sts_path: str = ""
    """Sentence pairs with human scores: a folder of LANG/test.jsonl or a data set (evaluation/sts.py); empty: none."""
    sts_revision: str = ""
    """Branch, tag or commit, for a data set on the hub; empty: ``main``. The commit it is at counts, not its name."""
    sts_pairs: int = Field(default=300, ge=2, le=1_000_000)
    """Sentence pairs of each language, at most."""


class Use(Section):
    """A modifier and the options it is given; in YAML its name, or ``{name: {option: value}}``."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1 and not value.keys() & {"name", "options"}:
            ((name, options),) = value.items()
            return {"name": name, "options": options or {}}
        return value

    @model_serializer
    def _as_yaml(self) -> str | dict[str, Any]:
        return {self.name: self.options} if self.options else self.name


class ArmSpec(Section):
    """What an arm is made of but for its size: ``{method: ecr, with: [dropout, {lora: {base: nf4}}]}``."""

    model_config = ConfigDict(serialize_by_alias=True)

    method: str
    """Registered method: see ``ecr-bench methods``."""
    modifiers: tuple[Use, ...] = Field(default=(), alias="with")
    """Registered modifiers, each a name or ``{name: {option: value}}``."""
    options: dict[str, Any] = {}
    """Options of the method."""
    set: dict[str, Any] = {}
    """Overrides of the experiment, dotted: ``control_tokens.count: 8``."""

    def given_options(self) -> dict[str, dict[str, Any]]:
        """Options that stand here, by the name of their owner."""
        return {use.name: use.options for use in self.modifiers} | {self.method: self.options}


class Tuned(Section):
    """Settings chosen for a method at some sizes, on validation rows: each arm is then at its own best."""

    model_config = ConfigDict(serialize_by_alias=True)

    method: str
    modifiers: tuple[str, ...] = Field(default=(), alias="with")
    """Registered modifiers, by name."""
    sizes: Annotated[tuple[str, ...], Filled, Distinct]
    set: dict[str, Any]
    """Overrides of the experiment, dotted. They are no part of an arm's name; those of a cell go on top."""


class CellSpec(ArmSpec):
    """Arms of one recipe: at each size, with each seed."""

    sizes: Annotated[tuple[str, ...], Filled, Distinct] = ("1x",)
    seeds: Annotated[tuple[Seed, ...], Filled, Distinct] = (0,)


class Experiment(Section):
    """A grid of cells on shared data; see ``baselines/quick.yaml`` for a commented example."""

    name: RunName
    corpus: CorpusConfig = CorpusConfig()
    seen_languages: Annotated[tuple[LanguageCode, ...], Filled, Distinct] = ("en", "de", "fr", "zh")
    """Languages with labelled training rows; all others give unlabelled text only."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    teacher: TeacherConfig = TeacherConfig()
    anchors: AnchorsConfig = AnchorsConfig()
    projection: ProjectionConfig = ProjectionConfig()
    control_tokens: ControlTokensConfig = ControlTokensConfig()
    sizes: dict[SizeName, Size] = {}
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    options: dict[str, dict[str, Any]] = {}
    """Options of methods and modifiers, by name: ``lora: {rank: 8}``. Only the arms that use them depend on them."""
    tasks: Annotated[tuple[str, ...], Filled, Distinct] = ("intent", "slot", "meaning")
    scoring: ScoringConfig = ScoringConfig()
    geometry: GeometryConfig = GeometryConfig()
    precisions: Annotated[tuple[Precision, ...], Filled, Distinct] = ("fp32", "bf16", "int8", "nf4")
    device: Literal["auto", "cuda"] = "auto"
    """``auto``: a GPU where there is one. ``cuda``: refuse to start without one."""
    tuned: tuple[Tuned, ...] = ()
    """What was chosen for an arm on validation rows (docs/protocol.md)."""
    cells: tuple[CellSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        for check in (check_sizes, check_data, check_overrides, check_tuned):
            check(self)
        return self

    def with_overrides(self, overrides: dict[str, Any], source: str = "--set") -> Experiment:
        """A copy with dotted keys replaced, validated again; options of a corpus, teacher or projection go with it."""
        raw = self.model_dump(mode="json")
        for section, key in CHOOSERS.items():
            if (chosen := f"{section}.{key}") in overrides:
                drop_options(raw, section, overrides[chosen])
                raw[section].setdefault("options", {})
        for key, value in overrides.items():
            _assign(raw, key, value, source)
        return parse(raw, source)

    def chosen(self, spec: ArmSpec, size: str) -> dict[str, Any]:
        """What was chosen for the arms of a method, modifiers and size: dotted keys and values."""
        names = {use.name for use in spec.modifiers}
        found = [t for t in self.tuned if t.method == spec.method and set(t.modifiers) == names and size in t.sizes]
        return found[0].set if found else {}

    def chosen_for(self, spec: ArmSpec, size: str) -> Experiment:
        """The experiment with what was chosen for them."""
        chosen = self.chosen(spec, size)
        return self.with_overrides(chosen, "tuned.set") if chosen else self

    def tuned_for(self, spec: ArmSpec, size: str) -> Experiment:
        """The experiment with what was chosen for an arm, and with what its cells set on top."""
        local = self.chosen_for(spec, size)
        local = local.with_overrides(spec.set, "cells.set") if spec.set else local
        # beside a part's name or in ``set``: one arm, so whoever reads the experiment must find the same
        beside = {name: {**local.options.get(name, {}), **own} for name, own in spec.given_options().items() if own}
        return local.model_copy(update={"options": {**local.options, **beside}})

    @property
    def identity(self) -> str:
        """Hash of everything that can change a result of this experiment."""
        return fingerprint(self.model_dump(mode="json", exclude={"name"}))


def _assign(raw: dict[str, Any], dotted: str, value: Any, source: str) -> None:
    """Set ``raw['a']['b']`` for ``a.b``; UserError lists the keys of the level where it fails."""
    *path, last = dotted.split(".")
    node: Any = raw
    if path[:1] == ["options"] and len(path) > 1:  # of a method or modifier that has none set yet
        raw["options"].setdefault(path[1], {})
    for step in path:
        if not isinstance(node, dict) or step not in node:
            raise UserError(f"{source}: unknown key {dotted!r}: allowed here are {_keys(node)}")
        node = node[step]
    free = "options" in (path[-1:] + path[:1])  # their owner says what may stand there
    if not isinstance(node, dict) or (last not in node and not free):
        raise UserError(f"{source}: unknown key {dotted!r}: allowed here are {_keys(node)}")
    node[last] = copy.deepcopy(value)  # a later key may change it, and what was given stays as it was


def _keys(node: Any) -> str:
    return ", ".join(sorted(node)) if isinstance(node, dict) else "none (it is a value)"


def parse(raw: Any, source: str) -> Experiment:
    """Validate a plain mapping; UserError names ``source``, the key and what is allowed."""
    if not isinstance(raw, dict):
        raise UserError(f"{source}: an experiment must be a mapping with keys {', '.join(Experiment.model_fields)}")
    from ecr_bench.owners import check_options  # owners declare their options with what is here

    if key := secret_at(raw):
        raise UserError(
            f"{source}: {key}: looks like a token or password, which every result would publish: leave it out "
            "and set it where the library looks for it (HF_TOKEN, hf auth login)"
        )
    experiment = checked(Experiment, raw, source)
    check_options(experiment, source)
    return experiment


SectionT = TypeVar("SectionT", bound=Section)


def checked(kind: type[SectionT], raw: Mapping[str, Any], source: str) -> SectionT:
    """A section of plain values; UserError names ``source``, the key and what is allowed."""
    try:
        return kind.model_validate(dict(raw))
    except ValidationError as error:
        raise UserError(f"{source}: {one_line(error, kind)}") from None


def one_line(error: ValidationError, root: type[BaseModel]) -> str:
    """The first complaint about a ``root``: the key, what is allowed, what was given."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if part not in SIZES)
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}: allowed here are {', '.join(_fields_at(root, first['loc'][:-1]))}"
    given = (
        "" if isinstance(first["input"], dict) and first["type"] == "value_error" else f" (got {first['input']!r:.80})"
    )
    said = f"{reason(first, root)}{given}"
    return f"{key}: {said}" if key else said


def _fields_at(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The field names of the section at ``location`` inside ``root``."""
    model: Any = root
    for part in location:
        if isinstance(part, int):
            continue
        if part in SIZES:
            model = SIZES[part]
            continue
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
            model = inner[0] if inner else annotation
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


def load(name_or_file: str) -> Experiment:
    """Read an experiment by shipped name (``quick``) or by path of a YAML file; former names are read as today's."""
    from ecr_bench.methods.former import modern_experiment

    raw = read(name_or_file)
    if isinstance(raw, dict) and "axis" in raw:
        raise UserError(f"{name_or_file} is an ablation (it has 'axis'): ecr-bench ablate {name_or_file}")
    return parse(modern_experiment(raw) if isinstance(raw, dict) else raw, str(locate(name_or_file)))
