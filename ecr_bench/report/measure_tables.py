"""The tables of what was measured beside accuracy, of what cells cost, and of an ablation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ecr_bench.arm import Arm, Role
from ecr_bench.formats import DASH, MINUS, count, estimate, level, number, with_side
from ecr_bench.metrics.registry import PLAIN
from ecr_bench.results.ablation_schema import AblationResult, Point
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.divergence import METRICS, Stability
from ecr_bench.results.roles import Cast
from ecr_bench.results.schema import Board
from ecr_bench.results.timings import SCORING, TRAINING, Timing, find, ratio
from ecr_bench.results.words import covered
from ecr_bench.statistics.by_seed import mean_over_seeds
from ecr_bench.table import NOTHING, Line, Table
from ecr_bench.types import Measure

TABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Language modelling", ("bits_per_byte", "acc_mutual_info", "acc_mutual_info_coarse", "acc_mutual_info_fine")),
    ("Drift from the base model", (
        "cka_base", "cka_base_plain", "procrustes_base", "procrustes_base_plain", "code_stability",
        "code_stability_trained",
    )),
    ("Manifold of the sentence vectors", (
        "intrinsic_dimension", "isoscore", "trustworthiness", "continuity", "mutual_knn_teacher",
    )),
    ("Languages in one space", (
        "mexa", "retrieval_to_pivot", "retrieval_from_pivot", "rankc", "hubness", "language_separability",
    )),
    ("With and without control tokens", (
        "sts_spearman", "sts_spearman_plain", "retrieval", "retrieval_plain", "mexa", "mexa_plain",
    )),
    ("Stability of training", (
        "diverged", "spike_score", "loss_spikes", "grad_norm_median", "grad_norm_p95", "grad_norm_max",
    )),
)  # fmt: skip
PAIRED = "paired by item; 95 % interval, not corrected for multiplicity"
SHORT = ("cka_base", "mutual_knn_teacher", "mexa", "language_separability")
HEADS = {
    "bits_per_byte": "bits per byte", "acc_mutual_info": "accuracy by PMI", "acc_mutual_info_coarse": "coarse by PMI",
    "acc_mutual_info_fine": "fine by PMI",
    "cka_base": "CKA base", "procrustes_base": "Procrustes base", "code_stability": "codes kept",
    "code_stability_trained": "codes kept, trained states", "intrinsic_dimension": "dimension", "isoscore": "IsoScore",
    "mutual_knn_teacher": "kNN teacher", "mexa": "MEXA", "retrieval": "retrieval", "retrieval_to_pivot": "X to English",
    "retrieval_from_pivot": "English to X", "rankc": "RankC", "language_separability": "lang probe",
    "sts_spearman": "STS", "spike_score": "spike score", "loss_spikes": "loss spikes",
    "grad_norm_median": "gradient median", "grad_norm_p95": "gradient 95 %", "grad_norm_max": "gradient max",
}  # fmt: skip
CAPTION = (
    "mean over seeds ± half of the 95 % t interval over seeds (none with one seed); in brackets the mean under the "
    "permutation null"
)
READING = "docs/geometry.md says what each measure means and where it misleads"


def measure_tables(measures: Sequence[Measure]) -> list[Table]:
    """All tables that have a number, and why others are missing; controls and upper bounds stand below contenders."""
    found = [_with_counts(title, _with_counterpart(metrics, measures), measures) for title, metrics in TABLES]
    return [table for table in (*found, reasons_table(measures)) if table]


def reasons_table(measures: Iterable[Measure]) -> Table:
    """Why a metric of a finished cell has no value, in the words it was stored with: one line per reason, of the arms
    (or, where other seeds of an arm have a value, of the cells) and metrics that share it."""
    given = [m for m in measures if m.step is None and not m.lang]
    lacking: dict[tuple[Arm, str], dict[str, list[str]]] = {}
    cells: dict[Arm, list[str]] = {}
    for m in given:
        cells.setdefault(m.arm, []).append(m.cell)
        if m.reason:
            lacking.setdefault((m.arm, m.reason), {}).setdefault(m.cell, []).append(m.metric)
    lines: dict[tuple[str, str], list[str]] = {}
    for (arm, reason), by_cell in lacking.items():
        whole = set(by_cell) == set(cells[arm]) and len({tuple(names) for names in by_cell.values()}) == 1
        for cell, names in by_cell.items():
            lines.setdefault((reason, ", ".join(names)), []).append(str(arm) if whole else cell)
    rows = ((", ".join(dict.fromkeys(names)), reason, metrics) for (reason, metrics), names in lines.items())
    return Table.of("Not measured", ("arm", "because", "metrics"), rows, words=3)


def _with_counts(title: str, metrics: Sequence[str], measures: Sequence[Measure]) -> Table:
    """A last line says how many texts, pairs or steps each column rests on."""
    table = measure_table(title, metrics, measures, f"{CAPTION}; n: texts, pairs, items or steps; {READING}")
    found: dict[str, set[int]] = {name: set() for name in metrics}
    for m in measures:
        if m.metric in found and m.step is None and not m.lang and m.value is not None:
            found[m.metric].add(m.n)
    counts = ("-".join(map(str, sorted({min(n), max(n)}))) if n else DASH for n in found.values())
    return replace(table, sections=(*table.sections, (("n", *counts),))) if table else table


def short_table(measures: Sequence[Measure]) -> Table:
    """Four metrics in 80 columns, chance in a last line of its own; empty where nothing was measured."""
    bare = [replace(m, null=None) for m in measures]
    table = measure_table("Geometry of the finished cells", SHORT, bare, "")
    if not table:
        return table
    chance = ("chance", *(_chance([m for m in measures if m.metric == name]) for name in SHORT))
    caption = "± half of the 95 % t interval over seeds; chance: mean under the permutation null; more in board.md"
    return replace(table, sections=(*table.sections, (chance,)), caption=caption)


def _chance(measures: Sequence[Measure]) -> str:
    """Mean of the nulls of all finished cells."""
    nulls = [m.null[0] for m in measures if m.null is not None and m.step is None and not m.lang]
    return number(float(np.mean(nulls))) if nulls else DASH


def _with_counterpart(metrics: Sequence[str], measures: Iterable[Measure]) -> list[str]:
    """The metrics that were taken; a metric that stands beside its ``_plain`` twin only where that was taken too."""
    taken = {m.metric for m in measures if m.value is not None}
    twins = {m.removesuffix(PLAIN) for m in metrics if m.endswith(PLAIN)} - {"cka_base", "procrustes_base"}
    return [m for m in metrics if m in taken and (m not in twins or m + PLAIN in taken or m == "sts_spearman")]


def measure_table(title: str, metrics: Sequence[str], measures: Sequence[Measure], caption: str) -> Table:
    """Arms x ``metrics`` of the finished cells; empty where none was measured."""
    chosen = [m for m in measures if m.step is None and not m.lang and m.metric in metrics]
    if not any(m.value is not None for m in chosen):
        return NOTHING
    found: dict[tuple[Arm, str], list[Measure]] = {}
    for m in chosen:
        found.setdefault((m.arm, m.metric), []).append(m)
    arms = list(dict.fromkeys(arm for arm, _ in found))
    sections = []
    for kind in range(3):
        mine = [arm for arm in arms if _kind(arm) == kind]
        sections.append(tuple((str(arm), *(entry(found.get((arm, m), [])) for m in metrics)) for arm in mine))
    layers = sorted({m.layer for m in chosen if m.layer is not None})
    where = f", layer {', '.join(map(str, layers))}" if layers else ""
    heads = tuple(HEADS.get(m.removesuffix(PLAIN), m) + (", no tokens" if m.endswith(PLAIN) else "") for m in metrics)
    return Table(title + where, ("arm", *heads), tuple(sections), caption)


def _kind(arm: Arm) -> int:
    if arm.role.competes:
        return 0
    return 2 if arm.role is Role.UPPER_BOUND else 1


def entry(measures: Sequence[Measure]) -> str:
    """``0.47 ±0.03 (0.00)``: mean, half of the interval over seeds, mean of the null; ``2 of 3`` if not every seed
    has a value."""
    values = [m.value for m in measures if m.value is not None]
    if not values:
        return DASH
    text = number(float(np.mean(values)))
    if len(values) > 1:
        text += f" ±{number(half_interval(values))}"
    if len(values) < len(measures):
        text += f", {len(values)} of {len(measures)}"
    nulls = [m.null[0] for m in measures if m.null is not None]
    return text + (f" ({number(float(np.mean(nulls)))})" if nulls else "")


def half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % t interval of a mean over seeds; at least two values."""
    found = mean_over_seeds(values)
    return (found.high - found.low) / 2


