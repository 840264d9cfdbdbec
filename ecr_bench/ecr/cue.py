"""The leak rule, in one place: which text control tokens may look at (DESIGN, Protocol 4).

Control tokens must be the same for every answer of an item and must not depend on an answer, a label
or a later token. So a cue is built from *named fields* of the document that hold none of these, and
the functions here never receive anything else. A task that is not in the table gets null tokens: text
that merely comes before the options may hold them (MMLU), and so may a prefix the contexts share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecr_bench.types import Prompt

CUE_FIELDS: dict[str, tuple[str, ...]] = {
    # our own tasks: `text` opens the prompt; the options and the question stand elsewhere
    "ecr_": ("text",),
}
"""Task-name prefix -> fields of the document that may be looked at. The longest prefix wins."""


def cue_fields(task_name: str) -> tuple[str, ...] | None:
    """The fields control tokens may see for ``task_name``; None when the task is not in the table."""
    matches = [prefix for prefix in CUE_FIELDS if task_name.startswith(prefix)]
    return CUE_FIELDS[max(matches, key=len)] if matches else None


def cue_of(task_name: str, doc: Mapping[str, Any]) -> str | None:
    """Text the control tokens of this document may see, or None for 'nothing to look at' (also: unknown task)."""
    fields = cue_fields(task_name)
    if fields is None:
        return None
    return " ".join(str(doc[name]) for name in fields).strip() or None


def prompt_for(task_name: str, doc: Mapping[str, Any], context: str) -> Prompt:
    """Wrap one context of one document with its cue. The language is only read by control arms."""
    return Prompt(text=context, cue=cue_of(task_name, doc), lang=str(doc.get("lang", "")))
