"""Log-likelihoods of many continuations under one causal LM, quickly and independent of batching.

What requests begin with alike is computed once (``packing``); the output head runs only where a continuation is
predicted. Results equal lm-eval's HFLM (tests/fast/test_scorer.py).
"""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedModel

from ecr_bench.fast.head import ELEMENTS, Head, Scores
from ecr_bench.fast.packing import Batch, PackedRow, Request, ancestors, batches, collate, pack, windows
from ecr_bench.fast.rotary import together
from ecr_bench.fast.switch import plain

__all__ = ["Request", "loglikelihoods"]

log = logging.getLogger(__name__)

_warned: set[str] = set()

LOCAL = re.compile(r"window|local|block_size|block_length|sparse|chunk_size|attention_types")
KNOWN = {"sliding_window", "use_sliding_window", "max_window_layers", "chunk_size_feed_forward"}
KNOWN |= {"num_local_experts", "decoder_sparse_step"}  # experts, no attention
"""Names in a configuration that hint at attention a packed row's mask may not reach, and those that do not."""
MASKED = {"full_attention", "sliding_attention"}
"""Types of layers that are given a mask of their own (``_Packed._mask``)."""
CHECKED = 8192
"""Padded tokens at once when a packed row is checked."""
LOGITS = 1 << 29
"""Logits held at once where full sequences are scored: 2 GB in float32."""


@torch.no_grad()
def loglikelihoods(
    model: PreTrainedModel,
    requests: Sequence[Request],
    *,
    pad_id: int,
    max_length: int,
    batch_tokens: int = 8192,
    on_progress: Callable[[int], None] | None = None,
) -> list[tuple[float, bool]]:
    """Sum of log-probabilities of each continuation in nats, and whether greedy decoding would give it.

    Args:
        model: any HF causal LM in eval mode, on its own device and in its own dtype. Log-softmax is
            taken in float32 whatever the dtype.
        requests: token ids; neither contexts nor continuations may be empty (ValueError).
        pad_id: any valid token id; its value does not matter.
        max_length: the model's window in tokens; longer requests lose tokens on the left.
        batch_tokens: upper bound on padded tokens per forward. Changes speed, not scores.
        on_progress: called with the number of requests finished since the last call.

    Requests that a model's rotary frequencies tell apart by the longest of a batch share none (``rotary``).

    A model that does not honour a 4-D attention mask (found by scoring a row of each kind in full sequences too: a few
    tokens, or a row as it is where attention is or may be local; once for a model) is scored on full sequences
    instead, and a warning says so once.
    """
    scores: list[tuple[float, bool]] = [(math.nan, False)] * len(requests)
    requests = windows(requests, max_length)
    for group in together(model.config.get_text_config(), requests):
        found = _scored(model, [requests[i] for i in group], pad_id, batch_tokens, on_progress)
        for index, score in zip(group, found, strict=True):
            scores[index] = score
    return scores


def _scored(
    model: PreTrainedModel,
    requests: Sequence[Request],
    pad_id: int,
    batch_tokens: int,
    on_progress: Callable[[int], None] | None,
) -> list[tuple[float, bool]]:
    """The scores of requests that may share batches."""
    scores: list[tuple[float, bool]] = [(math.nan, False)] * len(requests)
    if plain():
        return _scores(full_sequences(model, requests, pad_id, batch_tokens, on_progress))
    rows = pack(requests)
    packed = _Packed(model)
    batch_tokens = packed.tokens(batch_tokens)
    unpacked: list[int] = []
    for batch in batches(rows, batch_tokens, pad_id):
        if not packed.trusted(batch, rows, requests, pad_id):
            unpacked += batch.requests.tolist()
            continue
        edges = packed.edges(batch)
        values = np.add.reduceat(edges[0][batch.paths], batch.path_starts)
        greedy = np.logical_and.reduceat(edges[1][batch.paths], batch.path_starts)
        for index, score in zip(batch.requests.tolist(), _scores((values, greedy)), strict=True):
            scores[index] = score
        if on_progress is not None:
            on_progress(len(batch.requests))
    # together, so that those of like length share a batch
    found = full_sequences(model, [requests[i] for i in unpacked], pad_id, batch_tokens, on_progress)
    for index, score in zip(unpacked, _scores(found), strict=True):
        scores[index] = score
    return scores


def _scores(found: Scores) -> list[tuple[float, bool]]:
    return list(zip(found[0].tolist(), found[1].tolist(), strict=True))


