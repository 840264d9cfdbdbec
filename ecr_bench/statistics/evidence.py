"""What a finished run offers a claim: accuracies, costs and measures, compared between two arms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ecr_bench.statistics.by_seed import exact_difference, mean_difference
from ecr_bench.statistics.claim_schema import ACCURACY, COSTS, EXACT_COSTS, Claim, Evidence
from ecr_bench.statistics.interval import Estimate
from ecr_bench.statistics.paired import compare
from ecr_bench.statistics.panel import Panel, arm_name
from ecr_bench.types import Measure


class NotTestedError(Exception):
    """Why a run cannot speak to a claim, in words."""


@dataclass(frozen=True)
class Run:
    """``panels``: split -> per-item answers; ``cells``: rows of cells.json; ``experiment``: its settings."""

    name: str
    panels: Mapping[str, Panel]
    cells: list[dict[str, Any]]
    measures: list[Measure] = field(default_factory=list)
    experiment: dict[str, Any] = field(default_factory=dict)

    def arms(self) -> set[str]:
        found = {unit.arm for panel in self.panels.values() for unit in panel.units}
        return found | {arm_name(cell["method"], cell["size"]) for cell in self.cells}


@dataclass(frozen=True)
class Side:
    """One arm of a comparison."""

    arm: str
    precision: str


@dataclass(frozen=True)
class Found:
    estimate: Estimate
    mean_a: float
    mean_b: float
    evidence: tuple[Evidence, ...]
    within_null: bool = False
    """Both arms lie inside the permutation null of the metric: there is nothing to compare."""


def difference(run: Run, claim: Claim, b: Side) -> Found:
    """The claim's arm a minus ``b``; NotTestedError says what is missing."""
    a = Side(claim.a, claim.precision)
    if claim.metric == ACCURACY:
        return _accuracy(run, claim, a, b)
    return _cost(run, claim, a, b) if claim.metric in COSTS else _measure(run, claim, a, b)


def _accuracy(run: Run, claim: Claim, a: Side, b: Side) -> Found:
    panel = run.panels.get(claim.split)
    if panel is None:
        raise NotTestedError(f"this run has no {claim.split} language")
    if claim.task not in panel.tasks:
        raise NotTestedError(f"this run has no {claim.task} task")
    for side in (a, b):
        if not panel.has(side.arm, side.precision):
            raise NotTestedError(f"{side.arm} was not scored in {side.precision}")
    found = compare(panel, a.arm, b.arm, a.precision, b.precision, claim.task)
    mean_a, mean_b = (_panel_mean(panel, side, claim.task) for side in (a, b))
    rows = tuple(
        Evidence(file="board.json", row={**_names(side), "split": claim.split, "task": claim.task}) for side in (a, b)
    )
    return Found(found, mean_a, mean_b, rows)


def _panel_mean(panel: Panel, side: Side, task: str) -> float:
    return _mean([panel.mean(row, task) for row in panel.rows(side.arm, side.precision)])


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def _names(side: Side) -> dict[str, str | int]:
    method, _, size = side.arm.rpartition("-")
    return {"method": method, "size": size, "precision": side.precision}


def _cost(run: Run, claim: Claim, a: Side, b: Side) -> Found:
    of_a, rows_a = _costs(run, claim.metric, a)
    of_b, rows_b = _costs(run, claim.metric, b)
    mean_a, mean_b = _mean(of_a.values()), _mean(of_b.values())
    if min(of_b.values()) <= 0:
        raise NotTestedError(f"{claim.metric} of {b.arm} is 0, so there is no share of it")
    if claim.metric in EXACT_COSTS:
        return Found(exact_difference(mean_a, mean_b), mean_a, mean_b, (*rows_a, *rows_b))
    return Found(_by_seed(of_a, of_b, claim, relative=True), mean_a, mean_b, (*rows_a, *rows_b))


