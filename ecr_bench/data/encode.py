"""From items and plain text to token ids with a mark where the loss starts.

Every arm gets the same rows in the same order; arms differ only in what the conditioner adds. Control
tokens are computed from the prompt, the loss falls on the answer (docs/protocol.md, 4); for unlabelled
text, from its beginning, the loss on the rest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ecr_bench.ecr.conditioner import Conditioner, Encoded
from ecr_bench.ecr.cue import prompt_for
from ecr_bench.types import Item, Prompt


@dataclass(frozen=True)
class Example:
    """Token ids; the loss covers ``ids[loss_from:]``.

    ``length`` is the length of the text in bytes: the same in every arm, so that batches are as well.
    """

    ids: list[int]
    loss_from: int
    length: int


@dataclass(frozen=True)
class TextRow:
    """Unlabelled text cut in two: control tokens may see ``text[:cut]`` only, the loss covers the rest."""

    text: str
    lang: str
    cut: int


def cut_texts(rows: Sequence[tuple[str, str]], seed: int) -> list[TextRow]:
    """Cut each (text, lang) at a random character between 30 % and 70 % of its length."""
    rng = random.Random(seed)
    return [TextRow(text, lang, max(1, round(len(text) * rng.uniform(0.3, 0.7)))) for text, lang in rows]


def encode_items(conditioner: Conditioner, items: Sequence[Item], max_length: int) -> list[Example]:
    """Prompt with control tokens, then the correct option and EOS; the loss covers option and EOS."""
    docs = [{"text": item.text, "lang": item.lang} for item in items]
    prompts = [prompt_for(f"ecr_{i.task}", d, i.prompt) for i, d in zip(items, docs, strict=True)]
    return _join(conditioner, prompts, [f" {item.choices[item.gold]}" for item in items], max_length)


def encode_texts(conditioner: Conditioner, rows: Sequence[TextRow], max_length: int) -> list[Example]:
    """The beginning of each text as a prompt that is its own cue, the rest as its continuation."""
    prompts = [Prompt(row.text[: row.cut], row.text[: row.cut], row.lang) for row in rows]
    return _join(conditioner, prompts, [row.text[row.cut :] for row in rows], max_length)


def encode_plain(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[Example]:
    """BOS (if the tokenizer has one), text, EOS with the loss on everything after the first id: pre-training."""
    ids = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    eos = tokenizer.eos_token_id
    rows = ([*row, eos][:max_length] for row in ids)
    return [Example(row, 1, len(text.encode())) for row, text in zip(rows, texts, strict=True)]


def _join(
    conditioner: Conditioner, prompts: Sequence[Prompt], continuations: Sequence[str], max_length: int
) -> list[Example]:
    """Append continuation and EOS; a long prompt loses text on the left, never control tokens."""
    tokenizer = conditioner.tokenizer
    tails = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(continuations, add_special_tokens=False)["input_ids"]]
    tails = [tail[: max_length // 2] for tail in tails]
    result = []
    for prompt, continuation, encoded, tail in zip(
        prompts, continuations, conditioner.encode(prompts), tails, strict=True
    ):
        ids = _shorten(encoded, max_length - len(tail), len(conditioner.prefix))
        result.append(Example(ids + tail, len(ids), len((prompt.text + continuation).encode())))
    return result


def _shorten(encoded: Encoded, room: int, start: int) -> list[int]:
    """Drop text ids from the left, after the first ``start`` (BOS), until the prompt fits; control tokens stay."""
    excess = len(encoded.ids) - room
    if excess <= 0:
        return encoded.ids
    control = set(encoded.control_tokens)
    kept = encoded.ids[:start]
    for token in encoded.ids[start:]:
        if token not in control and excess > 0:
            excess -= 1
        else:
            kept.append(token)
    return kept
