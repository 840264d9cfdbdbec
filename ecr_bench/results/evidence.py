"""What a finished run offers a claim: accuracies, costs and measures, compared between two arms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from ecr_bench.arm import Arm, Setting
from ecr_bench.results.arms import GROUPS, ordered_precisions
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.claim_schema import ACCURACY, COSTS, EXACT_COSTS, Claim, Evidence
from ecr_bench.results.claim_settings import NotTestedError, unmet
from ecr_bench.results.contrasts import meeting
from ecr_bench.results.roles import Cast
from ecr_bench.results.schema import Contrast
from ecr_bench.results.standings import Standings
from ecr_bench.results.timings import TIMES, Timing, find, ratio
from ecr_bench.statistics.by_seed import NoIntervalError, exact_difference, mean_difference
from ecr_bench.statistics.interval import Estimate
from ecr_bench.statistics.paired import compare
from ecr_bench.statistics.panel import Panel, build_panel
from ecr_bench.types import Measure

SHOWN = 12
"""Languages that a sentence lists."""


@dataclass(frozen=True)
class Facts:
    """``panels``: group -> per-item answers; ``experiment``: its settings as plain JSON, of a board of several runs
    what they share."""

    arms: dict[str, Arm]
    panels: Mapping[str, Panel]
    cells: Sequence[CellCosts]
    measures: Sequence[Measure] = ()
    experiment: Mapping[str, Any] = field(default_factory=dict)
    timings: Sequence[Timing] = ()
    contrasts: Sequence[Contrast] = ()
    """Of the board: who meets there is not tested again."""
    origins: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Of a board of several runs: arm -> the experiments of those that have it, where they are known."""

    @classmethod
    def of(
        cls,
        records: pd.DataFrame,
        arms: Mapping[str, Arm],
        cells: Sequence[CellCosts],
        measures: Sequence[Measure] = (),
        experiment: Mapping[str, Any] | None = None,
        timings: Sequence[Timing] = (),
        contrasts: Sequence[Contrast] = (),
        origins: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> Facts:
        """See ``build_board`` for ``records``, ``arms`` and ``cells``."""
        parts = {group: records[records["group"] == group] for group in GROUPS}
        panels: dict[str, Panel] = {group: build_panel(part) for group, part in parts.items() if len(part)}
        return cls(dict(arms), panels, cells, measures, experiment or {}, timings, contrasts, origins or {})

    @cached_property
    def cast(self) -> Cast:
        return Cast.of(self.arms.values(), self.cells)

    @cached_property
    def standings(self) -> dict[str, Standings]:
        """Group -> seeds and chance of its arms."""
        return {group: Standings(panel) for group, panel in self.panels.items()}

    @cached_property
    def reference(self) -> str:
        """The highest precision of the run."""
        return ordered_precisions(one.precision for panel in self.panels.values() for one in panel.respondents)[0]

    def experiments_of(self, arm: Arm) -> Sequence[Mapping[str, Any]]:
        """The experiments that an arm was run in."""
        return self.origins.get(str(arm)) or (self.experiment,)

    def forms(self, arm: Arm, pooled: bool) -> list[Arm]:
        """Arms of the run that stand behind ``arm``: itself, or all of its settings where they are ``pooled``."""
        return [one for one in self.arms.values() if arm in ((one, one.without_settings) if pooled else (one,))]

    def contrast(self, a: Side, b: Side, group: str, task: str) -> Contrast | None:
        """The board's own comparison of two arms, whichever way round; None where they do not meet there."""
        return meeting(self.contrasts, (a.arm, a.precision), (b.arm, b.precision), group, task)


@dataclass(frozen=True)
class Side:
    """One arm of a comparison."""

    arm: Arm
    precision: str


@dataclass(frozen=True)
class Found:
    estimate: Estimate
    mean_a: float
    mean_b: float
    evidence: tuple[Evidence, ...]
    within_null: bool = False
    """Both arms lie inside the permutation null of the metric: there is nothing to compare."""


def difference(facts: Facts, claim: Claim, a: Side, b: Side) -> Found:
    """``a`` minus ``b`` in what the claim is about; NotTestedError says what is missing."""
    if claim.metric == ACCURACY:
        return _accuracy(facts, claim, a, b)
    if claim.metric in TIMES:
        return _time(facts, claim, a, b)
    return _cost(facts, claim, a, b) if claim.metric in COSTS else _measure(facts, claim, a, b)


def _accuracy(facts: Facts, claim: Claim, a: Side, b: Side) -> Found:
    panel = facts.panels.get(claim.group)
    if panel is None:
        raise NotTestedError(f"this run has no {claim.group} language")
    if claim.task not in panel.tasks:
        raise NotTestedError(f"this run has no {claim.task} task")
    for side in (a, b):
        if not panel.has(str(side.arm), side.precision):
            raise NotTestedError(_no_scores(facts, side))
    found = compare(panel, str(a.arm), str(b.arm), a.precision, b.precision, claim.task)
    mean_a, mean_b = (_panel_mean(panel, side, claim.task) for side in (a, b))
    rows = tuple(
        Evidence(
            file="board.json",
            row={"arm": str(side.arm), "precision": side.precision, "group": claim.group, "task": claim.task},
        )
        for side in (a, b)
    )
    return Found(found, mean_a, mean_b, rows)


def _no_scores(facts: Facts, side: Side) -> str:
    lost = [c for c in facts.cells if (c.arm, c.precision) == (side.arm, side.precision) and c.diverged]
    return f"{side.arm} {'diverged' if lost else 'was not scored'} in {side.precision}"


def _panel_mean(panel: Panel, side: Side, task: str) -> float:
    return _mean([panel.mean(row, task) for row in panel.rows(str(side.arm), side.precision)])


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def _time(facts: Facts, claim: Claim, a: Side, b: Side) -> Found:
    """Shares of b's time, paired by round."""
    of_a, of_b = (_timing(facts, claim.metric, side) for side in (a, b))
    try:
        estimate = ratio(of_a, of_b)
    except ValueError as error:
        raise NotTestedError(f"{claim.metric}: {error}") from None
    rows = tuple(
        Evidence(
            file="timings.json",
            row={"arm": str(t.arm), "metric": t.metric, "precision": t.precision, "session": t.session},
        )
        for t in (of_a, of_b)
    )
    return Found(estimate, _mean(of_a.rounds), _mean(of_b.rounds), rows)


def _timing(facts: Facts, metric: str, side: Side) -> Timing:
    if timing := find(facts.timings, metric, side.arm, side.precision):
        return timing
    raise NotTestedError(
        f"{metric} of {side.arm} in {side.precision} was not measured to be compared "
        "(one machine, arms in turn, repeated: timings.json)"
    )


def _cost(facts: Facts, claim: Claim, a: Side, b: Side) -> Found:
    of_a, rows_a = _costs(facts, claim.metric, a)
    of_b, rows_b = _costs(facts, claim.metric, b)
    mean_a, mean_b = _mean(of_a.values()), _mean(of_b.values())
    if min(of_b.values()) <= 0:
        raise NotTestedError(f"{claim.metric} of {b.arm} is 0, so there is no share of it")
    if claim.metric in EXACT_COSTS:
        return Found(exact_difference(mean_a, mean_b), mean_a, mean_b, (*rows_a, *rows_b))
    return Found(_paired(of_a, of_b, claim, relative=True), mean_a, mean_b, (*rows_a, *rows_b))


def _costs(facts: Facts, metric: str, side: Side) -> tuple[dict[int, float], list[Evidence]]:
    """Seed -> cost of an arm, and where it stands."""
    values: dict[int, float] = {}
    rows: list[Evidence] = []
    for cell in facts.cells:
        if (cell.arm, cell.precision) != (side.arm, side.precision):
            continue
        if (value := _cost_of(cell, metric)) is not None:
            values[cell.seed] = float(value)
            row: dict[str, str | int] = {"cell": cell.cell, "precision": side.precision, "key": metric}
            rows.append(Evidence(file="cells.json", row=row))
    if not values:
        raise NotTestedError(f"{metric} of {side.arm} in {side.precision} was not measured")
    return values, rows


def _cost_of(cell: CellCosts, metric: str) -> float | None:
    match metric:
        case "parameters":
            return cell.all_parameters
        case "bytes":
            return cell.all_bytes
    return getattr(cell, metric)


def _paired(a: dict[int, float], b: dict[int, float], claim: Claim, n: int = 0, relative: bool = False) -> Estimate:
    try:
        return mean_difference(a, b, n, relative)
    except NoIntervalError as error:
        raise NotTestedError(f"{claim.metric}: {error}", error.value) from None
    except ValueError as error:
        raise NotTestedError(f"{claim.metric}: {error}") from None


def _measure(facts: Facts, claim: Claim, a: Side, b: Side) -> Found:
    chosen = _asked(facts, claim)
    of_a, of_b = (dict(_settings(facts, chosen, claim, side)) for side in (a, b))
    for side, known in ((a, of_a), (b, of_b)):
        if not known:
            raise NotTestedError(f"{claim.metric} of {side.arm} in {side.precision} was not measured")
    common = sorted(set(of_a) & set(of_b), key=str)
    if not common:
        raise NotTestedError(f"{claim.metric}: {a.arm} and {b.arm} share no seed and setting")
    rows_a, rows_b = [of_a[key] for key in common], [of_b[key] for key in common]
    _check_layers(claim, (a, rows_a), (b, rows_b))
    if any(x.n != y.n for x, y in zip(rows_a, rows_b, strict=True)):
        raise NotTestedError(f"{claim.metric} of {a.arm} and {b.arm} rests on different numbers of texts")
    estimate = _paired(_per_seed(rows_a), _per_seed(rows_b), claim, n=rows_a[0].n)
    rows = (*rows_a, *rows_b)
    mean_a, mean_b = _mean(map(_value, rows_a)), _mean(map(_value, rows_b))
    return Found(estimate, mean_a, mean_b, tuple(_row(m) for m in rows), all(_within_null(m) for m in rows))


def _asked(facts: Facts, claim: Claim) -> list[Measure]:
    """What was measured at the end of training of what the claim asks for, in its language."""
    of_metric = [m for m in facts.measures if m.metric == claim.metric and m.step is None]
    if not of_metric:
        raise NotTestedError(f"{claim.metric} was not measured in this run")
    if chosen := [m for m in of_metric if m.lang == claim.lang]:
        return chosen
    langs = sorted({m.lang or "the mean over all" for m in of_metric})
    known = ", ".join(langs[:SHOWN]) + (f" and {len(langs) - SHOWN} more" if len(langs) > SHOWN else "")
    asked = f"in lang {claim.lang}" if claim.lang else "as a mean over all languages"
    raise NotTestedError(f"{claim.metric} was not measured {asked} in this run, which has it of {known}")


def _check_layers(claim: Claim, *sides: tuple[Side, list[Measure]]) -> None:
    """NotTestedError where two arms, each measured at one layer, were so at different ones; a probe has none."""
    at = [(side.arm, next((m.layer for m in rows if m.layer is not None), None)) for side, rows in sides]
    if len({layer for _, layer in at} - {None}) > 1:
        told = " and ".join(f"{layer} of {arm}" for arm, layer in at)
        raise NotTestedError(f"{claim.metric} was measured at different layers: {told}")


Settings = tuple[tuple[str, Setting], ...]


def _settings(
    facts: Facts, measures: Sequence[Measure], claim: Claim, side: Side
) -> Iterator[tuple[tuple[int, Settings | None], Measure]]:
    """(seed, setting) -> measure of an arm; the setting is None unless the claim pools them."""
    layers: set[int | None] = set()
    for m in measures:
        if m.precision != side.precision or m.value is None or (claim.layer is not None and m.layer != claim.layer):
            continue
        if m.arm != side.arm and not (claim.pool_settings and m.arm.without_settings == side.arm):
            continue
        if unmet(claim, m.arm, facts.experiments_of(m.arm)) is not None:
            continue
        # a probe has no layer: it is measured on its projection
        layers |= {m.layer} - {None}
        if len(layers) > 1:
            raise NotTestedError(
                f"{claim.metric} was measured at layers {sorted(map(str, layers))}: the claim names none"
            )
        yield (m.seed, None if m.arm == side.arm else m.arm.settings), m


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
