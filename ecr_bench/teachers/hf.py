"""Teachers ``hf`` and ``checkpoint``: pooled hidden states of a transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from ecr_bench.content import folder_of
from ecr_bench.errors import UserError, about
from ecr_bench.hub import read_model, read_pretrained
from ecr_bench.io import fingerprint
from ecr_bench.outside import model_counts
from ecr_bench.section import Section
from ecr_bench.teachers.base import PoolingKind, Progress

if TYPE_CHECKING:
    from ecr_bench.teachers.hidden import HiddenStates


RETRIEVAL = "retrieval"
"""In place of the number of a layer."""
LOWEST, HIGHEST = -1_001, 1_000


def _layer(value: Any) -> Any:
    if value == RETRIEVAL or (type(value) is int and LOWEST <= value <= HIGHEST):
        return value
    raise ValueError(f"must be the number of a layer ({LOWEST} to {HIGHEST}; 0: embeddings, -1: last) or {RETRIEVAL}")


# each kind of value would be refused by itself, under a name that is no key
Layer = Annotated[Annotated[int, Field(ge=LOWEST, le=HIGHEST)] | Literal["retrieval"], BeforeValidator(_layer)]


class HFTeacher:
    """Unit vectors from any encoder or causal LM; weights are read as safetensors only (no pickle)."""

    class Options(Section):
        """Which model, and what of it."""

        model: str = Field(min_length=1)
        """Folder of a transformers model, or a hub id."""
        revision: str = ""
        """Branch, tag or commit, for a hub id; empty: ``main``."""
        layer: Layer = -1
        """Hidden state to pool, as in transformers' ``hidden_states``: 0 embeddings, -1 last. ``retrieval``: the one at
        which translations find each other best in training text (stages/teacher_layer.py)."""
        pooling: PoolingKind = "mean"
        """``mean`` over all tokens, ``cls`` (the first) or ``last``."""
        prefix: str = ""
        """Put before each text, for example ``query: `` for E5."""
        batch_size: int = Field(default=64, ge=1, le=1_000_000)
        """Texts per forward pass. Changes speed, and the last bits of a vector."""
        max_length: int = Field(default=128, ge=2, le=1_048_576)
        """Tokens per text, special tokens included; the rest is cut."""
        dtype: Literal["float32", "bfloat16"] = "float32"
        """Precision of the forward pass; embeddings are float32 either way."""

    name = "hf"

    def __init__(self, options: Options, bos: bool = False):
        from transformers import AutoConfig

        from ecr_bench.teachers.hidden import resolve_layer

        self.options, self._bos = options, bos
        self._layer = options.layer if isinstance(options.layer, int) else -1
        config = read_pretrained(AutoConfig, options.model, f"teacher {self.name!r}", options.revision)
        text_config = config.get_text_config()
        with about(f"teacher.options.layer: model {options.model!r}"):
            resolve_layer(self._layer, text_config.num_hidden_layers)
        self.dim = int(text_config.hidden_size)
        identity = options.model_dump(exclude={"model", "revision"})
        self.source = model_counts(options.model, options.revision, f"teacher {self.name!r}")
        made_from = {"name": self.name, "bos": bos, "weights": self.source, **identity}
        self.fingerprint = f"{self.name}-{fingerprint(made_from)}"
        self._states: HiddenStates | None = None
        self._tokenizer: Any = None

    def _open(self) -> HiddenStates:
        if self._states is None:
            import torch
            from transformers import AutoModel, AutoTokenizer

            from ecr_bench.teachers.hidden import HiddenStates

            who = f"teacher {self.name!r}"
            self._tokenizer = read_pretrained(AutoTokenizer, self.options.model, who, self.options.revision)
            dtype = getattr(torch, self.options.dtype)
            model = read_model(AutoModel, self.options.model, who, self.options.revision, dtype=dtype)
            self._states = HiddenStates(model.to("cuda" if torch.cuda.is_available() else "cpu"), self._layer)
        return self._states

    def embed(self, texts: Sequence[str], on_progress: Progress | None = None) -> np.ndarray:
        """Return (N, dim) float32, unit L2 norm; a text without tokens gives the zero vector.

        UserError for a layer that is still to be chosen.
        """
        from torch.nn.functional import normalize

        if self.options.layer == RETRIEVAL:
            raise UserError(f"teacher {self.name!r}: layer: {RETRIEVAL} is for a run; give the number of a layer here")
        states = self._open()
        ids, skip = self._ids(states, texts)
        pooled = states(ids, self.options.pooling, self.options.batch_size, skip, on_progress)
        return normalize(pooled, dim=-1).numpy()

    def embed_at_all_layers(self, texts: Sequence[str], on_progress: Progress | None = None) -> np.ndarray:
        """(layers + 1, N, dim) float32: the mean of each hidden state, not normalised."""
        from ecr_bench.teachers.hidden import pooled_at_all_layers

        states = self._open()
        assert states.layer == states.total
        ids, skip = self._ids(states, texts)
        return pooled_at_all_layers(states.model, ids, skip, self.options.batch_size, on_progress).numpy()

    def _ids(self, states: HiddenStates, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Token ids of each text, and how many at their beginning are not pooled."""
        limit = min(self.options.max_length, states.max_length)
        prefixed = [self.options.prefix + text for text in texts]
        ids: list[list[int]] = []
        if prefixed:
            ids = self._tokenizer(prefixed, truncation=True, max_length=limit)["input_ids"]
        skip = 0
        bos = self._tokenizer.bos_token_id
        if self._bos and bos is not None:
            ids = [row if row[:1] == [bos] else [bos, *row[: limit - 1]] for row in ids]
            skip = 1
        return ids, skip


class CheckpointTeacher:
    """One of our trained models: mean of a hidden state over the text, with BOS read but not pooled."""

    class Options(Section):
        """Which model, and what of it."""

        path: str = ""
        """Folder of a trained model: transformers weights with a tokenizer."""
        size: str = ""
        """In place of ``path``: the experiment's own plain model of this size, seed 0."""
        state: Literal["pretrained", "base", "finetuned"] = "finetuned"
        """With ``size``: a pretrained model before it is trained here, after pre-training, or after fine-tuning."""
        layer: Layer = -1
        """Hidden state to pool, as in transformers' ``hidden_states``: 0 embeddings, -1 last. ``retrieval``: the one at
        which translations find each other best in training text."""
        batch_size: int = Field(default=64, ge=1, le=1_000_000)
        """Texts per forward pass. Changes speed, and the last bits of a vector."""
        max_length: int = Field(default=128, ge=2, le=1_048_576)
        """Tokens per text; the rest is cut."""

        @model_validator(mode="after")
        def _one_model(self) -> CheckpointTeacher.Options:
            if bool(self.path) == bool(self.size):
                raise ValueError("give either path or size")
            return self

    name = "checkpoint"

    def __init__(self, options: Options):
        if folder_of(options.path) is None:
            raise UserError(f"teacher.options.path: no such folder: {options.path}")
        same = options.model_dump(include={"layer", "batch_size", "max_length"})
        self._states = _Checkpoint(HFTeacher.Options(model=options.path, **same), bos=True)
        self.dim, self.fingerprint, self.source = self._states.dim, self._states.fingerprint, self._states.source
        self.embed_at_all_layers = self._states.embed_at_all_layers

    def embed(self, texts: Sequence[str], on_progress: Progress | None = None) -> np.ndarray:
        """Return (N, dim) float32, unit L2 norm; a text without tokens gives the zero vector."""
        return self._states.embed(texts, on_progress)


class _Checkpoint(HFTeacher):
    name = "checkpoint"
