"""generate_until from token ids instead of strings, so that contexts may hold control tokens."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from ecr_bench.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ecr_bench.evaluation.lm import EcrLM

EncodeContext = Callable[[list[int], int], list[list[int]]]
"""(indices of requests, longest context) -> context token ids of each."""


def ids_without_text(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of ``model`` beyond its tokenizer's: control tokens, soft slots and rows of padding, which are inputs at
    most."""
    return list(range(len(tokenizer), model.get_output_embeddings().weight.shape[0]))


def generate(lm: EcrLM, requests: Sequence[Instance], encode: EncodeContext) -> list[str]:
    """Generate for each (context, generation arguments); same arguments and stop rules as HFLM."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        groups[json.dumps(request.args[1], sort_keys=True, default=str)].append(index)
    result = [""] * len(requests)
    for members in groups.values():
        kwargs = normalize_gen_kwargs(requests[members[0]].args[1], lm.max_gen_toks)
        new_tokens = kwargs.pop("max_gen_toks")
        if new_tokens >= lm.max_length:
            raise UserError(f"max_gen_toks {new_tokens} must be below the model's window of {lm.max_length} tokens")
        contexts = encode(members, lm.max_length - new_tokens)
        order = sorted(range(len(members)), key=lambda i: -len(contexts[i]))
        size = lm.batch_size if isinstance(lm.batch_size, int) else 1
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            texts = _batch(lm, [contexts[i] for i in chosen], new_tokens, dict(kwargs))
            for i, text in zip(chosen, texts, strict=True):
                result[members[i]] = text
    return result


def _batch(lm: EcrLM, contexts: list[list[int]], new_tokens: int, kwargs: dict[str, Any]) -> list[str]:
    eos = lm.tok_decode(lm.eot_token_id, skip_special_tokens=False)
    until = handle_stop_sequences(kwargs.pop("until", None), eos=eos)
    kwargs.pop("max_length", None)
    length = max(map(len, contexts))
    ids = torch.full((len(contexts), length), lm.tokenizer.pad_token_id or 0)
    mask = torch.zeros_like(ids)
    for row, context in enumerate(contexts):
        ids[row, length - len(context) :] = torch.tensor(context)
        mask[row, length - len(context) :] = 1
    if lm.conditioner is not None:  # a model without is asked as stock lm-eval asks it
        kwargs["suppress_tokens"] = ids_without_text(lm.model, lm.tokenizer) or None
    output = lm._model_generate(
        context=ids.to(lm.device),
        max_length=length + new_tokens,
        stop=until,
        attention_mask=mask.to(lm.device),
        **kwargs,
    )
    think_end = lm.think_end_token if isinstance(lm.think_end_token, str) else None
    return [
        postprocess_generated_text(generation=lm.tok_decode(row), stop=until, think_end_token=think_end)
        for row in output[:, length:].tolist()
    ]
