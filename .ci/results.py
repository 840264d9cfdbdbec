"""Tables of ``results/README.md``, made of the published runs: ``python .ci/results.py`` writes, a test compares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ecr_bench.formats import DASH, estimate, percent
from ecr_bench.run import Run

PAGE = Path(__file__).parents[1] / "results" / "README.md"
PAIRS = {
    "long": (
        ("soft-cue-1x", "codes-only-1x"),
        ("soft-cue-1x", "teacher-probe-1x"),
        ("soft-cue-1x", "ecr-3x"),
        ("ecr-3x", "ecr-1x"),
        ("embedding-distillation-1x", "finetune-1x"),
        ("ecr+fusion-1x", "finetune+fusion-1x"),
        ("ecr+fusion-1x", "teacher-probe-1x"),
    ),
}
"""What the page says beside the boards: run -> arms to compare."""


def published() -> list[Path]:
    """Folders of the published runs."""
    return sorted(path.parent for path in PAGE.parent.glob("*/run.json"))


def overview() -> str:
    """One line a run: accuracies and differences on unseen languages, and the verdict."""
    lines = [line(folder) for folder in published()]
    columns = ("run", "verdict", "ECR", "plain, larger", "ECR − larger", "in int8", "in nf4", "without text", "probe")
    return _pipes(columns, lines, words=2)


def comparisons(name: str) -> str:
    """Pairs of arms that the board of a run does not compare."""
    run = Run.load(PAGE.parent / name)
    lines = []
    for a, b in PAIRS[name]:
        found = {(r.group, r.task): estimate(r.difference, (r.low, r.high)) for r in run.compare(a, b).itertuples()}
        unseen = (found["unseen", task] for task in ("coarse", "fine", "all"))
        lines.append((f"{a} − {b}", *unseen, found["seen", "all"]))
    columns = ("pair", "coarse, unseen", "fine, unseen", "all, unseen", "all, seen")
    return _pipes(columns, lines)


def line(folder: Path) -> tuple[str, ...]:
    """A run's entries in the overview."""
    run = Run.load(folder)
    board, verdict = run.board, run.board.verdict
    level = {
        str(row.arm): percent(row.mean)
        for row in board.rows
        if (row.precision, row.group, row.task) == ("fp32", "unseen", "all")
    }
    gains = {
        c.precision: estimate(c.difference, c.ci)
        for c in board.contrasts
        if (c.a, c.b, c.group, c.task) == (verdict.small, verdict.large, "unseen", "all")
        and c.precision == c.precision_b
    }
    size = verdict.small.size if verdict.small else ""
    arms = (str(verdict.small), str(verdict.large), f"codes-only-{size}", f"teacher-probe-{size}")
    small, large, codes, probe = (level.get(arm, DASH) for arm in arms)
    differences = (gains.get(precision, DASH) for precision in ("fp32", "int8", "nf4"))
    return f"[{run.name}](#{run.name})", verdict.answer, small, large, *differences, codes, probe


def _pipes(columns: Sequence[str], lines: Iterable[Sequence[str]], words: int = 1) -> str:
    rule = ["---" if place < words else "---:" for place in range(len(columns))]
    return "\n".join(f"| {' | '.join(entries)} |" for entries in (columns, rule, *lines))


def filled(page: str) -> str:
    """The page with its tables as they must be."""
    for name, table in {"overview": overview(), **{name: comparisons(name) for name in PAIRS}}.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        page = re.sub(f"{start}.*?{end}", lambda _: f"{start}\n{table}\n{end}", page, flags=re.S)  # noqa: B023
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
