"""A run in a terminal of 80 columns, and board.md: what matters stands where a reader looks."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from ecr_bench.arm import Arm, Role
from ecr_bench.report.export import to_markdown
from ecr_bench.report.terminal import print_run
from ecr_bench.run import Run
from tests.helpers.page_sample import sample_run
from tests.helpers.world import LEVELS, arm, make, run_of


@pytest.fixture(scope="module")
def run() -> Run:
    return run_of(make(), provenance={"commit": "abc"})


def printed(run: Run, page: Path | None = None) -> str:
    out = io.StringIO()
    print_run(run, Console(file=out, width=80), page)
    return out.getvalue()


def test_the_terminal_ends_with_verdict_the_one_table_and_the_page() -> None:
    run = sample_run()
    text = " ".join(printed(run, Path("runs/quick/report.html")).split())
    marks = [
        "Geometry of the finished cells", "by precision", "Seen languages, fp32", "Claims (claims.yaml)",
        run.board.verdict.question, "all tasks: not attributable to anchors.",
        "Unseen languages, fp32", "Page: runs/quick/report.html",
    ]  # fmt: skip
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places) and text.endswith("board.md beside it")


def test_it_fits_80_columns_with_contenders_above_controls_above_chance(run: Run) -> None:
    text = printed(run)
    assert max(len(line) for line in text.splitlines()) <= 80
    last = text[text.index("Unseen languages, fp32") :]
    line = next(line for line in last.splitlines() if line.strip().startswith("codes-only-1x"))
    assert line.count("±") == 3
    assert last.index("finetune-1x   ") < last.index("shuffled-1x  ") < last.index(" chance")


def test_long_names_fit_80_columns_and_keep_every_number() -> None:
    settings = {"anchors.assignment": "residual", "control_tokens.count": 8, "control_tokens.placement": "interleaved"}
    levels: dict[Arm, float] = {arm(name): level for name, level in (LEVELS | {"finetune+lora-1x": 0.5}).items()}
    levels[Arm.of("ecr", "1x", settings, Role.MAIN)] = 0.6
    run = run_of(make(levels, items=10, precisions=("fp32", "bf16", "int8", "nf4")))
    text = printed(run)
    assert max(map(len, text.splitlines())) <= 80 and "\N{HORIZONTAL ELLIPSIS}" not in text
    squeezed = "".join(text.split())
    for row in (r for r in run.board.rows if r.precision == "fp32" and r.task in ("coarse", "fine", "all")):
        assert f"{100 * row.mean:.1f}±{50 * (row.ci[1] - row.ci[0]):.1f}" in squeezed


def test_a_question_that_was_not_tested_is_said_so() -> None:
    text = printed(run_of(make({"finetune-1x": 0.5}, items=5)))
    assert "Not tested: this board has no unseen language" in " ".join(text.split())


def test_a_board_of_many_settings_says_why_it_has_no_verdict() -> None:
    made = make(LEVELS, precisions=("fp32",), items=10).under("ecr-1x", {"control_tokens.count": 8})
    text = to_markdown(run_of(made))
    assert "ECR was run here only with settings of its own, 1 of them" in text


def test_markdown_leads_with_the_verdict(run: Run) -> None:
    text = to_markdown(run)
    assert text.index("## Does ecr-1x") < text.index("## Unseen languages, fp32") < text.index("## Seen languages")
    for heading in (
        "Precision, unseen",
        "ECR minus its controls and rivals",
        "Accuracy by language",
        "Surface baselines",
    ):
        assert f"## {heading}" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert "| ja (unseen) |" in text and "a note" in text and '"commit": "abc"' in text
    widths = [line.count("|") for line in tables]
    rules = [i for i, line in enumerate(tables) if set(line) <= set("|-: ")]
    for start, stop in zip(rules, [*(r - 1 for r in rules[1:]), len(tables)], strict=True):
        assert len(set(widths[start - 1 : stop])) == 1
