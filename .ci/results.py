"""Tables of ``results/README.md``, made of the published runs: ``python .ci/results.py`` writes, a test compares."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ecr_bench.errors import UserError
from ecr_bench.formats import DASH, estimate, percent
from ecr_bench.io import write_text
from ecr_bench.results.contrasts import meeting
from ecr_bench.results.files import ABLATION
from ecr_bench.run import Run

FRONT = Path(__file__).parents[1] / "README.md"
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
ANSWERS = (
    ("ECR 1x − plain 3x, all tasks", "long", "ecr-1x", "finetune-3x", "all"),
    ("ECR 1x − plain 3x, coarse tasks", "long", "ecr-1x", "finetune-3x", "coarse"),
    ("ECR 1x − plain 3x, fine tasks", "long", "ecr-1x", "finetune-3x", "fine"),
    ("ECR 1x − its control tokens without text, fine tasks", "long", "ecr-1x", "codes-only-1x", "fine"),
    ("ECR 1x − its control tokens without text, all tasks", "long", "ecr-1x", "codes-only-1x", "all"),
    ("ECR 1x − soft tokens of the same projection, all tasks", "long", "ecr-1x", "soft-cue-1x", "all"),
    ("Gemma 3 270M: ECR at a third of the layers − whole, all tasks", "compressed", "ecr-1x", "finetune-3x", "all"),
)
"""The table of the front page: words, run, arms and task."""


def published() -> list[Path]:
    """Folders of the published runs with one verdict: an ablation has a table of its own."""
    folders = sorted(path.parent for path in PAGE.parent.glob("*/run.json"))
    return [folder for folder in folders if not (folder / ABLATION).exists()]


def overview() -> str:
    """One line a run: accuracies and differences on unseen languages, and the verdict."""
    lines = [line(folder) for folder in published()]
    columns = ("run", "verdict", "ECR", "plain, larger", "ECR − larger", "in int8", "in nf4", "without text", "probe")
    return _pipes(columns, lines, words=(0, 1))


def answers() -> str:
    """The table of the front page: differences on unseen languages in fp32 and their verdicts."""
    runs = {name: Run.load(PAGE.parent / name) for name in dict.fromkeys(name for _, name, *_ in ANSWERS)}
    lines = []
    for words, name, a, b, task in ANSWERS:
        sides = (runs[name].arm(a), "fp32"), (runs[name].arm(b), "fp32")
        found = meeting(runs[name].board.contrasts, *sides, "unseen", task)
        if found is None:
            raise UserError(f"results/{name}: its board does not compare {a} with {b} on {task} tasks")
        lines.append((words, estimate(found.difference, found.ci), found.verdict))
    return _pipes(("unseen languages, fp32", "points (95 %)", "verdict"), lines, words=(0, 2))


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
    return f"[{folder.name}](#{folder.name})", verdict.answer, small, large, *differences, codes, probe


def _pipes(columns: Sequence[str], lines: Iterable[Sequence[str]], words: Collection[int] = (0,)) -> str:
    """A table whose columns ``words`` are text, the others numbers; its entries may have links."""
    rule = "|".join("---" if place in words else "---:" for place in range(len(columns)))
    return "\n".join((_row(columns), f"|{rule}|", *map(_row, lines)))


def _row(entries: Iterable[str]) -> str:
    return f"| {' | '.join(entries)} |"


def fill(page: Path, tables: Mapping[str, str]) -> None:
    """Put each table between its two marks."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        head, start, rest = text.partition(f"<!-- {name}:start -->\n")
        _, end, tail = rest.partition(f"\n<!-- {name}:end -->")
        if not (start and end):
            raise UserError(f"{page}: no <!-- {name}:start --> with an end after it")
        text = f"{head}{start}{table}{end}{tail}"
    write_text(page, text)


if __name__ == "__main__":
    fill(FRONT, {"answers": answers()})
    fill(PAGE, {"overview": overview(), **{name: comparisons(name) for name in PAIRS}})
