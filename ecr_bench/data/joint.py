"""From (prompt, continuation) to token ids: the same for training, scoring, distillation, pooling and generation.

A continuation is tokenised together with its prompt and cut off where the prompt's own tokens end, as lm-eval's
``_encode_pair`` does. Tokenised alone it may be other tokens: SentencePiece puts a space before whatever a text
begins with. Control tokens are then placed into the prompt by ``ecr.conditioner``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from ecr_bench.ecr.conditioner import Conditioner, Encoded
from ecr_bench.errors import UserError
from ecr_bench.types import Prompt

Ids = tuple[int, ...]
Tokenise = Callable[[set[str]], Mapping[str, Ids]]
"""Token ids of each text."""


@dataclass(frozen=True)
class Question:
    """A prompt and the continuations that are compared after it. ``name`` says in errors which task and item it is."""

    prompt: Prompt
    continuations: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class EncodedQuestion:
    """One context, control tokens in place, that all continuations share."""

    context: Encoded
    continuations: tuple[Ids, ...]
    cut: bool
    """Whether the context lost text to fit."""


@dataclass(frozen=True)
class TooLong:
    """A question that a window cannot hold."""

    name: str
    """Task and item."""
    option: int
    """Tokens of its longest continuation."""
    kept: int
    """Tokens of the prompt that must stay: BOS, control tokens and one of text, or all of a prompt that is shorter."""
    window: int

    def __str__(self) -> str:
        return (
            f"{self.name}: an option of {self.option} tokens leaves no room for its prompt in a window of "
            f"{self.window} (with the {self.kept} tokens of it that must stay, {self.option - 1 + self.kept} are read)"
        )


class TooLongError(UserError):
    """There are questions that a window cannot hold; the message names the first."""

    def __init__(self, found: Sequence[TooLong]) -> None:
        more = f"; {len(found) - 1} more do not fit either" if len(found) > 1 else ""
        super().__init__(f"{found[0]}{more}: take a longer window, or leave such items out")
        self.found = tuple(found)


def too_long(name: str, context: int, option: int, control_tokens: int, window: int) -> TooLong | None:
    """Whether a ``context`` cannot be cut so that it and an ``option``, both in tokens, fit ``window`` inputs.

    The last token of an option is never an input. The rule is the same for every arm; ``context`` counts its control
    tokens.
    """
    kept = min(context, control_tokens + 2)
    return TooLong(name, option, kept, window) if option - 1 + kept > window else None


def encode_questions(conditioner: Conditioner, questions: Sequence[Question], max_length: int) -> list[EncodedQuestion]:
    """Token ids of each question. Its context leaves room for its longest continuation in ``max_length`` inputs.

    The last token of a continuation is never an input, hence one token more than the window in all. UserError for a
    continuation that adds no token to its prompt; TooLongError where one leaves its prompt no room.
    """
    options = encode_options(conditioner.tokenizer, questions)
    prompts = [question.prompt for question in questions]
    whole = encode_contexts(conditioner, prompts, [None] * len(prompts))
    if found := _misfits(conditioner.count, questions, whole, options, max_length):
        raise TooLongError(found)
    rooms = [max_length + 1 - max(map(len, ids)) for ids in options]
    contexts = [
        context if len(context.ids) <= room else conditioner.encode([stripped(prompt)], max_tokens=room)[0]
        for context, prompt, room in zip(whole, prompts, rooms, strict=True)
    ]
    return [
        EncodedQuestion(context, ids, len(context.ids) < len(before.ids))
        for context, ids, before in zip(contexts, options, whole, strict=True)
    ]


def find_too_long(conditioner: Conditioner, questions: Sequence[Question], max_length: int) -> list[TooLong]:
    """Those of ``questions`` for which ``encode_questions`` would raise TooLongError."""
    options = encode_options(conditioner.tokenizer, questions)
    whole = encode_contexts(conditioner, [question.prompt for question in questions], [None] * len(questions))
    return _misfits(conditioner.count, questions, whole, options, max_length)


def _misfits(
    control_tokens: int,
    questions: Sequence[Question],
    whole: Sequence[Encoded],
    options: Sequence[tuple[Ids, ...]],
    window: int,
) -> list[TooLong]:
    asked = zip(questions, whole, options, strict=True)
    found = (too_long(q.name, len(c.ids), max(map(len, ids)), control_tokens, window) for q, c, ids in asked)
    return [one for one in found if one is not None]


def encode_options(tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]) -> list[tuple[Ids, ...]]:
    """Token ids of the continuations of each question; UserError for one that adds no token to its prompt."""
    pairs = [(question.prompt.text, text) for question in questions for text in question.continuations]
    found = iter(joint_ids(lambda texts: plain_ids(tokenizer, texts), pairs))
    options = [tuple(next(found)[1] for _ in question.continuations) for question in questions]
    for question, ids in zip(questions, options, strict=True):
        refuse_empty(question.name, tokenizer, question.prompt.text, zip(question.continuations, ids, strict=True))
    return options


def encode_contexts(conditioner: Conditioner, prompts: Sequence[Prompt], rooms: Sequence[int | None]) -> list[Encoded]:
    """Token ids of each prompt, without spaces at its end (they belong to what follows), in at most ``rooms`` tokens.

    Each distinct prompt is encoded once. Text is dropped from the left, control tokens stay (``Conditioner.encode``).
    """
    bare = [stripped(prompt) for prompt in prompts]
    distinct = list(dict.fromkeys(bare))
    whole = dict(zip(distinct, conditioner.encode(distinct), strict=True))
    result = []
    for prompt, room in zip(bare, rooms, strict=True):
        found = whole[prompt]
        fits = room is None or len(found.ids) <= room
        result.append(found if fits else conditioner.encode([prompt], max_tokens=room)[0])
    return result


def stripped(prompt: Prompt) -> Prompt:
    """Without spaces at the end of its text."""
    return replace(prompt, text=move_spaces(prompt.text, "")[0])


def joint_ids(tokenise: Tokenise, pairs: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
    """Ids of each (context, continuation) with ``tokenise`` called once, for all distinct texts.

    The context's are those of the context alone, whatever a tokenizer makes of it before the continuation.
    """
    moved = [move_spaces(context, continuation) for context, continuation in pairs]
    ids = tokenise({text for context, continuation in moved for text in (context, context + continuation)})
    return [(ids[context], ids[context + continuation][len(ids[context]) :]) for context, continuation in moved]


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: set[str]) -> dict[str, Ids]:
    """Ids of each text without any special token: BOS is the conditioner's to put."""
    ordered = sorted(texts)
    found = tokenizer(ordered, add_special_tokens=False)["input_ids"] if ordered else []
    return dict(zip(ordered, map(tuple, found), strict=True))


def move_spaces(context: str, continuation: str) -> tuple[str, str]:
    """Spaces at the end of a context belong to the first token of the continuation."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def refuse_empty(
    name: str, tokenizer: PreTrainedTokenizerBase, context: str, continuations: Iterable[tuple[str, Ids]]
) -> None:
    """UserError for a continuation without ids of its own: its score would be 0, the best possible."""
    for text, ids in continuations:
        if not ids:
            raise UserError(
                f"{name}: the option {text!r:.60} adds no token to the prompt that ends in {context[-20:]!r} "
                f"(tokenizer {tokenizer.name_or_path or type(tokenizer).__name__}); its score would be empty: "
                "change the option, or leave the task out"
            )