def _costs(run: Run, metric: str, side: Side) -> tuple[dict[int, float], list[Evidence]]:
    """Seed -> cost of an arm, and where it stands."""
    values: dict[int, float] = {}
    rows: list[Evidence] = []
    for cell in run.cells:
        if arm_name(cell["method"], cell["size"]) != side.arm or cell.get("precision") != side.precision:
            continue
        if (value := _cost_of(cell, metric)) is not None:
            values[int(cell["seed"])] = value
            row: dict[str, str | int] = {"cell": cell["cell"], "precision": side.precision, "key": metric}
            rows.append(Evidence(file="cells.json", row=row))
    if not values:
        raise NotTestedError(f"{metric} of {side.arm} in {side.precision} was not measured")
    return values, rows


def _cost_of(cell: dict[str, Any], metric: str) -> float | None:
    value = cell.get(metric)
    if value is None:
        return None
    return float(value) + float(cell.get(f"side_{metric}") or 0) if metric in EXACT_COSTS else float(value)


def _by_seed(a: dict[int, float], b: dict[int, float], claim: Claim, n: int = 0, relative: bool = False) -> Estimate:
    try:
        return mean_difference(a, b, n, relative)
    except ValueError as error:
        raise NotTestedError(f"{claim.metric}: {error}") from None


def _measure(run: Run, claim: Claim, a: Side, b: Side) -> Found:
    method_of = {cell["cell"]: cell["method"] for cell in run.cells}
    chosen = [m for m in run.measures if m.metric == claim.metric and m.step is None and m.lang == claim.lang]
    if not chosen:
        raise NotTestedError(f"{claim.metric} was not measured in this run")
    of_a, of_b = (dict(_settings(chosen, claim, side, method_of)) for side in (a, b))
    for side, known in ((a, of_a), (b, of_b)):
        if not known:
            raise NotTestedError(f"{claim.metric} of {side.arm} in {side.precision} was not measured")
    common = sorted(set(of_a) & set(of_b))
    if not common:
        raise NotTestedError(f"{claim.metric}: {a.arm} and {b.arm} share no seed and setting")
    rows_a, rows_b = [of_a[key] for key in common], [of_b[key] for key in common]
    if any(x.n != y.n for x, y in zip(rows_a, rows_b, strict=True)):
        raise NotTestedError(f"{claim.metric} of {a.arm} and {b.arm} rests on different numbers of texts")
    estimate = _by_seed(_per_seed(rows_a), _per_seed(rows_b), claim, n=rows_a[0].n)
    rows = (*rows_a, *rows_b)
    mean_a, mean_b = _mean(map(_value, rows_a)), _mean(map(_value, rows_b))
    return Found(estimate, mean_a, mean_b, tuple(_row(m) for m in rows), all(_within_null(m) for m in rows))


def _settings(
    measures: list[Measure], claim: Claim, side: Side, method_of: dict[str, str]
) -> Iterator[tuple[tuple[int, str], Measure]]:
    """(seed, setting) -> measure of an arm; the setting is '' unless the claim pools them."""
    layers: set[int | None] = set()
    for m in measures:
        if m.precision != side.precision or m.value is None or (claim.layer is not None and m.layer != claim.layer):
            continue
        method, bracket, setting = method_of.get(m.cell, m.method).partition("[")
        whole = arm_name(method + bracket + setting, m.size) == side.arm
        if not whole and not (claim.pool_settings and arm_name(method, m.size) == side.arm):
            continue
        # a probe has no layer: it is measured on its projection
        layers |= {m.layer} - {None}
        if len(layers) > 1:
            raise NotTestedError(
                f"{claim.metric} was measured at layers {sorted(map(str, layers))}: the claim names none"
            )
        yield (m.seed, "" if whole else setting), m


def _value(measure: Measure) -> float:
    assert measure.value is not None
    return measure.value


def _per_seed(measures: list[Measure]) -> dict[int, float]:
    """Mean over settings within each seed, for settings of one seed are not independent."""
    by_seed: dict[int, list[float]] = {}
    for m in measures:
        by_seed.setdefault(m.seed, []).append(_value(m))
    return {seed: sum(values) / len(values) for seed, values in by_seed.items()}


def _within_null(m: Measure) -> bool:
    return m.null is not None and m.null[1] <= _value(m) <= m.null[2]


def _row(m: Measure) -> Evidence:
    row: dict[str, str | int] = {"cell": m.cell, "metric": m.metric, "precision": m.precision, "lang": m.lang}
    return Evidence(file="measures.json", row=row if m.layer is None else {**row, "layer": m.layer})
