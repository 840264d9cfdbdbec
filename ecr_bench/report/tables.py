"""The tables of a board as plain text cells; terminal and Markdown draw the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ecr_bench.arm import Arm, Role
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.results.contrasts import CONTROL, UPPER, ordered_means
from ecr_bench.results.schema import Board, Contrast, LanguageRow, Row
from ecr_bench.results.words import covered, interval, points

DASH = "\N{EN DASH}"
TIED = "*"


@dataclass(frozen=True)
class Table:
    """``sections`` are groups of rows with a rule between them; the first column is text, others are numbers."""

    title: str
    columns: tuple[str, ...]
    sections: tuple[tuple[tuple[str, ...], ...], ...]
    caption: str = ""

    def __bool__(self) -> bool:
        return any(self.sections)


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def accuracy_cell(row: Row | None) -> str:
    """``52.3 ±2.1*``; the star marks a tie with the leader."""
    if row is None:
        return DASH
    half = 50 * (row.ci[1] - row.ci[0])
    return f"{percent(row.mean)} ±{half:.1f}{TIED if row.tied_with_leader else ' '}"


def short(count: float | None) -> str:
    """``2970000`` -> ``2.97M``."""
    if count is None:
        return DASH
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if count >= size / 10:
            return f"{count / size:.2f}{unit}" if count < 10 * size else f"{count / size:.0f}{unit}"
    return f"{count / 1e3:.1f}k" if count >= 1e3 else f"{count:.0f}"


def with_side(model: float | None, side: float | None) -> str:
    """``0.99M+0.40M``: language model plus projection and anchors."""
    return f"{short(model)}+{short(side)}" if side else short(model)


def reference_precision(board: Board) -> str:
    return ordered_precisions({row.precision for row in board.rows})[0]


def splits(board: Board) -> list[str]:
    return list(dict.fromkeys(row.split for row in board.rows))


def tasks(board: Board) -> list[str]:
    """``coarse``, ``fine``, ``all``: those the board has; then the same without the tasks at the floor."""
    return ordered_means(row.task for row in board.rows)


def floor_in_words(board: Board, split: str) -> str:
    """What a caption says of tasks on which no reader is above chance; empty where there are none."""
    names = board.floors.get(split)  # type: ignore[call-overload]
    return f"at the floor, where no arm that reads is above chance: {', '.join(names)}; " if names else ""


def _arms(rows: Iterable[Row], order: str = "all") -> list[Arm]:
    """Arms from best to worst on ``order`` (an arm once per row given)."""
    ranked = sorted((row for row in rows if row.task == order), key=lambda row: -row.mean)
    return [row.arm for row in ranked]


def leaderboard(board: Board, split: str, precision: str) -> Table:
    """Contenders, then controls, then upper bounds, then chance and surface baselines."""
    rows = [row for row in board.rows if row.split == split and row.precision == precision]
    found = {(row.arm, row.task): row for row in rows}
    columns = tasks(board)

    def line(arm: Arm) -> tuple[str, ...]:
        row = found[arm, "all"]
        scores = [accuracy_cell(found.get((arm, task))) for task in columns]
        size = with_side(row.parameters, row.side_parameters)
        return (str(arm), str(row.n_seeds), *scores, f"+{row.extra_tokens_per_item:.1f}".removesuffix(".0"), size)

    def section(keep: Callable[[Role], bool]) -> tuple[tuple[str, ...], ...]:
        return tuple(line(arm) for arm in _arms(rows) if keep(arm.role))

    bound = section(lambda role: role is Role.UPPER_BOUND)
    return Table(
        f"{split.capitalize()} languages, {precision}: accuracy in %",
        ("arm", "seeds", *columns, "tokens", "params"),
        (
            section(lambda role: role.competes),
            section(lambda role: role.is_control),
            bound,
            _surface_lines(board, split, columns),
        ),
        floor_in_words(board, split)
        + f"± half of the 95 % interval over {covered(row.covers for row in rows)}; {TIED} tied with the best; "
        "tokens: control tokens per item; params: model + projection and anchors; "
        "last rows: chance and surface baselines" + ("; oracle needs the teacher at test time" if bound else "")
        if rows
        else "",
    )


def diverged_table(board: Board) -> Table:
    """Cells without accuracy, and why."""
    lines = tuple((row.cell, row.precision, row.reason) for row in board.diverged)
    return Table("Diverged: no accuracy, rank, tie or comparison", ("cell", "precision", "because"), (lines,))


def _surface_lines(board: Board, split: str, columns: list[str]) -> tuple[tuple[str, ...], ...]:
    by_task = board.baselines.get(split, {})
    names = sorted({name for task in columns for name in by_task.get(task, {})} - {"chance"})
    chance = {row.task: row.chance for row in board.rows if row.split == split}
    lines = [("chance", "", *(percent(chance[t]) + "      " if t in chance else DASH for t in columns), "", "")]
    for name in names:
        cells = [percent(by_task[t][name]) + "      " if name in by_task.get(t, {}) else DASH for t in columns]
        lines.append((name.replace("_", " "), "", *cells, "", ""))
    return tuple(lines)


def precision_table(board: Board, split: str) -> Table:
    """Contenders at every precision, with weight bytes and time."""
    rows = [row for row in board.rows if row.split == split and row.arm.role.competes]
    found = {(row.arm, row.precision, row.task): row for row in rows}
    precisions = ordered_precisions({row.precision for row in rows})
    columns = tasks(board)
    sections = []
    for arm in dict.fromkeys(_arms(rows)):
        lines = []
        for precision in precisions:
            if row := found.get((arm, precision, "all")):
                scores = [accuracy_cell(found.get((arm, precision, task))) for task in columns]
                time = DASH if row.ms_per_item is None else f"{row.ms_per_item:.2f}"
                lines.append((str(arm), precision, *scores, with_side(row.bytes, row.side_bytes), time))
        sections.append(tuple(lines))
    caption = (
        f"bytes: weights + projection and anchors; ms/item: wall clock beside whatever else ran, not for comparison; "
        f"{TIED} tied with the best at that precision"
    )
    columns_ = ("arm", "precision", *columns, "bytes", "ms/item")
    return Table(f"Precision, {split} languages", columns_, tuple(sections), caption)


def controls_table(board: Board, split: str, precision: str) -> Table:
    """ECR minus each control, and minus the upper bound."""
    chosen = [c for c in board.contrasts if c.split == split and c.precision == c.precision_b == precision]
    columns = tasks(board)
    sections = []
    for family in (CONTROL, UPPER):
        found = {(c.name, c.task): c for c in chosen if c.family == family}
        names = dict.fromkeys(name for name, _ in found)
        sections.append(tuple((n, *(difference_cell(found.get((n, t))) for t in columns)) for n in names))
    caption = "points with 95 % interval; an interval that reaches 0 means ECR is not shown to beat that control"
    return Table(
        f"ECR minus its controls, {split} languages, {precision}", ("pair", *columns), tuple(sections), caption
    )


def difference_cell(contrast: Contrast | None) -> str:
    return DASH if contrast is None else f"{points(contrast.difference)} ({interval(contrast.ci)})"


def split_table(board: Board, precision: str) -> Table:
    """Unseen beside seen for every arm."""
    present = splits(board)
    if len(present) < 2:
        return Table("", (), ())
    rows = [row for row in board.rows if row.precision == precision]
    found = {(row.arm, str(row.split), row.task): row for row in rows}
    pairs = [(task, split) for task in tasks(board) for split in present]
    arms = _arms(row for row in rows if row.split == present[0])
    lines = tuple(
        (str(arm), *(percent(r.mean) if (r := found.get((arm, s, t))) else DASH for t, s in pairs)) for arm in arms
    )
    return Table(f"Unseen and seen languages, {precision}", ("arm", *(f"{t} {s}" for t, s in pairs)), (lines,))


def language_table(board: Board, limit: int = 4) -> Table:
    """Languages x task families; each cell lists the main arms (at most ``limit``) in the order of the caption."""
    rows = [row for row in board.by_language if row.arm.role.competes]
    leading = (Role.MAIN, Role.PLAIN)
    arms = sorted({row.arm for row in rows}, key=lambda arm: (arm.role not in leading, str(arm)))[:limit]
    families = list(dict.fromkeys(row.task for row in rows))
    found = {(str(row.split), row.lang, row.task, row.arm): row for row in rows}
    sections = []
    for split in splits(board):
        languages = sorted({row.lang for row in rows if row.split == split})
        sections.append(
            tuple(
                (f"{lang} ({split})", *(_joined([found.get((split, lang, f, arm)) for arm in arms]) for f in families))
                for lang in languages
            )
        )
    caption = "each cell: " + " / ".join(str(arm) for arm in arms)
    return Table("Accuracy by language of the text", ("language", *families), tuple(sections), caption)


def _joined(rows: list[LanguageRow | None]) -> str:
    """Empty where the language has no item of the task."""
    return " / ".join(DASH if row is None else percent(row.mean) for row in rows) if any(rows) else ""


def baseline_table(board: Board) -> Table:
    """Surface baselines by split and task."""
    names = sorted({name for by_task in board.baselines.values() for numbers in by_task.values() for name in numbers})
    sections = []
    for split in splits(board):
        by_task = board.baselines.get(split, {})
        lines = [
            (f"{task} ({split})", *(percent(numbers[name]) if name in numbers else DASH for name in names))
            for task, numbers in by_task.items()
        ]
        sections.append(tuple(lines))
    return Table("Surface baselines: what no reading at all scores", ("task", *names), tuple(sections))


def contrast_table(contrasts: list[Contrast], title: str) -> Table:
    """One line per contrast and task."""
    lines = tuple(
        (
            c.name,
            c.precision if c.precision == c.precision_b else f"{c.precision}/{c.precision_b}",
            c.task,
            difference_cell(c),
            short_p(c.p_holm),
            short_p(c.mcnemar_p),
            percent(c.mdd),
            c.verdict,
        )
        for c in contrasts
    )
    columns = ("a - b", "precision", "task", "difference (95 %)", "p (Holm)", "McNemar p", "MDD", "a > b")
    return Table(title, columns, (lines,), "MDD: minimum detectable difference in points (80 % power)")


def short_p(value: float) -> str:
    """``.012``, ``<.001``."""
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