def text_tables(measures: Sequence[Measure], most: int = 4) -> tuple[Table, ...]:
    """Bits per byte by language, of the main and plain arms and whoever competes, at most ``most``."""
    arms = {m.arm for m in measures if m.metric == "bits_per_byte" and m.arm.role.competes}
    shown = sorted(arms, key=lambda arm: (arm.role not in (Role.MAIN, Role.PLAIN), str(arm)))[:most]
    return language_tables([m for m in measures if m.arm in shown], {"bits_per_byte": "Bits per byte of held-out text"})


def language_tables(measures: Iterable[Measure], titles: dict[str, str]) -> tuple[Table, ...]:
    """Per metric: languages x arms, mean over seeds, where a metric was taken by language."""
    result = []
    for metric, title in titles.items():
        mine = [m for m in measures if m.metric == metric and m.lang and m.step is None and m.value is not None]
        arms = list(dict.fromkeys(m.arm for m in mine))
        found: dict[tuple[str, Arm], list[float]] = {}
        for m in mine:
            found.setdefault((m.lang, m.arm), []).append(m.value or 0.0)
        lines = (
            (lang, *(number(float(np.mean(found[lang, arm]))) if (lang, arm) in found else DASH for arm in arms))
            for lang in sorted({m.lang for m in mine})
        )
        result.append(Table.of(f"{title}, by language", ("language", *map(str, arms)), lines))
    return tuple(table for table in result if table)