def full_sequences(
    model: PreTrainedModel,
    requests: Sequence[Request],
    pad_id: int,
    batch_tokens: int,
    on_progress: Callable[[int], None] | None = None,
) -> Scores:
    """Score the obvious way: each request a full right-padded sequence, equal ones once. The reference.

    Logits of all positions from the first that counts in any row of a batch, where the model can leave out others.
    """
    trims = "logits_to_keep" in inspect.signature(model.forward).parameters
    values, greedy = np.zeros(len(requests)), np.zeros(len(requests), dtype=np.bool_)
    # options of one token are read off one sequence
    sharing: dict[tuple[int, ...], list[int]] = {}
    for index, (context, continuation) in enumerate(requests):
        sharing.setdefault((context + continuation)[:-1], []).append(index)
    order = sorted(sharing, key=lambda tokens: -len(tokens))
    batch_tokens = min(batch_tokens, LOGITS // model.config.get_text_config().vocab_size)
    start = 0
    while start < len(order):
        length = len(order[start])
        chunk = order[start : start + max(1, batch_tokens // length)]
        ids = np.full((len(chunk), length), pad_id, dtype=np.int64)
        for row, tokens in enumerate(chunk):
            ids[row, : len(tokens)] = tokens
        mine = [(row, index) for row, tokens in enumerate(chunk) for index in sharing[tokens]]
        keep = max(length - len(requests[index].context) + 1 for _, index in mine) if trims else length
        kept = {"logits_to_keep": keep} if trims else {}
        logits = model(input_ids=torch.from_numpy(ids).to(model.device), use_cache=False, **kept).logits
        for row, index in mine:
            context, continuation = requests[index]
            target = torch.tensor(continuation, device=logits.device)
            # a wrapper may put tokens of its own before the prompt (peft's prompt tuning)
            first = len(context) - 1 - (length - keep) + logits.shape[1] - keep
            own = logits[row, first : first + len(continuation)].float()
            chosen = own.gather(1, target[:, None])[:, 0] - own.logsumexp(-1)
            values[index] = float(chosen.double().sum())
            greedy[index] = bool((own.argmax(-1) == target).all())
        if on_progress is not None:
            on_progress(len(mine))
        start += len(chunk)
    return values, greedy


class _Checked(NamedTuple):
    """Whether packed and plain scoring agreed, and the longest row, in tokens, of what was looked at."""

    agrees: bool
    tokens: int


BatchForm = tuple[bool, bool]
"""Of a batch: whether any row is branched, and whether any is longer than a sliding window."""


def few(row: PackedRow, vocabulary: int) -> list[Request]:
    """A long continuation of a few of its tokens and two short ones behind it, or one where ``row`` has no branch.

    They stand far from their depth and behind what is no ancestor, so that a model that counts places or looks at
    everything gives them other scores. What is predicted is one of ``vocabulary`` ids; a context may have others
    (``ecr.soft``).
    """
    one = row.edge_tokens[0]
    other = (one + 1) % vocabulary
    context = tuple(row.tokens[: min(4, row.chain)])
    if not row.branched:
        return [Request(context, (one, other, one))]
    long = Request(context, (one, other) * 8)
    return [long, Request(context, (other, one, other)), Request(context, (other, other, one))]


def may_be_local(config: PreTrainedConfig) -> bool:
    """Whether a configuration hints at attention that a packed row's mask may not reach."""
    types = set(getattr(config, "layer_types", None) or ())
    # Gemma 3 says in a pattern once more which of its layers have a window
    said_twice = ("sliding_window_pattern",) if types and types <= MASKED else ()
    names = (name for name, value in config.to_dict().items() if value and name not in KNOWN)
    return any(LOCAL.search(name) and not name.endswith(said_twice) for name in names)


class _Packed:
    """Packed forward passes of one model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.whole = model
        # peft's wrapper has no body to ask for hidden states; the layers below it carry the adapters
        inner: Any = getattr(model, "get_base_model", lambda: model)
        self.model: PreTrainedModel = inner()
        self.config = model.config.get_text_config()
        sliding = getattr(self.config, "sliding_window", None)
        self.window = sliding if sliding and getattr(self.config, "use_sliding_window", True) else None
        # a mask inside the attention that counts places in the row, as GPT-Neo's, shows on long rows only
        self.local = may_be_local(self.config)
        self.verdicts = self._remembered()

    def _remembered(self) -> dict[BatchForm, _Checked]:
        """What was found for this model as it is now, by kind of batch: kept on the model, a plain attribute."""
        model: Any = self.whole
        hooks = [
            id(hook)
            for module in model.modules()
            for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
        ]
        how = getattr(self.config, "_attn_implementation", None)
        state = (how, self.window, model.dtype, str(model.device), *hooks)
        known: dict[Any, dict[BatchForm, _Checked]] = vars(model).setdefault("packed_rows_checked", {})
        return known.setdefault(state, {})

    def tokens(self, most: int) -> int:
        """Padded tokens of a batch, ``most`` or fewer: as many as keep a layer's output in the CPU's cache.

        Quantised weights are made dense again for every batch, so that larger ones pay.
        """
        if self.model.device.type != "cpu" or getattr(self.model, "is_quantized", False):
            return most
        body = getattr(self.model, self.model.base_model_prefix, self.model)
        layers = (module for module in body.modules() if not isinstance(module, torch.nn.Embedding))
        matrices = (p for layer in layers for p in layer.parameters(recurse=False) if p.dim() > 1)
        return min(most, max(1, ELEMENTS // max((max(p.shape) for p in matrices), default=1)))

    def trusted(self, batch: Batch, rows: Sequence[PackedRow], requests: Sequence[Request], pad_id: int) -> bool:
        """Whether packed and plain scoring agree on one row of this kind of batch."""
        kind = (batch.branched, self._windowed(batch))
        known = self.verdicts.get(kind)
        # where attention may be local, what holds for short rows says nothing of longer ones
        if known is None or (self.local and known.agrees and known.tokens < batch.ids.shape[1]):
            mine = set(batch.requests.tolist())
            row = min((r for r in rows if r.requests[0] in mine), key=lambda r: self._sample_order(r, *kind))
            own = [requests[i] for i in row.requests]
            if not (self.local or self._windowed(batch)):
                own = few(row, self.config.vocab_size)
            agrees = self._agrees(own, pad_id)
            known = self.verdicts[kind] = _Checked(agrees, batch.ids.shape[1])
        return known.agrees

    def _sample_order(self, row: PackedRow, branched: bool, windowed: bool) -> tuple[bool, bool, int]:
        is_windowed = self.window is not None and max(row.depths) >= self.window
        return (row.branched != branched, is_windowed != windowed, -len(row.tokens) if self.local else len(row.tokens))

    def _agrees(self, requests: Sequence[Request], pad_id: int) -> bool:
        batch = collate(pack(requests), pad_id)
        requests = [requests[i] for i in batch.requests]
        reference, _ = full_sequences(self.whole, requests, pad_id, CHECKED)
        exact = self.model.dtype == torch.float32 and not getattr(self.model, "is_quantized", False)
        try:
            found = np.add.reduceat(self.edges(batch)[0][batch.paths], batch.path_starts)
            # a model that diverged: both ways give what is not finite, and the caller says so
            if not np.isfinite(reference).all():
                return not np.isfinite(found[~np.isfinite(reference)]).any()
            reason = f"differs by {np.abs(found - reference).max():.2g} nats"
            if (np.abs(found - reference) <= (1e-5 if exact else 2e-2) * (10 + np.abs(reference))).all():
                return True
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
            reason = f"{type(error).__name__}: {error}"
        name = type(self.whole).__name__
        if name not in _warned:
            _warned.add(name)
            log.warning("%s cannot score packed rows (%s); scoring full sequences, which is slower", name, reason)
        return False

    def _windowed(self, batch: Batch) -> bool:
        return self.window is not None and int(batch.depths.max()) >= self.window

    def edges(self, batch: Batch) -> Scores:
        """Log-probability (E,) float64 and 'is the argmax' (E,) bool of each edge of ``batch``."""
        device = self.model.device
        inputs: dict[str, object] = {"input_ids": torch.from_numpy(batch.ids).to(device), "use_cache": False}
        body = getattr(self.model, self.model.base_model_prefix)
        if batch.branched:
            # what swallows every keyword (MPT) would go on counting places, which rounding in bfloat16 may hide
            if "position_ids" not in inspect.signature(body.forward).parameters:
                raise TypeError("its body takes no position_ids")
            inputs["position_ids"] = torch.from_numpy(batch.depths).to(device)
            inputs["attention_mask"] = self._mask(batch)
        hidden = body(**inputs)[0]
        hidden = hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(batch.slots).to(hidden.device)]
        return Head(self.model).score(hidden, batch.edge_slots, batch.edge_tokens)

    def _mask(self, batch: Batch) -> torch.Tensor | dict[str, torch.Tensor]:
        """Additive (B, 1, L, L) mask in the model's dtype; one per layer type where windows differ."""
        allowed = ancestors(batch)
        full = self._additive(allowed)
        if self.window is None or not self._windowed(batch):
            return full
        near = batch.depths[:, :, None] - batch.depths[:, None, :] < self.window
        local = self._additive(allowed & near)
        if getattr(self.config, "layer_types", None):
            return {"full_attention": full, "sliding_attention": local}
        return local

    def _additive(self, allowed: NDArray[np.bool_]) -> torch.Tensor:
        device, dtype = self.model.device, self.model.dtype
        keep = torch.from_numpy(allowed).to(device)[:, None]
        return torch.zeros(keep.shape, dtype=dtype, device=device).masked_fill_(~keep, torch.finfo(dtype).min)
