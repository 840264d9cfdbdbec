"""The first page of a leaderboard of many runs: every arm of every corpus on one list, ranked, with ties."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from ecr_bench.arm import Role
from ecr_bench.formats import count, percent
from ecr_bench.io import write_json, write_text
from ecr_bench.leaderboard.conflicts import environments
from ecr_bench.leaderboard.schema import Ranking
from ecr_bench.report.page import escaping, page_style, policy, template
from ecr_bench.results.schema import BoardRow
from ecr_bench.run import Run
from ecr_bench.table import Table, to_markdown

PAGE, TEXT, DATA = "index.html", "leaderboard.md", "leaderboard.json"


def entries(corpus: str, run: Run) -> list[Ranking]:
    """Accuracy on languages without labels, over all tasks, best first; controls stand there without rank."""
    rows = {(str(r.arm), r.precision, r.task): r for r in run.board.rows if r.group == "unseen"}
    found = []
    for precision in dict.fromkeys(key[1] for key in rows):
        whole = sorted(
            (r for (_, at, task), r in rows.items() if (at, task) == (precision, "all")), key=lambda r: -r.mean
        )
        ranks = _ranks([r for r in whole if r.arm.role.competes])
        for r in whole:
            parts = {task: rows.get((str(r.arm), precision, task)) for task in ("coarse", "fine")}
            found.append(
                Ranking(
                    corpus=corpus,
                    precision=precision,
                    arm=str(r.arm),
                    size=r.arm.size,
                    role=str(r.arm.role),
                    rank=ranks.get(str(r.arm), ""),
                    accuracy=r.mean,
                    ci=r.ci,
                    **{task: part.mean if part else None for task, part in parts.items()},
                    seeds=r.n_seeds,
                    items=r.n_items,
                    bytes=None if r.bytes is None else r.bytes + (r.side_bytes or 0),
                )
            )
    return found


def _ranks(ranked: list[BoardRow]) -> dict[str, str]:
    """``1=`` for all that cannot be told from the best one, then places by accuracy."""
    tied = sum(row.tied_with_leader is True for row in ranked)
    result = {}
    for place, row in enumerate(ranked, 1):
        result[str(row.arm)] = "1=" if row.tied_with_leader and tied > 1 else str(place)
    return result


def write_index(folder: Path, runs: Mapping[str, Run]) -> None:
    """Write the page, the same as Markdown, and the same as JSON."""
    listed = [entry for name, run in runs.items() for entry in entries(name, run)]
    write_json(folder / DATA, [entry.model_dump(mode="json") for entry in listed])
    write_text(folder / TEXT, _markdown(listed, runs))
    write_text(folder / PAGE, _page(listed, runs))


def _line(entry: Ranking) -> tuple[str, ...]:
    half = (entry.ci[1] - entry.ci[0]) / 2
    megabytes = "" if entry.bytes is None else f"{entry.bytes / 1e6:.2f}"
    return (
        entry.rank or ("upper bound" if entry.role == Role.UPPER_BOUND else "control"), entry.arm, entry.corpus,
        entry.precision, f"{percent(entry.accuracy)} ±{percent(half)}", percent(entry.coarse), percent(entry.fine),
        str(entry.seeds), count(entry.items), megabytes,
    )  # fmt: skip


COLUMNS = ("rank", "arm", "corpus", "precision", "all", "coarse", "fine", "seeds", "items", "MB")
CAPTION = (
    "Accuracy in % on languages without labels; ± half of the 95 % interval; 1=: cannot be told from the best of its "
    "corpus and precision (Holm); MB: model, projection and anchors as stored."
)


def _markdown(listed: list[Ranking], runs: Mapping[str, Run]) -> str:
    lines = [f"# Leaderboard of {sum(len(run.provenance['runs']) for run in runs.values())} runs\n"]
    for name, run in runs.items():
        verdict = run.board.verdict
        lines.append(f"- **{name}**: {verdict.answer}. [Board]({name}/board.md), [page]({name}/report.html)")
    for name in runs:
        lines.append("")
        lines.append(to_markdown(Table.of(name, COLUMNS, map(_line, _of(listed, name)), CAPTION, words=4)))
    return "\n".join(lines) + "\n"


def _of(listed: list[Ranking], name: str) -> list[Ranking]:
    return [entry for entry in listed if entry.corpus == name]


def _page(listed: list[Ranking], runs: Mapping[str, Run]) -> str:
    style, script = page_style(), template("leaderboard.js")
    return (
        escaping()
        .get_template("leaderboard.html")
        .render(
            runs=runs,
            lines=[(entry, _line(entry)) for entry in listed],
            columns=COLUMNS,
            caption=CAPTION,
            choices={
                key: list(dict.fromkeys(getattr(e, key) for e in listed)) for key in ("corpus", "precision", "size")
            },
            notes={name: list(environments(run.provenance["runs"])) for name, run in runs.items()},
            style=Markup(style),
            script=Markup(script),
            policy=policy(style, script),
        )
    )
