"""The leaderboard of the page: one line per arm, precision and split, and its compact form for the browser."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ecr_bench.arm import Arm
from ecr_bench.report.tables import DASH, splits, with_side
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.results.contrasts import ordered_means
from ecr_bench.results.schema import Board, LanguageRow, Row

UNIT = 1_000_000
"""Accuracies are whole millionths, so that Python and the browser round the same number alike."""
KINDS = ("contender", "control", "upper bound")
SHOWN = 50
"""Lines in the static page and added at a time by the browser."""
BAR_START, BAR_STOP = 40, 1160
"""Ends of the scale of an interval bar, in the units of its viewBox (0 0 1200 140)."""


@dataclass(frozen=True)
class Score:
    """Whole millionths; ``tied``: cannot be told from the best arm. -1 for both ends where there is no interval."""

    mean: int
    low: int
    high: int
    tied: bool


@dataclass(frozen=True)
class Line:
    """Fields (text, number to sort by) where a column shows anything but its number."""

    arm: str
    kind: str
    precision: str
    split: str
    size: str
    seeds: int
    scores: tuple[Score | None, ...]
    tokens: tuple[str, float]
    parameters: tuple[str, float]
    bytes: tuple[str, float]
    time: tuple[str, float]
    note: str
    command: str


@dataclass(frozen=True)
class Leaderboard:
    """``tasks``: coarse, fine, all, then families; ``chance[split or language][task]`` and the scale in millionths."""

    tasks: tuple[str, ...]
    grains: int
    splits: tuple[str, ...]
    languages: tuple[str, ...]
    """Single languages, whose lines are shown when asked for only; accuracies without interval."""
    precisions: tuple[str, ...]
    sizes: tuple[str, ...]
    chance: dict[str, tuple[int, ...]]
    low: int
    high: int
    lines: tuple[Line, ...]

    def default(self) -> list[Line]:
        """What the page shows first: the headline split at the reference precision, best first."""
        main = self.tasks.index("all") if "all" in self.tasks else 0
        chosen = [x for x in self.lines if x.split == self.splits[0] and x.precision == self.precisions[0]]
        return sorted(chosen, key=lambda x: -(score.mean if (score := x.scores[main]) else -1))

    def place(self, value: int) -> int:
        """Millionths -> x of the interval bar."""
        return place(value, self.low, self.high)


def place(value: int, low: int, high: int) -> int:
    """Nearest whole x; script.js does the same sum."""
    width = BAR_STOP - BAR_START
    value = min(high, max(low, value))
    return BAR_START + (2 * width * (value - low) + (high - low)) // (2 * (high - low))


def percent_of(value: int) -> str:
    """Millionths -> ``52.3``, halves upwards as in script.js."""
    return f"{(value + UNIT // 2000) // (UNIT // 1000) / 10:.1f}"


def kind_of(arm: Arm) -> str:
    if arm.role.competes:
        return KINDS[0]
    return KINDS[1] if arm.role.is_control else KINDS[2]


def build_leaderboard(board: Board, commands: dict[Arm, str]) -> Leaderboard:
    """Pivot the rows of a board: coarse, fine and all side by side."""
    present = {row.task for row in board.rows}
    grains = ordered_means(present)
    tasks = (*grains, *sorted(present - set(grains)))
    groups: dict[tuple[Arm, str, str], dict[str, Row]] = {}
    chance: dict[str, dict[str, int]] = {}
    for row in board.rows:
        groups.setdefault((row.arm, row.precision, row.split), {})[row.task] = row
        chance.setdefault(row.split, {})[row.task] = round(UNIT * row.chance)
    by_language = _by_language(board)
    for (*_, lang), found in by_language.items():
        chance[lang] = chance.get(found[0].split, {})
    low = min([row.ci[0] for row in board.rows] + [row.chance for row in board.rows], default=0.0)
    high = max((row.ci[1] for row in board.rows), default=1.0)
    return Leaderboard(
        tasks=tasks,
        grains=len(grains),
        splits=tuple(splits(board)),
        languages=tuple(sorted({lang for *_, lang in by_language})),
        precisions=tuple(ordered_precisions({row.precision for row in board.rows})),
        sizes=tuple(dict.fromkeys(row.arm.size for row in board.rows)),
        chance={split: tuple(by_task.get(task, 0) for task in tasks) for split, by_task in chance.items()},
        low=math.floor(low * 20) * UNIT // 20,
        high=max(math.ceil(high * 20), math.floor(low * 20) + 1) * UNIT // 20,
        lines=(
            *(_line(rows, tasks, commands) for rows in groups.values()),
            *(_language_line(found, tasks, commands) for found in by_language.values()),
        ),
    )


def _by_language(board: Board) -> dict[tuple[Arm, str, str], list[LanguageRow]]:
    """(arm, precision, language) -> accuracy on each task family."""
    result: dict[tuple[Arm, str, str], list[LanguageRow]] = {}
    for row in board.by_language:
        result.setdefault((row.arm, row.precision, row.lang), []).append(row)
    return result


def _language_line(rows: list[LanguageRow], tasks: tuple[str, ...], commands: dict[Arm, str]) -> Line:
    """One arm in one language: its task families, and their mean as ``all``; what it costs stands on other lines."""
    row, nothing = rows[0], (DASH, 1e300)
    means = {r.task: r.mean for r in rows}
    means["all"] = sum(means.values()) / len(means)
    return Line(
        arm=str(row.arm),
        kind=kind_of(row.arm),
        precision=row.precision,
        split=row.lang,
        size=row.arm.size,
        seeds=0,
        scores=tuple(Score(round(UNIT * means[t]), -1, -1, False) if t in means else None for t in tasks),
        tokens=nothing,
        parameters=nothing,
        bytes=nothing,
        time=nothing,
        note=f"{sum(r.n_items for r in rows)} items, {row.split} language; all: mean over task families; no interval",
        command=commands.get(row.arm, ""),
    )


def _line(rows: dict[str, Row], tasks: tuple[str, ...], commands: dict[Arm, str]) -> Line:
    row = rows.get("all") or next(iter(rows.values()))
    weights = None if row.bytes is None else row.bytes + (row.side_bytes or 0)
    parameters = None if row.parameters is None else row.parameters + (row.side_parameters or 0)
    time = DASH if row.ms_per_item is None else f"{row.ms_per_item:.2f}"
    note = f"{row.n_items} items in {row.n_clusters} clusters, {row.n_seeds} seed{'s' * (row.n_seeds != 1)}; "
    return Line(
        arm=str(row.arm),
        kind=kind_of(row.arm),
        precision=row.precision,
        split=row.split,
        size=row.arm.size,
        seeds=row.n_seeds,
        scores=tuple(_score(rows.get(task)) for task in tasks),
        tokens=(f"+{row.extra_tokens_per_item:.1f}".removesuffix(".0"), round(row.extra_tokens_per_item, 3)),
        parameters=(with_side(row.parameters, row.side_parameters), _sortable(parameters)),
        bytes=(short_bytes(row.bytes, row.side_bytes), _sortable(weights)),
        time=(time, _sortable(row.ms_per_item)),
        note=note + f"interval over {row.covers}; {100 * row.above_chance:.1f} % of the way from chance to perfect",
        command=commands.get(row.arm, ""),
    )


def _score(row: Row | None) -> Score | None:
    if row is None:
        return None
    mean, low, high = (round(UNIT * v) for v in (row.mean, *row.ci))
    return Score(mean, low, high, bool(row.tied_with_leader))


def _sortable(value: float | None) -> float:
    """What was not measured sorts last in rising order."""
    return 1e300 if value is None else round(value, 3)


def short_bytes(model: float | None, side: float | None) -> str:
    """``3.96+0.40 MB``: weights plus projection and anchors."""
    if model is None:
        return DASH
    return f"{model / 1e6:.2f}+{side / 1e6:.2f} MB" if side else f"{model / 1e6:.2f} MB"


def payload(leaderboard: Leaderboard) -> Markup:
    """JSON for a ``<script type="application/json">``: repeated texts once, lines as flat lists.

    ``<``, ``>`` and ``&`` are written as \\u escapes, so that no name can close the element.
    """
    texts: dict[str, int] = {}

    def index(text: str) -> int:
        return texts.setdefault(text, len(texts))

    lines: list[list[float]] = []
    for x in leaderboard.lines:
        flat: list[float] = [index(t) for t in (x.arm, x.kind, x.precision, x.split, x.size, x.note, x.command)]
        flat.append(x.seeds)
        for text, number in (x.tokens, x.parameters, x.bytes, x.time):
            flat += [index(text), number]
        for score in x.scores:
            flat += [-1, 0, 0, 0] if score is None else [score.mean, score.low, score.high, int(score.tied)]
        lines.append(flat)
    data: dict[str, Any] = {
        "tasks": leaderboard.tasks,
        "grains": leaderboard.grains,
        "splits": leaderboard.splits,
        "languages": leaderboard.languages,
        "precisions": leaderboard.precisions,
        "chance": leaderboard.chance,
        "scale": [leaderboard.low, leaderboard.high, BAR_START, BAR_STOP],
        "shown": SHOWN,
        "texts": list(texts),
        "lines": lines,
    }
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