def diverged_table(board: Board) -> Table:
    """Cells without accuracy, and why: a line for all seeds of an arm with one reason."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for row in board.diverged:
        seeds.setdefault((str(row.arm), row.precision, row.reason), []).append(row.seed)
    lines = ((arm, ", ".join(map(str, sorted(found))), *rest) for (arm, *rest), found in seeds.items())
    columns = ("arm", "seeds", "precision", "because")
    return Table.of("Diverged: no accuracy, rank, tie or comparison", columns, lines, words=4)


def cost_table(cells: Sequence[CellCosts]) -> Table:
    """What each cell cost to train: one line per cell (its precisions share the training)."""
    first = {cell.cell: cell for cell in reversed(cells)}
    lines = (
        (
            name,
            with_side(cell.parameters, cell.side_parameters),
            number(cell.train_seconds, 1),
            count(cell.tokens),
            number(cell.tokens / cell.train_seconds if cell.tokens and cell.train_seconds else None, 0),
            count(cell.peak_memory),
            number(cell.val_loss, 3),
            number(cell.grad_norm_max),
            "yes" if cell.diverged else {True: "no", False: "yes", None: DASH}[cell.finite],
        )
        for name, cell in reversed(first.items())
    )
    columns = (
        "cell", "params", "training s", "tokens", "tokens/s", "peak bytes",
        "validation loss", "largest gradient", "diverged",
    )  # fmt: skip
    caption = (
        "training s: wall clock beside whatever else ran, not for comparison; params: model + projection and anchors; "
        "peak bytes: of the training process; losses in nats per token"
    )
    return Table.of("Cost of each cell", columns, lines, caption)


def timing_table(timings: Sequence[Timing], cells: Sequence[CellCosts]) -> Table:
    """Times that were measured to be compared: one section for fine-tuning and one for scoring at each precision, every
    arm beside the plain one of the smallest size."""
    kinds: dict[tuple[str, str], list[Timing]] = {}
    for timing in timings:
        kinds.setdefault((timing.metric, "" if timing.metric == TRAINING else timing.precision), []).append(timing)
    if not kinds:
        return NOTHING
    cast = Cast.of(dict.fromkeys(timing.arm for timing in timings), cells)
    plain = next((arm for size in cast.sizes if (arm := cast.first(Role.PLAIN, size))), timings[0].arm)
    sections = tuple(
        tuple(_timing_line(one, find(mine, metric, plain, precision)) for one in mine)
        for (metric, precision), mine in kinds.items()
    )
    first, counts = timings[0], {timing.metric: timing.count for timing in timings}
    of = " and ".join(f"{counts[m]} {what}" for m, what in ((TRAINING, "steps"), (SCORING, "items")) if m in counts)
    caption = (
        f"each of {len(first.rounds)} rounds timed every arm over {of}, in turn; ratio paired by round, with its 95 % "
        f"interval over rounds; {first.device}; {first.session}"
    )
    heads = ("arm", "time of", "ms", f"times {plain}")
    return Table("Time, measured to be compared", heads, sections, caption, words=2)


def _timing_line(timing: Timing, plain: Timing | None) -> Line:
    mean = sum(timing.rounds) / len(timing.rounds)
    what, ms = ("a training step", 1000 * mean) if timing.metric == TRAINING else (f"an item, {timing.precision}", mean)
    return str(timing.arm), what, number(ms), _times(timing, plain)


def _times(timing: Timing, plain: Timing | None) -> str:
    """``1.04 (1.01 to 1.07)``."""
    if plain is None or plain is timing:
        return DASH
    try:
        found = ratio(timing, plain)
    except ValueError:  # two sessions, or the same ratio in every round
        return DASH
    return f"{number(1 + found.value)} ({number(1 + found.low)} to {number(1 + found.high)})"


def ablation_tables(result: AblationResult) -> list[Table]:
    """Accuracy of each point and reference by group, differences from the references and between lines, how training
    went."""
    by_group = [_accuracies(result, group) for group in dict.fromkeys(str(point.group) for point in result.points)]
    lines = ((row.series, row.label, *_stability(row)) for row in result.stability)
    heads = ("runs", "diverged", "rate (95 %)", "spike score", "loss spikes", "gradient median", "95 %", "max")
    caption = f"spikes: means over runs; gradient norms: medians over runs, {DASH} where infinite"
    stability = Table.of("Stability of training, all runs", ("line", result.label, *heads), lines, caption, words=2)
    return [table for table in (*by_group, _from_references(result), _between_lines(result), stability) if table]


def _accuracies(result: AblationResult, group: str) -> Table:
    mine = [p for p in (*result.points, *result.references) if p.group == group]
    tasks = list(dict.fromkeys(point.task for point in mine))
    found: dict[tuple[str, str], dict[str, Point]] = {}
    for point in mine:
        found.setdefault((point.series, point.label), {})[point.task] = point
    lines = [
        (*key, str(points[tasks[0]].n_seeds), *(level(points[t].mean, points[t].ci) for t in tasks))
        for key, points in found.items()
    ]
    failed = [spot for spot in result.places if (spot.series, spot.label) not in found]
    lines += [(spot.series, spot.label, DASH, *["diverged"] * len(tasks)) for spot in failed]
    title = (
        f"Accuracy in %, {group} languages, {result.precision} (95 % interval over {covered(p.covers for p in mine)})"
    )
    return Table.of(title, ("line", result.label, "seeds", *tasks), lines, words=2)


def _from_references(result: AblationResult) -> Table:
    found = {(d.series, d.label, d.reference, d.task): d for d in result.differences}
    heads = list(dict.fromkeys((d.reference, d.task) for d in result.differences))
    lines: list[Line] = []
    for series, label in dict.fromkeys((d.series, d.label) for d in result.differences):
        cells = (found.get((series, label, *head)) for head in heads)
        lines.append((series, label, *(estimate(d.difference, d.ci) if d else DASH for d in cells)))
    title = "Points above a reference, unseen languages"
    columns = ("line", result.label, *(f"{task}: minus {reference}" for reference, task in heads))
    return Table.of(title, columns, lines, PAIRED, words=2)


def _between_lines(result: AblationResult) -> Table:
    found = {(d.series, d.minus, d.label, d.task): d for d in result.between_lines}
    tasks = list(dict.fromkeys(d.task for d in result.between_lines))
    lines: list[Line] = []
    for series, minus, label in dict.fromkeys((d.series, d.minus, d.label) for d in result.between_lines):
        cells = (found[series, minus, label, task] for task in tasks)
        lines.append((f"{series} {MINUS} {minus}", label, *(estimate(d.difference, d.ci) for d in cells)))
    title = "Points between lines at the same value, unseen languages"
    return Table.of(title, ("line", result.label, *tasks), lines, PAIRED, words=2)


def _stability(row: Stability) -> Line:
    rate = f"{100 * row.rate:.0f} % ({100 * row.ci[0]:.0f} to {100 * row.ci[1]:.0f})"
    return (str(row.runs), str(row.diverged), rate, *(number(getattr(row, name)) for name in METRICS))
