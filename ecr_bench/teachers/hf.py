"""Teachers ``hf`` and ``checkpoint``: pooled hidden states of a transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from transformers import AutoConfig, AutoModel, AutoTokenizer

from ecr_bench.errors import UserError
from ecr_bench.hub import read_model, read_pretrained
from ecr_bench.io import fingerprint
from ecr_bench.outside import model_counts
from ecr_bench.section import Section
from ecr_bench.teachers.base import Progress, read_options
from ecr_bench.teachers.hidden import HiddenStates, Pooling, resolve_layer


class CheckpointOptions(Section):
    path: str
    """Folder of a trained model: transformers weights with a tokenizer."""
    layer: int = -1
    """Hidden state to pool, as in transformers' ``hidden_states``: 0 embeddings, -1 last."""
    batch_size: int = Field(default=64, ge=1)
    """Texts per forward pass. Changes speed only."""
    max_length: int = Field(default=128, ge=2)
    """Tokens per text; the rest is cut."""


class HFOptions(Section):
    model: str
    """Folder of a transformers model, or a hub id."""
    revision: str = ""
    """Branch, tag or commit, for a hub id; empty: ``main``."""
    layer: int = -1
    """Hidden state to pool, as in transformers' ``hidden_states``: 0 embeddings, -1 last."""
    pooling: Pooling = "mean"
    """``mean`` over all tokens, ``cls`` (the first) or ``last``."""
    prefix: str = ""
    """Put before each text, for example ``query: `` for E5."""
    batch_size: int = Field(default=64, ge=1)
    """Texts per forward pass. Changes speed only."""
    max_length: int = Field(default=128, ge=2)
    """Tokens per text, special tokens included; the rest is cut."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward pass; embeddings are float32 either way."""


class HFTeacher:
    """Unit vectors from any encoder or causal LM; weights are read as safetensors only (no pickle)."""

    name = "hf"

    def __init__(self, options: dict[str, Any]):
        self._setup(read_options(HFOptions, self.name, options), bos=False)

    def _setup(self, options: HFOptions, bos: bool) -> None:
        self.options, self._bos = options, bos
        config = read_pretrained(AutoConfig, options.model, f"teacher {self.name!r}", options.revision)
        text_config = config.get_text_config()
        resolve_layer(options.layer, text_config.num_hidden_layers)
        self.dim = int(text_config.hidden_size)
        identity = options.model_dump(exclude={"model", "revision", "batch_size"})
        self.source = model_counts(options.model, options.revision, f"teacher {self.name!r}")
        made_from = {"name": self.name, "bos": bos, "weights": self.source, **identity}
        self.fingerprint = f"{self.name}-{fingerprint(made_from)}"
        self._states: HiddenStates | None = None
        self._tokenizer: Any = None

    def _open(self) -> HiddenStates:
        if self._states is None:
            who = f"teacher {self.name!r}"
            self._tokenizer = read_pretrained(AutoTokenizer, self.options.model, who, self.options.revision)
            dtype = getattr(torch, self.options.dtype)
            model = read_model(AutoModel, self.options.model, who, self.options.revision, dtype=dtype)
            self._states = HiddenStates(model.to("cuda" if torch.cuda.is_available() else "cpu"), self.options.layer)
        return self._states

    def embed(self, texts: Sequence[str], on_progress: Progress | None = None) -> np.ndarray:
        """Return (N, dim) float32, unit L2 norm; a text without tokens gives the zero vector."""
        states = self._open()
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
        pooled = states(ids, self.options.pooling, self.options.batch_size, skip, on_progress)
        return torch.nn.functional.normalize(pooled, dim=-1).numpy()


class CheckpointTeacher(HFTeacher):
    """One of our trained models: mean of a hidden state over the text, with BOS read but not pooled."""

    name = "checkpoint"

    def __init__(self, options: dict[str, Any]):
        chosen = read_options(CheckpointOptions, self.name, options)
        if not Path(chosen.path).is_dir():
            raise UserError(f"teacher.options.path: no such folder: {chosen.path}")
        fields = chosen.model_dump(exclude={"path"})
        self._setup(HFOptions(model=chosen.path, **fields), bos=True)
