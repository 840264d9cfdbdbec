"""The leak rule, in one place: which text control tokens may look at (docs/protocol.md, 4).

Control tokens must be the same for every answer of an item and must not depend on an answer, a label
or a later token. So a cue is built from *named fields* of the document that hold none of these, and
the functions here never receive anything else. A task that is not in the table gets null tokens: text
that merely comes before the options may hold them (MMLU), and so may a prefix the contexts share.
docs/public-tasks.md explains each choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.types import Prompt


def _spaced(*values: str) -> str:
    return " ".join(values)


def _without_stop(premise: str) -> str:
    """As XCOPA's prompt shows it: lm-eval replaces the full stop by a connective."""
    return premise.strip()[:-1]


def _before_gap(sentence: str) -> str:
    """XWinograd: what stands before the gap. Options and the scored rest of the sentence come after it."""
    return sentence.partition("_")[0]


def _passage_and_question(passage: str, question: str) -> str:
    """As Belebele's prompt shows them."""
    return f"{passage}\nQ: {question.strip()}"


@dataclass(frozen=True)
class Cue:
    """Which fields of a document may be looked at, and the text made of them.

    ``build`` is called with the values of ``fields`` and nothing else. Its result must be the same for every
    answer, and a piece of the prompt, so that the ``codes-only`` control can take it out of the prompt; for
    tasks whose whole text stands in the options it is the part that all options begin with. No fields: null tokens.
    """

    fields: tuple[str, ...]
    build: Callable[..., str] = _spaced


CUES: dict[str, Cue] = {
    # our own tasks: `text` opens the prompt; the options and the question stand elsewhere
    "ecr_": Cue(("text",)),
    # the whole text stands in the options, which all begin with the premise (the first sentence)
    "xnli_": Cue(("premise",)),
    "paws_": Cue(("sentence1",)),
    "xcopa_": Cue(("premise",), _without_stop),
    "xstorycloze_": Cue(("input_sentence_1", "input_sentence_2", "input_sentence_3", "input_sentence_4")),
    "xwinograd_": Cue(("sentence",), _before_gap),
    "belebele_": Cue(("flores_passage", "question"), _passage_and_question),
    "sib200_": Cue(("text",)),
    # the prompt shows the options as well: only the question may be looked at
    "global_mmlu_": Cue(("question",)),
    # both options are whole sentences, and what they share ends where the right one is told from the wrong one
    "multiblimp_": Cue(()),
}
"""Task-name prefix -> what may be looked at. The longest prefix wins. A plugin adds its own task in one line:
``CUES["mytask_"] = Cue(("question",))``."""


def cue_for(task_name: str) -> Cue | None:
    """What control tokens may see for ``task_name``; None when the task is not in the table."""
    matches = [prefix for prefix in CUES if task_name.startswith(prefix)]
    return CUES[max(matches, key=len)] if matches else None


def cue_of(task_name: str, doc: Mapping[str, Any]) -> str | None:
    """Text the control tokens of this document may see, or None for 'nothing to look at' (also: unknown task).

    UserError when the document lacks a field that the table names.
    """
    cue = cue_for(task_name)
    if cue is None:
        return None
    if missing := [name for name in cue.fields if name not in doc]:
        raise UserError(
            f"task {task_name}: its documents have no field {missing[0]!r}, which control tokens look at (ecr/cue.py); "
            f"they have {', '.join(sorted(doc))}"
        )
    return cue.build(*(str(doc[name]) for name in cue.fields)).strip() or None


def prompt_for(task_name: str, doc: Mapping[str, Any], context: str) -> Prompt:
    """Wrap one context of one document with its cue. The language is only read by control arms."""
    return Prompt(text=context, cue=cue_of(task_name, doc), lang=str(doc.get("lang", "")))
