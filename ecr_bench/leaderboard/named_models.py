"""Models of two runs by what they are: a folder may lie elsewhere on another machine, or hold something else by now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecr_bench.outside import as_named

Models = Mapping[str, str] | None
"""What each model that settings of a run name stands for (``outside.models_named``); None where it is not known."""
BothModels = tuple[Models, Models]
"""Of two runs."""
UNKNOWN: BothModels = (None, None)


def by_content(whole: dict[str, Any], models: Models) -> dict[str, Any]:
    """Settings with each model of a size or a part by what it stands for; corpora and teachers have fingerprints of
    their own."""
    if not models:
        return whole
    return whole | {name: _counted(whole[name], models) for name in ("sizes", "options") if name in whole}


def _counted(section: Any, models: Mapping[str, str]) -> Any:
    if not isinstance(section, Mapping):
        return section
    counts = models.get(as_named(section)) if isinstance(section.get("model"), str) else None
    known = {"model": counts, **({"revision": ""} if "revision" in section else {})} if counts else {}
    return {key: _counted(part, models) for key, part in section.items()} | known
