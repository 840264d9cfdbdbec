"""An ablation as Markdown and as one HTML file that needs no network."""

from __future__ import annotations

from html import escape

from ecr_bench.report.measure_tables import number
from ecr_bench.report.plots import THEME
from ecr_bench.results.ablation_schema import AblationResult, Point
from ecr_bench.results.divergence import METRICS, Stability
from ecr_bench.results.words import covered, interval, points

STABILITY = ("runs", "diverged", "rate (95 %)", "spike score", "loss spikes", "gradient median", "95 %", "max")
Line = tuple[str, ...]
Grid = tuple[str, Line, list[Line]]
"""Title, column heads, lines."""


def grids(result: AblationResult) -> list[Grid]:
    """The tables behind the plot: accuracy of each point and reference, then differences from the references."""
    tables: list[Grid] = []
    for split in dict.fromkeys(str(point.split) for point in result.points):
        mine = [p for p in (*result.points, *result.references) if p.split == split]
        tasks = list(dict.fromkeys(point.task for point in mine))
        found = {(p.series, p.label, p.task): p for p in mine}
        lines = [
            (
                series,
                label,
                str(found[series, label, tasks[0]].n_seeds),
                *(_cell(found[series, label, t]) for t in tasks),
            )
            for series, label in dict.fromkeys((p.series, p.label) for p in mine)
        ]
        over = covered(point.covers for point in mine)
        title = f"Accuracy in %, {split} languages, {result.precision} (95 % interval over {over})"
        tables.append((title, ("line", result.label, "seeds", *tasks), lines))
    if result.differences:
        tables.append(_differences(result))
    if result.stability:
        lines = [(row.series, row.label, *_stability(row)) for row in result.stability]
        tables.append(("Stability of training, all runs", ("line", result.label, *STABILITY), lines))
    return tables


def _stability(row: Stability) -> tuple[str, ...]:
    """The row under ``STABILITY``."""
    rate = f"{100 * row.rate:.0f} % ({100 * row.ci[0]:.0f} to {100 * row.ci[1]:.0f})"
    values = (getattr(row, name) for name in METRICS)
    return (str(row.runs), str(row.diverged), rate, *("\N{EN DASH}" if v is None else number(v) for v in values))


def _cell(point: Point) -> str:
    return f"{100 * point.mean:.1f} ({100 * point.ci[0]:.1f} to {100 * point.ci[1]:.1f})"


def _differences(result: AblationResult) -> Grid:
    found = {(d.series, d.label, d.reference, d.task): d for d in result.differences}
    heads = list(dict.fromkeys((d.reference, d.task) for d in result.differences))
    lines = []
    for series, label in dict.fromkeys((d.series, d.label) for d in result.differences):
        cells = (found.get((series, label, *head)) for head in heads)
        lines.append(
            (series, label, *(f"{points(d.difference)} ({interval(d.ci)})" if d else "\N{EN DASH}" for d in cells))
        )
    title = "Points above a reference, unseen languages, paired by item (95 % interval, not corrected for multiplicity)"
    return title, ("line", result.label, *(f"{task}: minus {reference}" for reference, task in heads)), lines


def to_markdown(result: AblationResult) -> str:
    """Findings, plot, tables, notes."""
    parts = [f"# {result.name}: {result.label}", *result.findings, f"![{result.label}](ablation.png)"]
    for title, heads, lines in grids(result):
        rows = ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in (heads, *lines)]
        rule = "|" + " --- |" * 2 + " ---: |" * (len(heads) - 2)
        parts.append("\n".join([f"## {title}", "", rows[0], rule, *rows[1:]]))
    parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in result.notes))
    return "\n\n".join(parts) + "\n"


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def to_html(result: AblationResult, svg: str) -> str:
    """One self-contained page; light and dark follow the reader's system."""
    light, dark = (";".join(f"--c{i}:{pair[side]}" for i, pair in enumerate(THEME)) for side in (0, 1))
    ink, grid, paper = (f"var(--c{i})" for i in range(len(THEME) - 3, len(THEME)))
    title = escape(f"{result.name}: {result.label}")
    tables = "".join(_table(*grid_) for grid_ in grids(result))
    findings = "".join(f"<p>{escape(line)}</p>" for line in result.findings)
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>
:root{{color-scheme:light dark;{light}}}
@media (prefers-color-scheme:dark){{:root{{{dark}}}}}
@media print{{:root{{{light}}}}}
body{{margin:auto;max-width:68rem;padding:1.5rem 1rem;background:{paper};color:{ink}}}
body{{font:16px/1.5 system-ui,sans-serif}}
h1{{font-size:1.4rem}} svg{{width:100%;height:auto}} .wide{{overflow-x:auto}}
table{{border-collapse:collapse;font-size:.875rem;margin:1.5rem 0;font-variant-numeric:tabular-nums}}
caption{{text-align:left;font-weight:600;padding:.3rem 0}}
th,td{{padding:.25rem .75rem .25rem 0;border-bottom:1px solid {grid};text-align:right;white-space:nowrap}}
th:first-child,td:nth-child(2),th:nth-child(2){{text-align:left}}
</style></head><body><main><h1>{title}</h1>{findings}
<figure role="img" aria-label="Accuracy against {escape(result.label)}; the tables below hold the same numbers">
{svg}</figure>{tables}<h2>Notes</h2><ul>{notes}</ul></main></body></html>
"""


def _table(title: str, heads: Line, lines: list[Line]) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(line[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in line[1:])
        + "</tr>"
        for line in lines
    )
    return (
        f'<div class="wide" tabindex="0"><table><caption>{escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
