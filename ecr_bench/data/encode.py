"""From items and plain text to token ids with a mark where the loss starts.

Every arm gets the same rows in the same order; arms differ only in what the conditioner adds. Control
tokens are computed from the prompt, the loss falls on the answer; for unlabelled text, from its beginning,
the loss on the rest. The ids are those that scoring sees (``data.joint``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ecr_bench.data.cutting import TextRow
from ecr_bench.data.joint import (
    EncodedQuestion,
    Question,
    TooLongError,
    encode_contexts,
    encode_options,
    encode_questions,
    find_too_long,
    joint_ids,
    plain_ids,
)
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.cue import prompt_for
from ecr_bench.items.registry import document, task_name
from ecr_bench.types import Item, Prompt


@dataclass(frozen=True)
class Example:
    """Token ids; the loss covers ``ids[loss_from:]``. The last id is predicted and never an input.

    ``length`` is the length of the text in bytes: the same in every arm, so that batches are as well.
    """

    ids: list[int]
    loss_from: int
    length: int


def ask(items: Sequence[Item]) -> list[Question]:
    """Each item as lm-eval asks it: its prompt with its cue, and all its options."""
    return [
        Question(
            prompt_for(task_name(item), document(item), item.prompt),
            tuple(f" {choice}" for choice in item.choices),
            f"task {task_name(item)}, item {item.item_id}",
        )
        for item in items
    ]


def refuse_empty_options(tokenizer: PreTrainedTokenizerBase, items: Sequence[Item]) -> None:
    """UserError for the first option that adds no token to its prompt: it could be neither trained nor scored."""
    encode_options(tokenizer, ask(items))


def refuse_too_long(conditioner: Conditioner, items: Sequence[Item], max_length: int) -> None:
    """TooLongError naming the first of ``items`` that a window cannot hold with the prompts of ``conditioner``."""
    if found := find_too_long(conditioner, ask(items), max_length):
        raise TooLongError(found)


def encode_items(conditioner: Conditioner, items: Sequence[Item], max_length: int) -> list[Example]:
    """Prompt with control tokens, then the correct option and EOS; the loss covers option and EOS.

    Prompt and option are the ids that scoring gives. In a prompt that had to be shortened for its longest option,
    that option has no EOS: the window ends before it. UserError as ``encode_questions``.
    """
    encoded = encode_questions(conditioner, ask(items), max_length)
    return [_answered(conditioner, item, found, max_length) for item, found in zip(items, encoded, strict=True)]


def _answered(conditioner: Conditioner, item: Item, found: EncodedQuestion, max_length: int) -> Example:
    context = found.context.ids
    ids = [*context, *found.continuations[item.gold], conditioner.tokenizer.eos_token_id]
    return Example(ids[: max_length + 1], len(context), len(f"{item.prompt} {item.choices[item.gold]}".encode()))


def encode_texts(conditioner: Conditioner, rows: Sequence[TextRow], max_length: int) -> list[Example]:
    """The beginning of each text as a prompt that is its own cue, the rest and EOS as its continuation.

    Of a text longer than the window, the rest keeps at most half of it; the beginning loses text on its left.
    A whole text (``TextRow.whole``) is BOS, the control tokens of all of it, text and EOS, with the loss on text and
    EOS; beyond the window it loses text on its right. Without BOS and control tokens the first token has no loss.
    """
    tokenizer = conditioner.tokenizer
    prompts = [Prompt(row.text[: row.cut], row.cue, row.lang) for row in rows]
    pairs = [(row.text[: row.cut], row.text[row.cut :]) for row in rows]
    rests = [ids for _, ids in joint_ids(lambda texts: plain_ids(tokenizer, texts), pairs)]
    head = len(conditioner.prefix) + conditioner.count
    rooms = [max_length - head if row.whole else max_length // 2 for row in rows]
    tails = [[*ids, tokenizer.eos_token_id][:room] for ids, room in zip(rests, rooms, strict=True)]
    contexts = encode_contexts(conditioner, prompts, [max_length - len(tail) for tail in tails])
    return [
        _followed(context.ids if head or not row.whole else [], tail, len(row.text.encode()))
        for context, tail, row in zip(contexts, tails, rows, strict=True)
    ]


def _followed(context: list[int], tail: list[int], length: int) -> Example:
    return Example(context + tail, max(1, len(context)), length)
