"""Which arm plays which part on a board, and how arms are named and ordered."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ecr_bench.errors import UserError
from ecr_bench.statistics.roles import CONTROLS, MAIN, PLAIN, UPPER_BOUNDS

PRECISIONS = ("fp32", "bf16", "int8", "nf4")
SPLITS = ("unseen", "seen")


def is_contender(method: str) -> bool:
    """Neither a control nor an upper bound."""
    return method.split("[")[0] not in (*CONTROLS, *UPPER_BOUNDS)


def with_overrides(method: str, overrides: dict[str, Any]) -> str:
    """``ecr`` with ``{'control_tokens.count': 8}`` -> ``ecr[control_tokens.count=8]``."""
    inside = ",".join(f"{key}={value}" for key, value in sorted(overrides.items()))
    return f"{method}[{inside}]" if inside else method


def label_cells(records: pd.DataFrame, cells: list[dict[str, Any]]) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Put overrides into the method names, so that two cell groups of one method stay two arms."""
    overrides = {cell["cell"]: cell.get("overrides") or {} for cell in cells}
    named = [{**cell, "method": with_overrides(cell["method"], cell.get("overrides") or {})} for cell in cells]
    if not any(overrides.values()):
        return records, named
    arms = records[["cell", "method"]].drop_duplicates()
    renamed = {c: with_overrides(m, overrides.get(c, {})) for c, m in zip(arms["cell"], arms["method"], strict=True)}
    return records.assign(method=records["cell"].map(renamed)), named


def describe(cells: list[dict[str, Any]], method: str, size: str, precision: str) -> dict[str, Any]:
    """Mean of each measured number over the seeds of an arm; None where nothing was measured."""
    mine = [c for c in cells if (c["method"], c["size"]) == (method, size) and c.get("precision") in (precision, None)]
    result: dict[str, Any] = {}
    for key in ("parameters", "side_parameters", "bytes", "side_bytes", "ms_per_item"):
        values = [cell[key] for cell in mine if cell.get(key) is not None]
        mean = sum(values) / len(values) if values else None
        result[key] = mean if mean is None or key == "ms_per_item" else round(mean)
    return result


def ordered_sizes(records: pd.DataFrame, cells: list[dict[str, Any]]) -> list[str]:
    """Sizes from small to large by parameters of the plain model, else by the number in the name."""

    def weight(size: str) -> tuple[float, float, str]:
        sized = [c for c in cells if c["size"] == size and c.get("parameters") is not None]
        # a probe has no language model, so its parameters say nothing about the size
        counts = [c["parameters"] for c in sized if c["method"] in (PLAIN, MAIN)]
        digits = "".join(ch for ch in size if ch.isdigit() or ch == ".").strip(".")
        return (float(min(counts, default=0)), float(digits or 0) if digits.count(".") <= 1 else 0.0, size)

    return sorted({str(size) for size in records["size"].unique()}, key=weight)


def ordered_precisions(names: set[str]) -> list[str]:
    """Known precisions in falling order, then others by name."""
    return [p for p in PRECISIONS if p in names] + sorted(names - set(PRECISIONS))


def normalise_baselines(baselines: dict[Any, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Accept ``{(task, split): {...}}``, ``{split: {task: {...}}}`` or ``{task: {split: {...}}}``; give the second."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for key, value in baselines.items():
        pairs = [(key, value)] if isinstance(key, tuple) else [((key, inner), v) for inner, v in value.items()]
        for (first, second), numbers in pairs:
            split, task = (first, second) if first in SPLITS else (second, first)
            if split not in SPLITS:
                raise UserError(f"baselines: unknown split in {(first, second)!r}: allowed are {', '.join(SPLITS)}")
            result.setdefault(split, {})[task] = {str(name): float(number) for name, number in numbers.items()}
    return result


def aggregate_baselines(
    baselines: dict[str, dict[str, dict[str, float]]], grains: dict[str, str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Add ``coarse``, ``fine`` and ``all`` (mean over tasks) where the surface baseline exists for every task."""
    result = {split: dict(tasks) for split, tasks in baselines.items()}
    for tasks in result.values():
        families = {task: numbers for task, numbers in tasks.items() if task in grains}
        for group in ("coarse", "fine", "all"):
            members = [numbers for task, numbers in families.items() if group in ("all", grains[task])]
            names = set.intersection(*(set(m) for m in members)) if members else set()
            if names:
                tasks[group] = {name: sum(m[name] for m in members) / len(members) for name in sorted(names)}
    return result
