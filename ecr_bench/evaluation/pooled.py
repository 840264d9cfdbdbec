"""Sentence vectors of a causal LM, conditioned as it is when it is scored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ecr_bench.data.joint import encode_contexts
from ecr_bench.data.tokenizer import context_window
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.teachers.hidden import resolve_layer
from ecr_bench.types import Prompt


@torch.no_grad()
def pooled_states(
    model: PreTrainedModel,
    conditioner: Conditioner,
    texts: Sequence[str],
    langs: Sequence[str],
    layer: int = -1,
    batch_tokens: int = 8192,
) -> torch.Tensor:
    """Mean hidden state over the tokens of each text, (N, d) float32 on the CPU.

    Each text is a prompt that is its own cue, so an arm with control tokens reads them as in scoring. BOS and
    control tokens are read but not pooled; an arm that hides the text (codes-only) has nothing else, so there
    the control tokens are pooled. A model in training mode is left in it.

    Args:
        model: causal LM; soft cues must be attached already (``Conditioner.attach``).
        layer: as in transformers' ``hidden_states``: 0 the embeddings, -1 the last after the final norm.
        batch_tokens: padded tokens in one forward.

    Raises UserError for a layer the model lacks.
    """
    index = resolve_layer(layer, int(model.config.get_text_config().num_hidden_layers))
    window = context_window(model.config, conditioner.tokenizer)
    prompts = [Prompt(text, text, lang) for text, lang in zip(texts, langs, strict=True)]
    rows = [encoded.ids for encoded in encode_contexts(conditioner, prompts, [window] * len(prompts))]
    first = conditioner.tokens.first_id if conditioner.tokens is not None else None
    was_training = model.training
    model.eval()
    result = torch.zeros(len(rows), int(model.config.get_text_config().hidden_size))
    for batch in _batches([len(row) for row in rows], batch_tokens):
        result[batch] = _pool(model, [rows[i] for i in batch], index, first, len(conditioner.prefix))
    model.train(was_training)
    return result


def _batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices of rows of similar length, at most ``batch_tokens`` padded tokens (or one row) each."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[i] <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _pool(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], layer: int, first: int | None, start: int
) -> torch.Tensor:
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    inside = torch.arange(width) < lengths[:, None]
    inside[:, :start] = False
    text = inside if first is None else inside & (ids < first)
    # a text that is hidden or empty: what is left are the control tokens
    pooled = torch.where(text.any(1, keepdim=True), text, inside).float()[..., None]
    # right padding: causal attention never looks at it
    output = model.base_model(input_ids=ids.to(model.device), use_cache=False, output_hidden_states=True)
    states = output.hidden_states[layer].float().cpu()
    return (states * pooled).sum(1) / pooled.sum(1).clamp(min=1)
