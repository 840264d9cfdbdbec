"""Tables of measures: means and intervals over seeds, chance beside them, controls below; divergence per line."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from markupsafe import escape
from rich.console import Console
from scipy.stats import beta
from scipy.stats import t as student

from ecr_bench.arm import Arm
from ecr_bench.formats import number
from ecr_bench.report.export import to_markdown
from ecr_bench.report.measure_tables import (
    TABLES,
    ablation_tables,
    cost_table,
    entry,
    half_interval,
    measure_tables,
    reasons_table,
    short_table,
    timing_table,
)
from ecr_bench.report.page import render_page
from ecr_bench.report.terminal import print_run
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.divergence import stability_of
from ecr_bench.results.timings import Timing
from ecr_bench.runner.ablation import Place
from ecr_bench.statistics.by_seed import mean_difference
from ecr_bench.types import Measure
from tests.helpers.page_sample import sample_ablation
from tests.helpers.world import arm, make, run_of


def of(method: str | Arm, metric: str, value: float | None, seed: int = 0, **more) -> Measure:
    given = {"null": (0.01, 0.0, 0.02), "layer": -1, "n": 50, **more}
    one = arm(method, "1x")
    return Measure(metric, value, cell=f"{one}-s{seed}", arm=one, seed=seed, **given)


MEASURES = [
    of("random", "cka_base", 0.7),
    of("finetune", "cka_base", 0.5),
    of("ecr", "cka_base", 0.6, 0),
    of("ecr", "cka_base", 0.7, 1),
    of("oracle", "cka_base", 0.4),
    of("ecr", "cka_base", 0.1, step=10),
    of("ecr", "mexa", 0.2, lang="de"),
    of("ecr", "mexa", None),
    of("ecr", "mutual_knn_teacher", 0.25),
    of("random", "language_separability", 0.9),
]


def test_a_table_has_seeds_chance_and_controls_below_contenders():
    drift = measure_tables(MEASURES)[0]
    assert drift.title == "Drift from the base model, layer -1" and drift.columns == ("arm", "CKA base")
    half = student.ppf(0.975, 1) * np.std([0.6, 0.7], ddof=1) / np.sqrt(2)
    assert drift.sections == (
        (("finetune-1x", "0.50 (0.01)"), ("ecr-1x", f"0.65 ±{half:.2f} (0.01)")),
        (("random-1x", "0.70 (0.01)"),),
        (("oracle-1x", "0.40 (0.01)"),),
        (("n", "50"),),
    )


def test_steps_and_single_languages_stay_out_and_nothing_measured_gives_no_table():
    assert [table.title.split(",")[0] for table in measure_tables(MEASURES)] == [
        "Drift from the base model",
        "Manifold of the sentence vectors",
        "Languages in one space",
    ]
    assert not measure_tables([]) and not short_table([])
    assert not short_table([of("ecr", "mexa", None)])


def test_what_could_not_be_measured_is_listed_with_its_reason():
    why = {"value": None, "null": None, "reason": "all rows are equal"}
    rows = [
        Measure(name, **why, **more, cell="c", arm=arm("ecr-1x"))
        for name, more in [("isoscore", {}), ("hubness", {}), ("mexa", {"lang": "de"}), ("mexa", {"step": 3})]
    ]
    last = measure_tables([*MEASURES, *rows])[-1]
    # other cells of the arm have numbers
    assert last.title == "Not measured" and last.sections == ((("c", "all rows are equal", "isoscore, hubness"),),)
    assert not any(table.title == "Not measured" for table in measure_tables(MEASURES))


def test_reasons_name_the_cells_where_other_seeds_of_an_arm_have_a_number():
    def lacks(name: str, cell: str, reason: str = "all rows are equal") -> Measure:
        return Measure("isoscore", None if reason else 0.5, reason=reason, cell=cell, arm=arm(name))

    both = [lacks("ecr-1x", "ecr-1x-s0"), lacks("ecr-1x", "ecr-1x-s1"), lacks("random-1x", "random-1x-s0")]
    table = reasons_table([*both, lacks("finetune-1x", "finetune-1x-s0"), lacks("finetune-1x", "finetune-1x-s1", "")])
    assert table.lines == (("ecr-1x, random-1x, finetune-1x-s0", "all rows are equal", "isoscore"),)


def test_reasons_stand_on_page_terminal_and_markdown_in_the_words_of_the_run():
    why = "9.1 % of rows are near-duplicates <b>&"
    run = run_of(make(items=10), [Measure("intrinsic_dimension", None, reason=why, cell="c", arm=arm("ecr-1x"))])
    output = io.StringIO()
    print_run(run, Console(file=output, width=200))
    assert why in output.getvalue() and "Not measured" in output.getvalue()
    assert str(escape(why)) in render_page(run) and 'id="unmeasured"' in render_page(run)
    assert "near-duplicates" in to_markdown(run) and "## Not measured" in to_markdown(run)
    assert 'id="unmeasured"' not in render_page(run_of(make(items=10)))


def timed(name: str, metric: str, precision: str, *rounds: float) -> Timing:
    told = {"session": "2026-01-01", "interleaved": True, "host": "h", "device": "cpu, 2 threads", "code": "c"}
    return Timing(arm=arm(name), seed=0, metric=metric, precision=precision, rounds=rounds, count=40, **told)


def test_times_stand_beside_the_smallest_plain_arm_by_what_was_timed():
    timings = [
        timed("finetune-3x", "train_seconds", "fp32", 0.3, 0.3, 0.33),
        timed("finetune-1x", "train_seconds", "fp32", 0.1, 0.1, 0.1),
        timed("ecr-1x", "ms_per_item", "int8", 2.0, 2.1, 2.2),
        timed("finetune-1x", "ms_per_item", "int8", 1.0, 1.0, 1.0),
    ]
    made = make(items=10)
    table = timing_table(timings, made.cells)
    assert table.columns[-1] == "times finetune-1x" and [len(section) for section in table.sections] == [2, 2]
    assert [line[1:3] for line in table.lines] == [
        ("a training step", "310"), ("a training step", "100"), ("an item, int8", "2.10"), ("an item, int8", "1.00"),
    ]  # fmt: skip
    ratio = mean_difference({0: 3.0, 1: 3.0, 2: 3.3}, dict.fromkeys(range(3), 1.0), relative=True)
    assert table.lines[0][3] == f"{1 + ratio.value:.2f} ({1 + ratio.low:.2f} to {1 + ratio.high:.2f})"
    assert table.lines[1][3] == "–" and "3 rounds" in table.caption and "40 steps and 40 items" in table.caption
    run = replace(run_of(made), timings=timings)
    assert 'id="time"' in render_page(run) and "Time, measured to be compared" in to_markdown(run)
    assert 'id="time"' not in render_page(run_of(made)) and not timing_table([], made.cells)


def test_the_tables_name_registered_metrics_only():
    from ecr_bench.metrics.registry import METRICS

    assert {metric for _, metrics in TABLES for metric in metrics} <= set(METRICS)


def test_the_short_table_fits_eighty_columns():
    metrics = ("cka_base", "mutual_knn_teacher", "mexa", "language_separability")
    full = [of(arm, m, 0.123, seed) for arm in ("finetune", "ecr+dropout") for m in metrics for seed in (0, 1)]
    full += [of("teacher-probe", "mexa", 0.5)]
    output = io.StringIO()
    print_run(run_of(make(items=10), full), Console(file=output, width=80))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and any("ecr+dropout-1x" in line and "0.12 ±0.00" in line for line in lines)


def test_half_of_an_interval_over_seeds():
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.302652729911275 * 1 / np.sqrt(3))


def at_rate(name: str, rate: float) -> Arm:
    return Arm.of(name, "1x", {"finetune.learning_rate": rate})


def test_divergence_is_counted_at_each_value_and_over_the_whole_line():
    places = [
        Place(series, label, None, at_rate(name, rate))
        for series, name in (("plain", "finetune"), ("ECR", "ecr"))
        for label, rate in (("low", 0.1), ("high", 1.0))
    ]
    outcomes = {at_rate("finetune", 0.1): (0, 0), at_rate("finetune", 1.0): (1, 1), at_rate("ecr", 1.0): (0, 1)}
    measures = [of(m, "diverged", float(v), seed) for m, values in outcomes.items() for seed, v in enumerate(values)]
    measures += [of(at_rate("ecr", 1.0), "spike_score", value, seed) for seed, value in enumerate((0.2, 0.4))]
    norms = {0: (3.0, 1e12), 1: (None, None)}
    measures += [of(at_rate("finetune", rate), "grad_norm_max", value, seed)
                 for rate, seed in ((0.1, 0), (1.0, 1)) for value in norms[seed]]  # fmt: skip
    rows = stability_of(places, measures)
    assert [row.grad_norm_max for row in rows] == [(3.0 + 1e12) / 2, None, None, None]
    assert [(r.series, r.label, r.diverged, r.runs) for r in rows] == [
        ("plain", "low", 0, 2), ("plain", "high", 2, 2), ("plain", "all", 2, 4), ("ECR", "high", 1, 2),
    ]  # fmt: skip
    assert rows[2].ci == pytest.approx((beta.ppf(0.025, 2, 3), beta.ppf(0.975, 3, 2)))
    assert rows[3].spike_score == pytest.approx(0.3) and rows[0].spike_score is None
    table = ablation_tables(sample_ablation().model_copy(update={"stability": rows}))[-1]
    shown = {line[:2]: line[2:6] for line in table.lines}
    assert table.title.startswith("Stability") and shown["ECR", "high"] == ("2", "1", "50 % (1 to 99)", "0.30")
    assert shown["plain", "low"][3] == "\N{EN DASH}" and table.lines[0][-1] == "5.0e11"
    assert number(1e7) == "1.0e7" and number(-2.5e9) == "\N{MINUS SIGN}2.5e9" and number(9_999_999.0) == "9,999,999"


def test_a_mean_says_how_many_seeds_have_a_value():
    some = [of(arm("ecr-1x"), "grad_norm_max", value, seed) for seed, value in enumerate((2.0, 2.0, None))]
    assert ", 2 of 3 (" in entry(some) and ", " not in entry(some[:2])


def test_cost_table_has_one_line_per_cell_and_shows_what_was_not_measured() -> None:
    first = CellCosts(
        cell="a", arm=arm("ecr-1x"), seed=0, precision="fp32", parameters=2_000_000, train_seconds=4.0, tokens=8000,
        finite=False, peak_memory=1_200_000_000,
    )  # fmt: skip
    other = CellCosts(cell="b", arm=arm("ecr-1x"), seed=1, precision="fp32")
    table = cost_table([first, first.model_copy(update={"precision": "nf4"}), other])
    assert table.lines[0] == ("a", "2.00M", "4.0", "8.0k", "2,000", "1.20G", "–", "–", "yes")
    assert table.lines[1] == ("b", *["–"] * 8)
