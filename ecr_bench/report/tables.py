"""The tables of a board, of claims and of a comparison: terminal, Markdown and page show the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ecr_bench.arm import Arm, Role
from ecr_bench.formats import (
    DASH,
    TIED,
    estimate,
    extra,
    half_interval,
    interval,
    number,
    p_value,
    percent,
    points,
    with_side,
)
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.results.claim_schema import ClaimResult, ClaimsReport
from ecr_bench.results.compare import Difference, OnBoard
from ecr_bench.results.contrasts import CONTROL, HEADLINE, LOW, MIXED, RIVAL, SAME, SCALE, TASKS, UPPER, ordered_means
from ecr_bench.results.schema import Board, BoardRow, Contrast, LanguageRow
from ecr_bench.results.words import amount, arms, correction, covered, with_unit
from ecr_bench.table import NOTHING, Line, Table

LEADING = (Role.MAIN, Role.PLAIN)
FAMILIES = (HEADLINE, SAME, RIVAL, SCALE, LOW, MIXED)
"""Questions that are no control, as they are listed."""
NO_INTERVAL = " " * 6
"""Keeps a number in line with those that have an interval behind them."""


@dataclass(frozen=True)
class ArmRows:
    """One arm at one precision on one group: its rows by task."""

    arm: Arm
    precision: str
    group: str
    rows: dict[str, BoardRow]

    @property
    def row(self) -> BoardRow:
        """The one on all tasks, whose costs and counts stand for the arm."""
        return self.rows.get("all") or next(iter(self.rows.values()))


def arm_rows(board: Board) -> list[ArmRows]:
    """Every arm, precision and group, from best to worst on all tasks."""
    found: dict[tuple[Arm, str, str], dict[str, BoardRow]] = {}
    for row in board.rows:
        found.setdefault((row.arm, row.precision, row.group), {})[row.task] = row
    return sorted((ArmRows(*key, rows) for key, rows in found.items()), key=lambda one: -one.row.mean)


def reference_precision(board: Board) -> str:
    return ordered_precisions(row.precision for row in board.rows)[0]


def groups(board: Board) -> list[str]:
    return list(dict.fromkeys(row.group for row in board.rows))


def tasks(board: Board) -> list[str]:
    """``coarse``, ``fine``, ``all``: those the board has; then the same without the tasks at the floor."""
    return ordered_means(row.task for row in board.rows)


def floor_in_words(board: Board, group: str) -> str:
    """What a caption says of tasks on which no reader is above chance; empty where there are none."""
    names = board.floors.get(group)  # type: ignore[call-overload]
    return f"at the floor, where no arm that reads is above chance: {', '.join(names)}; " if names else ""


def _score(row: BoardRow | None) -> str:
    """``52.3 ±2.1*``; the star marks a tie with the leader."""
    return DASH if row is None else half_interval(row.mean, row.ci) + (TIED if row.tied_with_leader else " ")


def leaderboard(board: Board, group: str, precision: str) -> Table:
    """Contenders, then controls, then upper bounds, then chance and surface baselines."""
    chosen = [s for s in arm_rows(board) if s.group == group and s.precision == precision]
    columns = tasks(board)

    def part(keep: Callable[[Role], bool]) -> tuple[Line, ...]:
        return tuple(
            (
                str(s.arm),
                str(s.row.n_seeds),
                *(_score(s.rows.get(task)) for task in columns),
                extra(s.row.extra_tokens_per_item),
                with_side(s.row.parameters, s.row.side_parameters),
            )
            for s in chosen
            if keep(s.arm.role)
        )

    bound = part(lambda role: role is Role.UPPER_BOUND)
    sections = (
        part(lambda role: role.competes),
        part(lambda role: role.is_control),
        bound,
        _surface_lines(board, group, columns),
    )
    caption = floor_in_words(board, group) + (
        f"± half of the 95 % interval over {covered(s.row.covers for s in chosen)}; {TIED} tied with the best; "
        "tokens: control tokens per item; params: model + projection and anchors; "
        "last rows: chance and surface baselines"
    )
    caption += "; oracle needs the teacher at test time" if bound else ""
    title = f"{group.capitalize()} languages, {precision}: accuracy in %"
    return Table(title, ("arm", "seeds", *columns, "tokens", "params"), sections, caption)


SCORINGS = {"acc_bytes": "per byte"}
"""How a rule of choosing is headed."""


def scoring_table(board: Board, group: str) -> Table:
    """Arms x coarse, fine and all tasks: by the whole log-likelihood, and by the other rules."""
    chosen = [row for row in board.scorings if row.group == group]
    if not chosen:
        return NOTHING
    whole = {
        (row.arm, row.task): row.mean
        for row in board.rows
        if (row.group, row.precision) == (group, chosen[0].precision)
    }
    found = {(row.arm, row.task, row.metric): row.mean for row in chosen}
    rules = list(dict.fromkeys(row.metric for row in chosen))
    columns = [task for task in TASKS if any(row.task == task for row in chosen)]
    ordered = sorted({row.arm for row in chosen}, key=lambda arm: -whole[arm, "all"])
    heads = [head for task in columns for head in (task, *(f"{task} {SCORINGS[rule]}" for rule in rules))]

    def line(arm: Arm) -> Line:
        entries = ((whole[arm, task], *(found[arm, task, rule] for rule in rules)) for task in columns)
        return (str(arm), *(percent(value) for entry in entries for value in entry))

    caption = (
        "accuracy in %; per byte: the option with the highest log-likelihood by its UTF-8 bytes (lm-eval's acc_bytes); "
        "arms that give no likelihood of texts are left out; rank and verdict rest on the whole log-likelihood"
    )
    title = f"Options chosen otherwise, {group} languages, {chosen[0].precision}"
    return Table.of(title, ("arm", *heads), map(line, ordered), caption)


def _surface_lines(board: Board, group: str, columns: list[str]) -> tuple[Line, ...]:
    by_task = board.baselines.get(group, {})
    names = sorted({name for task in columns for name in by_task.get(task, {})} - {"chance"})
    chance = {row.task: row.chance for row in board.rows if row.group == group}
    lines = [("chance", "", *(percent(chance.get(task)) + NO_INTERVAL for task in columns), "", "")]
    for name in names:
        entries = (percent(by_task.get(task, {}).get(name)) + NO_INTERVAL for task in columns)
        lines.append((name.replace("_", " "), "", *entries, "", ""))
    return tuple(lines)


def precision_table(board: Board, group: str) -> Table:
    """Contenders at every precision, with weight bytes and time."""
    chosen = [s for s in arm_rows(board) if s.group == group and s.arm.role.competes]
    columns, precisions = tasks(board), ordered_precisions(s.precision for s in chosen)
    by_arm: dict[Arm, list[ArmRows]] = {}
    for one in sorted(chosen, key=lambda s: precisions.index(s.precision)):
        by_arm.setdefault(one.arm, []).append(one)
    sections = tuple(
        tuple(
            (
                str(arm),
                s.precision,
                *(_score(s.rows.get(task)) for task in columns),
                with_side(s.row.bytes, s.row.side_bytes),
                number(s.row.ms_per_item),
            )
            for s in by_arm[arm]
        )
        for arm in dict.fromkeys(s.arm for s in chosen)
    )
    caption = (
        "bytes: weights + projection and anchors; ms/item: wall clock beside whatever else ran, not for comparison; "
        f"{TIED} tied with the best at that precision"
    )
    heads = ("arm", "precision", *columns, "bytes", "ms/item")
    return Table(f"Precision, {group} languages", heads, sections, caption, words=2)


def across_precisions(board: Board) -> Table:
    """Contenders x precisions on all tasks of the headline group; nothing where there is one precision."""
    group = groups(board)[0]
    chosen = [s for s in arm_rows(board) if s.group == group and s.arm.role.competes]
    precisions = ordered_precisions(s.precision for s in chosen)
    if len(precisions) < 2:
        return NOTHING
    found = {(s.arm, s.precision): s.rows.get("all") for s in chosen}
    lines = ((str(a), *(_score(found.get((a, p))) for p in precisions)) for a in dict.fromkeys(s.arm for s in chosen))
    title = f"{group.capitalize()} languages, all tasks, by precision: accuracy in %"
    return Table.of(title, ("arm", *precisions), lines, f"{TIED} tied with the best at that precision")


def controls_table(board: Board, group: str, precision: str) -> Table:
    """ECR minus each control, the upper bound and each rival of its size."""
    chosen = [c for c in board.contrasts if c.group == group and c.precision == c.precision_b == precision]
    columns = tasks(board)
    sections = []
    for family in (CONTROL, UPPER, RIVAL):
        found = {(c.name, c.task): c for c in chosen if c.family == family}
        names = dict.fromkeys(name for name, _ in found)
        sections.append(tuple((n, *(_difference(found.get((n, t))) for t in columns)) for n in names))
    caption = "points with 95 % interval; an interval that reaches 0 means ECR is not shown to beat that arm"
    return Table(
        f"ECR minus its controls and rivals, {group} languages, {precision}",
        ("pair", *columns),
        tuple(sections),
        caption,
    )


def _difference(contrast: Contrast | None) -> str:
    return DASH if contrast is None else estimate(contrast.difference, contrast.ci)


def group_table(board: Board, precision: str) -> Table:
    """Unseen beside seen for every arm; nothing where there is one group."""
    present = groups(board)
    if len(present) < 2:
        return NOTHING
    chosen = [s for s in arm_rows(board) if s.precision == precision]
    found = {(s.arm, s.group): s.rows for s in chosen}
    pairs = [(task, group) for task in tasks(board) for group in present]

    def entry(arm: Arm, task: str, group: str) -> str:
        row = found.get((arm, group), {}).get(task)
        return DASH if row is None else percent(row.mean)

    lines = ((str(s.arm), *(entry(s.arm, *pair) for pair in pairs)) for s in chosen if s.group == present[0])
    return Table.of(f"Unseen and seen languages, {precision}", ("arm", *(f"{t} {s}" for t, s in pairs)), lines)


def leading_arms(rows: Iterable[LanguageRow], limit: int) -> list[Arm]:
    """The first ``limit`` contenders: main and plain ones first, by name."""
    arms_ = {row.arm for row in rows if row.arm.role.competes}
    return sorted(arms_, key=lambda arm: (arm.role not in LEADING, str(arm)))[:limit]


def language_tables(board: Board, limit: int = 4) -> list[Table]:
    """One for each single task, with the main arms (at most ``limit``)."""
    chosen = leading_arms(board.by_language, limit)
    rows = [row for row in board.by_language if row.arm in chosen]
    single_tasks = dict.fromkeys(row.task for row in rows)
    return [languages_of([row for row in rows if row.task == task], chosen, task) for task in single_tasks]


def languages_of(rows: Sequence[LanguageRow], arms_: Sequence[Arm], task: str) -> Table:
    """One single task: languages x arms."""
    found = {(str(r.group), r.lang, r.arm): r.mean for r in rows}
    pairs = dict.fromkeys((str(r.group), r.lang) for r in sorted(rows, key=lambda r: (r.group != "unseen", r.lang)))
    lines = ((f"{lang} ({group})", *(percent(found.get((group, lang, arm))) for arm in arms_)) for group, lang in pairs)
    return Table.of(f"Accuracy by language in %: {task}", ("language", *map(str, arms_)), lines)


def baseline_table(board: Board) -> Table:
    """Surface baselines by group and task, beside the leading contenders at the reference precision."""
    precision = reference_precision(board)
    names = {name for by_task in board.baselines.values() for numbers in by_task.values() for name in numbers}
    ordered = sorted(names, key=lambda name: (name != "chance", name))
    beside = leading_arms(board.by_language, 3)
    means = {(r.arm, str(r.group), r.task): r.mean for r in board.rows if r.precision == precision}

    def part(group: str) -> tuple[Line, ...]:
        by_task = board.baselines.get(group, {})
        rows = [*(t for t in tasks(board) if t in by_task), *(t for t in by_task if t not in tasks(board))]
        return tuple(
            (
                f"{task} ({group})",
                *(percent(by_task[task].get(name)) for name in ordered),
                *(percent(means.get((arm, group, task))) for arm in beside),
            )
            for task in rows
        )

    heads = ("task", *(name.replace("_", " ") for name in ordered), *map(str, beside))
    sections = tuple(part(group) for group in groups(board))
    caption = f"accuracy in %, arms in {precision}; a baseline near an arm: the task measures that shortcut"
    return Table("Surface baselines: what no reading at all scores", heads, sections, caption)


def contrast_table(contrasts: Sequence[Contrast], title: str) -> Table:
    """One line per contrast and task."""
    lines = (
        (
            c.name,
            c.precision if c.precision == c.precision_b else f"{c.precision}/{c.precision_b}",
            c.task,
            _difference(c),
            p_value(c.p_holm),
            p_value(c.mcnemar_p),
            percent(c.mdd),
            c.verdict,
        )
        for c in contrasts
    )
    columns = ("a - b", "precision", "task", "difference (95 %)", "p (Holm)", "McNemar p", "MDD", "a > b")
    return Table.of(title, columns, lines, "MDD: minimum detectable difference in points (80 % power)", words=3)


def difference_tables(board: Board) -> list[Table]:
    """Every paired difference that is no control, by group: all precisions for the headline group, elsewhere the
    reference precision (the rest is in board.json)."""
    result = []
    first, reference = groups(board)[0], reference_precision(board)
    for group in groups(board):
        chosen = [c for c in board.contrasts if c.group == group and c.family in FAMILIES]
        if group != first:
            chosen = [c for c in chosen if c.precision == c.precision_b == reference]
        chosen.sort(key=lambda c: FAMILIES.index(c.family))
        result.append(contrast_table(chosen, f"Paired differences, {group} languages"))
    return [table for table in result if table]


def verdict_table(board: Board) -> Table:
    """The question by kind of task."""
    lines = (
        (
            task,
            v.answer,
            ", ".join(v.attribution.anchors) or "none of those run",
            ", ".join(v.attribution.model) or "none of those run",
            points(v.difference),
            interval(v.ci),
            percent(v.mdd),
        )
        for task, v in board.verdict.by_task.items()
    )
    heads = ("tasks", "verdict", "not beaten: anchors", "not beaten: model", "points", "95 % interval", "MDD")
    caption = "not beaten: controls that ECR is not shown to beat; MDD: minimum detectable difference in points"
    return Table.of("The verdict by kind of task", heads, lines, caption, words=4)


def claim_numbers(result: ClaimResult) -> tuple[str, str, str]:
    """Difference with its interval, corrected p, minimum detectable difference; dashes where not tested."""
    claim, found = result.claim, result.finding
    if found is None or result.p_holm is None:
        return DASH, DASH, DASH
    if found.covers == "nothing":
        return f"{with_unit(claim, found.difference)} (exact)", DASH, DASH
    ends = f"{amount(claim, found.low)} to {amount(claim, found.high)}"
    mdd = with_unit(claim, found.mdd).removeprefix("+")
    return f"{with_unit(claim, found.difference)} ({ends})", p_value(result.p_holm), mdd


def claims_table(report: ClaimsReport) -> Table:
    """One line per claim."""
    lines = ((r.claim.id, r.verdict, f"{arms(r)}, {r.claim.metric}", *claim_numbers(r)) for r in report.results)
    caption = f"p: after {correction(report)}; MDD: minimum detectable difference (80 % power)"
    columns = ("claim", "verdict", "a - b", "difference (95 %)", "p (Holm)", "MDD")
    return Table.of("Claims", columns, lines, caption, words=3)


def compare_table(lines: Sequence[Difference], a: str, b: str, board: Sequence[OnBoard] = ()) -> Table:
    """``ecr-bench compare``: one line per group and task; ``a`` and ``b``: what was compared, in words; ``board``: what
    the board of their run says of them, line by line, where they are of one."""
    caption = (
        f"a: {a}; b: {b}; accuracy in %, differences in points, "
        "not corrected for the number of tests; McNemar ignores clusters and seeds; MDD: minimum detectable difference"
    )
    shown: list[tuple[str, ...]] = [
        (
            line.group,
            line.task,
            percent(line.mean_a),
            percent(line.mean_b),
            estimate(line.found.value, (line.found.low, line.found.high)),
            p_value(line.found.p),
            p_value(line.found.mcnemar_p),
            percent(line.found.mdd),
        )
        for line in lines
    ]
    columns: tuple[str, ...] = ("group", "task", "a", "b", "a - b (95 %)", "p", "McNemar", "MDD")
    if any(said.p_holm is not None for said in board):
        columns = (*columns, "board")
        caption += "; board: its p, corrected over the tests of one question"
        shown = [
            (*entries, DASH if said.p_holm is None else p_value(said.p_holm))
            for entries, said in zip(shown, board, strict=True)
        ]
        told = zip(lines, board, strict=True)
        words = [f"{line.group} {line.task} {said.verdict}" for line, said in told if said.verdict]
        caption += f"; its words: {'; '.join(words)}" if words else ""
    return Table.of("Paired difference", columns, shown, caption, words=2)
