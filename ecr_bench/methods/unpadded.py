"""Hidden states without padding: the rows of a batch one after another, padded only where attention needs it.

All layers but attention work on single positions. So a batch goes through the model as one row of its real tokens;
inside attention they are laid out as rows again, padded on the right, and taken back. The same numbers as with
padding (tests/methods/test_unpadded.py; how much faster: benchmarks/loop.py).
Positions after the last label are left out too: nothing depends on them.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ecr_bench.data.module import IGNORED

log = logging.getLogger(__name__)

NAME = "ecr_bench_unpadded"
"""As which transformers knows the attention below; a model keeps it, and without ``layout`` it is ``sdpa``."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.01}
"""What rounding may change: largest difference by largest state, of the median dimension. (A row that sees another one
differs in all of them.)"""

_running: ContextVar[Pass | None] = ContextVar("running", default=None)


@dataclass
class Pass:
    """What the attention layers said of themselves in one unpadded pass.

    Attributes:
        reached: whether the attention below was used at all.
        reach: positions up to which every layer looks back at all of them (sliding windows, chunks).
    """

    reached: bool = False
    reach: float = float("inf")


@dataclass(frozen=True)
class Layout:
    """Where the N kept positions of right-padded rows (B, T) lie.

    Attributes:
        rows, width: B and T, the longest kept row.
        index: (B T,) int64, for each place of the rows the position that lies there; any where none does.
        inverse: (N,) int64, for each position its place.
        empty: (B T,) bool, places without a position.
    """

    rows: int
    width: int
    index: torch.Tensor
    inverse: torch.Tensor
    empty: torch.Tensor

    @classmethod
    def of(cls, lengths: torch.Tensor) -> Layout:
        """The first ``lengths`` (B,) int64 positions of each row, row by row."""
        width = int(lengths.max())
        at = torch.arange(width, device=lengths.device)
        kept = first_places(lengths, width)
        index = torch.where(kept, (lengths.cumsum(0) - lengths)[:, None] + at, 0).flatten()
        return cls(len(lengths), width, index, kept.flatten().nonzero()[:, 0], ~kept.flatten())

    @property
    def positions(self) -> torch.Tensor:
        """(N,) int64: each position's place in its row, from 0."""
        return self.inverse % self.width


def needed_lengths(labels: torch.Tensor) -> torch.Tensor:
    """(B,) int64: positions of each row of labels (B, T) up to its last label, but at least one."""
    ends = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    return ((labels != IGNORED) * ends).amax(1).clamp(min=1)


def kept_states(model: PreTrainedModel, input_ids: torch.Tensor, lengths: torch.Tensor, unpadded: bool) -> torch.Tensor:
    """Last hidden states (N, d), without the head, of the first ``lengths`` (B,) positions of right-padded ids (B, T).

    ``unpadded``: what ``goes_unpadded`` says of the whole batch. It is not asked here, because a part of a batch that
    is computed a second time for its gradients must be computed the same way.
    """
    if unpadded:
        return _unpadded(model, input_ids, lengths)
    return padded_states(model, input_ids)[first_places(lengths, input_ids.shape[1])]


def padded_states(model: PreTrainedModel, input_ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states (B, T, d), without the head, of all places of right-padded ids (B, T)."""
    states: torch.Tensor = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    return states


def first_places(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """(B, T) bool: the first ``lengths`` (B,) of ``width`` places."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def _unpadded(
    model: PreTrainedModel, input_ids: torch.Tensor, lengths: torch.Tensor, seen: Pass | None = None
) -> torch.Tensor:
    layout = Layout.of(lengths)
    ids = input_ids[:, : layout.width].flatten()[layout.inverse]
    before = _running.set(seen or Pass())
    try:
        output = model.base_model(
            input_ids=ids[None], position_ids=layout.positions[None], use_cache=False, layout=layout
        )
    finally:
        _running.reset(before)
    return output.last_hidden_state[0]


def goes_unpadded(model: PreTrainedModel, input_ids: torch.Tensor, lengths: torch.Tensor) -> bool:
    """Whether ``model`` gives the same states without padding, for rows of these lengths (B,).

    Tried once, on the shortest and the longest row of the first batch of ids (B, T) that has rows of two lengths. A
    warning names a model that needs padding, and why.
    """
    reach = getattr(model, "unpadded_reach", None)
    if reach is None and len(lengths) > 1 and int(lengths.min()) < int(lengths.max()):
        pair = torch.stack([lengths.argmin(), lengths.argmax()])
        reach, why = _try(model, input_ids[pair], lengths[pair])
        if why:
            log.warning("%s is trained on padded rows: %s", type(model).__name__, why)
        model.unpadded_reach = reach  # type: ignore[assignment]  # a plain attribute, never saved
    return reach is not None and int(lengths.max()) <= reach


