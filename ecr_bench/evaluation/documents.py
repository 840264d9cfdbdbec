"""The options of an item, which lm-eval asks for one by one, together again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lm_eval.api.instance import Instance

from ecr_bench.evaluation.lm import DocKey, doc_key, prompts_of


@dataclass(frozen=True)
class Document:
    """An item as a probe sees it: the text that control tokens would see (``ecr.cue``) and the options, no question."""

    members: tuple[int, ...]
    """Places of its requests, one for each option."""
    task: str
    text: str
    options: tuple[str, ...]


def documents_of(requests: Sequence[Instance]) -> list[Document]:
    """The documents of ``requests``, in the order in which they begin."""
    members: dict[DocKey, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        members[doc_key(request)].append(index)
    prompts = prompts_of(requests)
    return [
        Document(
            tuple(places),
            str((requests[places[0]].doc or {}).get("task", "")),
            prompts[places[0]].cue or "",
            tuple(requests[place].args[1].strip() for place in places),
        )
        for places in members.values()
    ]