def _try(model: PreTrainedModel, input_ids: torch.Tensor, lengths: torch.Tensor) -> tuple[float, str]:
    """The longest row that may go without padding, and if that is 0, why."""
    attention = model.config._attn_implementation
    if attention not in ("sdpa", NAME):
        return 0, f"its attention is {attention}, not sdpa"
    try:
        reach, why = _compare(model, input_ids, lengths)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model's own code makes of an argument it does not know
        reach, why = 0, f"{type(error).__name__}: {error}"
    if why:
        model.set_attn_implementation(attention)
    return reach, why


@torch.no_grad()
def _compare(model: PreTrainedModel, input_ids: torch.Tensor, lengths: torch.Tensor) -> tuple[float, str]:
    seen = Pass()
    # dropout, if there is any, makes the two differ: padded then, with the draws it would have had
    with torch.random.fork_rng(), torch.autocast(input_ids.device.type, enabled=False):
        # before the switch: a model may build other masks for an attention it does not know
        padded = padded_states(model, input_ids)
        model.set_attn_implementation(NAME)
        _unpadded(model, input_ids, lengths, seen)
        if not seen.reached:
            return 0, "it has an attention of its own"
        lengths = lengths.clamp(max=seen.reach).long()
        expected = padded[first_places(lengths, padded.shape[1])].float()
        found = _unpadded(model, input_ids, lengths).float()
        other = input_ids.clone()
        other[0, : lengths[0]] = input_ids[1, : lengths[1]].flip(0)[: lengths[0]]
        moved = _unpadded(model, other, lengths).float() - found
    differences = (found - expected).abs().amax(0) / expected.abs().amax(0).clamp(min=1e-12)
    if not differences.median() <= TOLERANCE.get(padded.dtype, 0):
        return 0, "it does not give the same without (dropout, or layers that mix places)"
    if moved[lengths[0] :].abs().max() > 1e-5 * found.abs().max():
        return 0, "without, a row sees the one before it"
    return seen.reach, ""


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layout: Layout | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' sdpa attention; with ``layout``, of each row of (1, heads, N, width) by itself, causal.

    ValueError for a layout and anything else that decides who sees whom.
    """
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    _note(others.get("sliding_window"))
    unknown = [name for name, value in others.items() if torch.is_tensor(value) and name != "position_ids"]
    if attention_mask is not None or unknown:
        raise ValueError(f"its attention wants more than causality: {', '.join(unknown) or 'a mask'}")
    query, key, value = (_lay_out(states, layout) for states in (query, key, value))
    output, _ = sdpa_attention_forward(module, query, key, value, None, **others)
    return _TakeBack.apply(output.flatten(0, 1), layout)[None], None


def _lay_out(states: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(1, heads, N, width) -> (B, heads, T, width)."""
    placed = _LayOut.apply(states[0].transpose(0, 1), layout)
    return placed.unflatten(0, (layout.rows, layout.width)).transpose(1, 2)


class _LayOut(torch.autograd.Function):
    """Positions (N, ...) to places (B T, ...). Each has one place: its gradient is picked, where autograd would add."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, layout: Layout) -> torch.Tensor:
        ctx.layout = layout
        return states.index_select(0, layout.index)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, None]:
        return slopes[0].index_select(0, ctx.layout.inverse), None


class _TakeBack(torch.autograd.Function):
    """Places (B T, ...) to positions (N, ...): the way back."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, layout: Layout) -> torch.Tensor:
        ctx.layout = layout
        return states.index_select(0, layout.inverse)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, None]:
        slope = slopes[0].index_select(0, ctx.layout.index)
        return slope.masked_fill_(ctx.layout.empty[:, None, None], 0), None


def _mask(*arguments: Any, **others: Any) -> torch.Tensor | None:
    """The mask ``sdpa`` would get; none for unpadded rows, which see nothing but themselves."""
    if _running.get() is None:
        return sdpa_mask(*arguments, **others)
    _note(others.get("local_size"), mask=True)
    return None


def _note(local: int | None, mask: bool = False) -> None:
    """Keep how far back a layer looks, where it does not look back at all."""
    seen = _running.get()
    if seen is not None:  # in a backward pass that computes a layer again there is nobody to tell
        seen.reached |= not mask
        seen.reach = min(seen.reach, local or float("inf"))


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
