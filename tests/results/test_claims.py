"""Claims: verdicts on runs with known effects, the rule that refuting takes evidence, and bad files as one line."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from scipy.stats import ttest_rel

from ecr_bench.arm import Arm
from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.report.export import to_markdown
from ecr_bench.report.terminal import print_claims
from ecr_bench.results.claim_schema import ClaimResult, ClaimsReport
from ecr_bench.results.claims_file import judge, load_claims, shipped_claims
from ecr_bench.results.evidence import Side
from ecr_bench.run import Run
from ecr_bench.statistics.by_seed import mean_difference
from ecr_bench.statistics.decision import decide
from ecr_bench.statistics.paired import compare
from ecr_bench.statistics.panel import build_panel
from ecr_bench.types import Measure
from tests.helpers.world import ALL_CONTROLS, LEVELS, Made, arm, board_of, finished, make, measured, run_of

BASE = {"id": "main", "says": "ECR wins.", "a": "ecr-1x", "b": "finetune-3x", "metric": "accuracy",
        "direction": "higher", "smallest_effect": 0.01}  # fmt: skip


def claims_file(folder: Path, *changes: dict[str, Any]) -> Path:
    path = folder / "claims.yaml"
    entries = [BASE | {"id": f"c{i}"} | change for i, change in enumerate(changes)]
    path.write_text(yaml.safe_dump({"claims": entries}))
    return path


def judged(folder: Path, made: Made, *changes: dict[str, Any], measures: list[Measure] | None = None) -> ClaimsReport:
    return judge("x", made.facts(measures), claims_file(folder, *changes))


@pytest.fixture(scope="module")
def made() -> Made:
    return make(LEVELS | ALL_CONTROLS, items=60)


@pytest.mark.parametrize(
    ("levels", "change", "verdict", "words"),
    [
        ({}, {}, "supported", "95 % interval"),
        ({"random-1x": 0.75}, {}, "not attributable to anchors", "Not attributable to anchors: random"),
        ({"codes-only-1x": 0.9}, {}, "not attributable to the language model", "codes-only does better"),
        ({"random-1x": 0.75, "codes-only-1x": 0.9}, {}, "not attributable to anchors", "the language model: codes-"),
        ({"random-1x": 0.75}, {"controls": []}, "not attributable to anchors", "anchors: random"),
        ({"ecr-1x": 0.2}, {}, "refuted", "The opposite holds"),
        ({"ecr-1x": 0.5}, {"smallest_effect": 0.2}, "refuted", "smaller than the smallest of interest, +20.0 points"),
        ({"ecr-1x": 0.75}, {"smallest_effect": 0.5}, "refuted", "smaller than the smallest of interest"),
        ({"ecr-1x": 0.5}, {}, "inconclusive", "holds both no effect and the smallest effect of interest, +1.0 points"),
        ({"ecr-1x": 0.2}, {"direction": "lower", "controls": []}, "supported", "p < .001"),
        (
            {"ecr-1x": 0.5, "finetune-3x": 0.6, **dict.fromkeys(ALL_CONTROLS, 0.3)},
            {"test": "non-inferiority", "smallest_effect": 0.2},
            "supported",
            "",
        ),
        ({"ecr-1x": 0.2}, {"test": "non-inferiority", "smallest_effect": 0.1}, "refuted", "exceeds the margin, −10.0"),
    ],
)
def test_verdicts_on_known_accuracies(
    tmp_path: Path, levels: dict[str, float], change: dict[str, Any], verdict: str, words: str
) -> None:
    run = make(LEVELS | ALL_CONTROLS | levels, items=100, precisions=("fp32",))
    (result,) = judged(tmp_path, run, change).results
    assert (result.verdict, words in result.sentence) == (verdict, True), result.sentence


def turned(change: dict[str, Any]) -> dict[str, Any]:
    """The same comparison, said of the other arm."""
    return change | {"a": "finetune-3x", "b": "ecr-1x", "direction": "lower"}


@pytest.mark.parametrize("said", [lambda change: change, turned], ids=["as it is", "turned round"])
@pytest.mark.parametrize("controls", [None, [], ["constant"], ["codes-only", "teacher-probe"]], ids=str)
@pytest.mark.parametrize("levels", [{}, {"random-1x": 0.75}, {"codes-only-1x": 0.9}, None], ids=str)
def test_no_way_to_put_an_accuracy_of_ecr_has_another_word_than_the_board(
    tmp_path: Path, levels: dict[str, float] | None, controls: list[str] | None, said: Any
) -> None:
    """Whatever controls a claim names, and whichever arm it begins with. ``None``: no control was run."""
    run = make(LEVELS | ALL_CONTROLS | (levels or {}), items=100, precisions=("fp32",))
    run = run.without(*(ALL_CONTROLS if levels is None else ()))
    facts = run.facts()
    for task in ("all", "fine"):
        (result,) = judge("x", facts, claims_file(tmp_path, said({"controls": controls, "task": task}))).results
        found = facts.contrast(Side(arm("ecr-1x"), "fp32"), Side(arm("finetune-3x"), "fp32"), "unseen", task)
        assert found and (result.verdict, result.p_holm) == (found.verdict, found.p_holm)
        assert set(result.untested_controls) == set(found.attribution.untested if found.attribution else ())
        assert "finetune-3x − random" not in result.sentence


@pytest.mark.parametrize("named", [[], ["constant"], ["random", "constant", "language"]], ids=str)
def test_a_claim_that_leaves_anchor_controls_out_is_not_attributed(
    made: Made, tmp_path: Path, named: list[str]
) -> None:
    values = {"ecr-1x": [0.9, 0.93, 0.91], "finetune-1x": [0.5, 0.52, 0.53]}
    values |= {name: [0.4, 0.45, 0.41] for name in ALL_CONTROLS}
    shared = {"metric": "mexa", "b": "finetune-1x"}
    anchors = ["random", "constant", "language", "shuffled"]
    changes = [shared | {"controls": controls} for controls in (named, anchors, None)]
    part, whole, every = judged(tmp_path, made, *changes, measures=measured("mexa", values)).results
    assert part.verdict == "supported, not attributed" and set(part.untested_controls) == set(anchors) - set(named)
    assert whole.verdict == every.verdict == "supported"


def test_the_numbers_and_words_are_those_of_the_board(made: Made, tmp_path: Path) -> None:
    report = judged(
        tmp_path, made, {}, {"precision": "nf4"}, {"task": "fine", "group": "seen"}, {"b": "finetune+distill-1x"}
    )
    board = {(str(c.a), str(c.b), c.group, c.task, c.precision, c.precision_b): c for c in board_of(made).contrasts}
    tested = [r for r in report.results if r.finding]
    assert report.tested == len(tested) == 3 and report.results[3].verdict == "not tested"
    for r in tested:
        found = board[str(r.a), str(r.b), r.claim.group, r.claim.task, r.claim.precision, r.claim.precision]
        assert r.finding and (r.finding.difference, r.finding.low, r.finding.mdd) == (
            pytest.approx(found.difference), pytest.approx(found.ci[0]), pytest.approx(found.mdd),
        )  # fmt: skip
        assert (r.p_holm, r.verdict, r.on_board) == (found.p_holm, found.verdict, True)
    assert report.corrected == 0
    assert report.results[0].evidence[0].row == {
        "arm": "ecr-1x", "precision": "fp32", "group": "unseen", "task": "all"
    }  # fmt: skip
    assert set(report.results[0].untested_controls) == set() and len(report.results[0].controls) == 5


def test_untested_is_said_with_the_reason(made: Made, tmp_path: Path) -> None:
    measures = measured("mexa", {"ecr-1x": [0.5], "finetune-1x": [0.4]}) + measured("rankc", {"ecr-1x": [0.5, 0.6]})
    mexa = {"metric": "mexa", "b": "finetune-1x"}
    changes = [
        ({"a": "ecr-3x"}, "ecr-3x is not in this run"),
        ({"precision": "int8"}, "ecr-1x was not scored in int8"),
        ({"task": "meaning"}, "no meaning task"),
        ({"metric": "cka_base"}, "cka_base was not measured in this run"),
        (mexa, "mexa: 1 seed in common, two are needed"),
        (mexa | {"metric": "rankc"}, "rankc of finetune-1x in fp32 was not measured"),
        ({"requires": {"finetune.clip": 2.0}}, "it needs finetune.clip = 2.0, this run has 1.0"),
        ({"needs_b_above": 0.9}, "accuracy of finetune-3x is"),
        ({"metric": "peak_memory"}, "peak_memory of ecr-1x in fp32 was not measured"),
        ({"metric": "ms_per_item", "b": "random-1x"}, "was not measured to be compared"),
    ]
    report = judged(tmp_path, made, *(change for change, _ in changes), measures=measures)
    for result, (_, words) in zip(report.results, changes, strict=True):
        assert result.verdict == "not tested" and words in result.sentence, result.sentence
    assert report.tested == 0


def test_an_arm_that_was_run_in_other_settings_alone_is_tested_where_there_is_one(made: Made, tmp_path: Path) -> None:
    change = {"b": {"method": "random", "at": "small"}, "controls": []}
    expected = judged(tmp_path, made, change).results[0]
    (one,) = judged(tmp_path, made.under("random-1x", {"pretrain.steps": 9}), change).results
    assert one.finding and expected.finding and one.finding.difference == pytest.approx(expected.finding.difference)
    assert "random-1x[pretrain.steps=9]" in one.sentence
    two = made.under("random-1x", {"pretrain.steps": 8}, {"pretrain.steps": 9})
    (result,) = judged(tmp_path, two, change).results
    assert result.verdict == "not tested"
    words = "was run only as random-1x[pretrain.steps=8], random-1x[pretrain.steps=9]: a claim must name one of them"
    assert words in result.sentence


def test_measures_are_paired_by_seed(made: Made, tmp_path: Path) -> None:
    a, b = [0.90, 0.93, 0.91, 0.95], [0.80, 0.85, 0.80, 0.86]
    measures = measured("cka_base", {"ecr-1x": a, "finetune-1x": [*b, 0.1], "random-1x": [0.7, 0.8, 0.7, 0.75]})
    measures += measured("cka_base", {"ecr-1x": [0.0] * 4, "finetune-1x": [0.5] * 4}, lang="de")
    measures += measured("cka_base", {"ecr-1x": [0.0] * 4, "finetune-1x": [0.5] * 4}, step=10)
    change = {"metric": "cka_base", "b": "finetune-1x"}
    (result,) = judged(tmp_path, made, change, measures=measures).results
    expected = ttest_rel(a, b)
    assert result.finding and result.verdict == "supported, not attributed"
    assert result.finding.p == pytest.approx(expected.pvalue) and result.finding.n_seeds == 4
    assert (result.finding.low, result.finding.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert [c.arm.name for c in result.controls] == ["random"] and result.controls[0].beaten
    assert "untested for lack of constant, language, shuffled, codes-only" in result.sentence
    assert {e.row["cell"] for e in result.evidence} == {
        f"{arm}-s{s}" for arm, s in itertools.product(("ecr-1x", "finetune-1x"), range(4))
    }


def test_a_control_that_reaches_the_measure_takes_the_gain_away(made: Made, tmp_path: Path) -> None:
    """Cues alone can fake clusters: random tokens that give the same number take the claim from the anchors."""
    arms = {"ecr-1x": [0.9, 0.93, 0.91], "finetune-1x": [0.5, 0.52, 0.52], "random-1x": [0.91, 0.92, 0.90]}
    change = {"metric": "mexa", "b": "finetune-1x"}
    (result,) = judged(tmp_path, made, change, measures=measured("mexa", arms)).results
    assert result.verdict == "not attributable to anchors" and result.not_beaten == ("random",)


def test_a_probe_without_layers_is_a_control_like_any_other(made: Made, tmp_path: Path) -> None:
    arms = {"ecr-1x": [0.9, 0.93, 0.91], "finetune-1x": [0.5, 0.52, 0.52]}
    measures = measured("mexa", arms, layer=-1) + measured("mexa", {"teacher-probe-1x": [0.95, 0.96, 0.97]})
    (result,) = judged(tmp_path, made, {"metric": "mexa", "b": "finetune-1x"}, measures=measures).results
    assert result.verdict == "not attributable to the language model" and result.better == ("teacher-probe",)
    measures += measured("mexa", {"ecr-1x": [0.1, 0.2, 0.1]}, layer=0)
    (result,) = judged(tmp_path, made, {"metric": "mexa", "b": "finetune-1x"}, measures=measures).results
    assert result.verdict == "not tested" and "at layers ['-1', '0']" in result.sentence


def test_values_inside_their_permutation_null_support_nothing(made: Made, tmp_path: Path) -> None:
    arms = {"ecr-1x": [0.030, 0.031, 0.032], "finetune-1x": [0.010, 0.012, 0.011]}
    change = {"metric": "mutual_knn_teacher", "b": "finetune-1x", "controls": []}
    kinds = (((0.02, 0.0, 0.05), "inconclusive"), ((0.001, 0.0, 0.005), "supported, not attributed"))
    for null, verdict in kinds:
        (result,) = judged(tmp_path, made, change, measures=measured("mutual_knn_teacher", arms, null=null)).results
        assert result.verdict == verdict
    unequal = measured("mexa", {"ecr-1x": [0.5, 0.6]}) + measured("mexa", {"finetune-1x": [0.4, 0.45]}, n=50)
    (result,) = judged(tmp_path, made, change | {"metric": "mexa"}, measures=unequal).results
    assert "different numbers of texts" in result.sentence


def test_settings_are_pooled_within_a_seed_where_the_claim_says_so(made: Made, tmp_path: Path) -> None:
    given = {("ecr", 1): [1.0, 0.0, 1.0], ("ecr", 2): [3.0, 2.0, 1.0], ("ecr", 9): [99.0] * 3,
             ("finetune", 1): [9.0, 8.0, 7.0], ("finetune", 2): [12.0, 9.0, 9.0]}  # fmt: skip
    spikes = {Arm.of(name, "1x", {"finetune.learning_rate": rate}): values for (name, rate), values in given.items()}
    change = {"metric": "loss_spikes", "direction": "lower", "b": "finetune-1x", "smallest_effect": 1, "controls": []}
    measures = measured("loss_spikes", spikes)
    apart, pooled = judged(tmp_path, made, change, change | {"pool_settings": True}, measures=measures).results
    assert apart.verdict == "not tested" and pooled.verdict == "supported, not attributed"
    expected = ttest_rel([2.0, 1.0, 1.0], [10.5, 8.5, 8.0])
    assert pooled.finding and pooled.finding.p == pytest.approx(expected.pvalue) and pooled.finding.n_seeds == 3


def test_costs_are_shares_and_exact_counts_need_no_interval(tmp_path: Path) -> None:
    made = make(LEVELS, seeds=3, precisions=("fp32",), items=10)
    times = {("ecr", 0): 10.5, ("ecr", 1): 10.3, ("ecr", 2): 10.4, ("finetune", 0): 10.0, ("finetune", 1): 10.1}
    cells = [
        c.model_copy(update={"peak_memory": times.get((c.arm.name, c.seed), 10.0), "bytes": 4 * (c.parameters or 0)})
        for c in made.cells
    ]
    change = {
        "b": "finetune-1x",
        "direction": "lower",
        "test": "non-inferiority",
        "controls": [],
        "smallest_effect": 0.1,
    }
    memory, size, floor = judged(
        tmp_path, made._replace(cells=cells), change | {"metric": "peak_memory"}, change | {"metric": "parameters"},
        change | {"metric": "bytes"},
    ).results  # fmt: skip
    geometric = (1.05 * 10.3 / 10.1 * 1.04) ** (1 / 3) - 1
    assert memory.finding and memory.finding.difference == pytest.approx(geometric)
    assert memory.verdict == "supported" and "% in peak_memory" in memory.sentence
    assert size.verdict == "refuted" and size.finding and size.finding.difference == pytest.approx(400 / 990)
    assert floor.verdict == "supported" and "a count without error" in floor.sentence


def test_decision_table() -> None:
    assert decide(0.1, 0.01) == "supported" and decide(-0.1, 0.01) == "refuted" and decide(0.1, 0.06) == "inconclusive"
    assert decide(0.005, 0.01, smallest=0.01, p_smaller=0.04) == "refuted"  # real, but too small to matter
    assert decide(0.005, 0.01, smallest=0.01, p_smaller=0.4) == "supported"
    assert decide(-0.01, 0.6, smallest=0.01, p_smaller=0.2) == "inconclusive"


def test_by_seed_says_why_there_is_no_interval() -> None:
    with pytest.raises(ValueError, match="no seeds in common"):
        mean_difference({0: 1.0}, {1: 1.0})
    with pytest.raises(ValueError, match="in each of 2 seeds, so no interval"):
        mean_difference({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0})


def test_false_verdicts_are_rare() -> None:
    """A/A supports or turns around in at most 5 % of runs; an effect just large enough is refuted in at most 2.5 %."""
    rng = np.random.default_rng(0)
    repeats, wrong, refuted = 2000, 0, 0
    for _ in range(repeats):
        noise = rng.normal(0, 0.1, (2, 3))
        same = mean_difference(dict(enumerate(noise[0])), dict(enumerate(noise[1])))
        wrong += decide(same.value, same.p) != "inconclusive"
        real = mean_difference(dict(enumerate(noise[0] + 0.05)), dict(enumerate(noise[1])))
        refuted += real.high < 0.05
    error = 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert wrong / repeats < 0.05 + error and refuted / repeats < 0.025 + error
    assert wrong / repeats > 0.05 - error


def test_shipped_claims_cover_the_paper_and_run_on_any_run(made: Made) -> None:
    claims = load_claims(shipped_claims()).claims
    assert {c.metric for c in claims} >= {"accuracy", "cka_base", "mutual_knn_teacher", "mexa", "loss_spikes", "bytes"}
    assert {c.precision for c in claims} == {"fp32", "int8", "nf4"}
    assert {c.b.method for c in claims} >= {"finetune+distill"}
    report = judge("quick", made.facts(), shipped_claims())
    assert {r.claim.id: r.verdict for r in report.results}["beats-3x"] == "supported"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": "magic-1x"}, ["claim c0", "unknown arm 'magic-1x'", "codes-only-1x"]),
        ({"a": "ecr"}, ["claim c0", "unknown arm 'ecr'", "ecr-1x"]),
        ({"a": {"method": "magic", "at": "small"}}, ["claim c0", "unknown method of arm 'magic'", "codes-only"]),
        ({"a": {"role": "main"}}, ["claim c0", "either 'at' (small, large) or 'size'"]),
        (
            {"a": {"role": "main", "method": "ecr", "size": "1x"}},
            ["claim c0", "either 'role' (main, plain) or 'method'"],
        ),
        ({"a": {"role": "chief", "at": "small"}}, ["claim c0", "'main' or 'plain'"]),
        ({"metric": "accurracy"}, ["unknown metric 'accurracy'", "accuracy", "mexa"]),
        ({"direction": "up"}, ["direction", "'higher' or 'lower'", "'up'"]),
        ({"test": "t"}, ["superiority"]),
        ({"smallest_effect": 0}, ["smallest_effect", "greater than 0"]),
        ({"task": "sums"}, ["unknown task 'sums'", "coarse"]),
        ({"precision": "fp8"}, ["unknown precision 'fp8'", "nf4"]),
        ({"group": "dev"}, ["group", "'unseen' or 'seen'"]),
        ({"controls": ["placebo"]}, ["placebo", "random"]),
        ({"requires": {"finetune.klip": 1}}, ["requires", "finetune.klip", "clip"]),
        ({"b": "ecr-1x"}, ["the same arm"]),
        ({"metrik": "mexa"}, ["metrik", "metric"]),
    ],
)
def test_bad_claims_are_one_line(
    tmp_path: Path, made: Made, capsys: pytest.CaptureFixture[str], change: dict[str, Any], words: list[str]
) -> None:
    path = claims_file(tmp_path, change)
    with pytest.raises(UserError) as caught:
        judge("x", made.facts(), path)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in [*words, str(path)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("claims: [", ":1: not YAML"),
        ("- a", "mapping with a list"),
        ("claims: []", "claims"),
        ("x: 1", "unknown key|claims: Field"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"mine.yaml.*({words})"):
        load_claims(path)
    with pytest.raises(UserError, match="no such file"):
        load_claims(tmp_path / "nowhere.yaml")
    path.write_text(yaml.safe_dump({"claims": [BASE, BASE]}))
    with pytest.raises(UserError, match=r"id '?main'? is there twice"):
        load_claims(path)


def test_command_judges_a_finished_run_again(
    tmp_path: Path, made: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    folder = tmp_path / "quick"
    arms = {"ecr-1x": [0.6, 0.7, 0.65], "finetune-1x": [0.3, 0.3, 0.33]}
    finished(folder, made, measured("mexa", arms))
    main(["claims", "quick", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "supported" in shown and "beats-distill: this run has no finetune+distill" in shown
    report = Run.load(folder).claims
    assert report and {r.claim.id: r.verdict for r in report.results}["aligns-languages"] == "supported, not attributed"
    own = claims_file(tmp_path, {"says": "Mine <b>wins</b>."})
    main(["claims", "quick", "--out", str(tmp_path), "--claims", str(own)])
    report = Run.load(folder).claims
    assert report and [r.claim.says for r in report.results] == ["Mine <b>wins</b>."]
    assert "Mine &lt;b>wins&lt;/b>." in (folder / "board.md").read_text()
    page = (folder / "report.html").read_text()
    assert "Mine &lt;b&gt;wins&lt;/b&gt;." in page
    own.write_text("claims: 1")
    with pytest.raises(SystemExit):
        main(["claims", "quick", "--out", str(tmp_path), "--claims", str(own)])
    assert Run.load(folder).claims == report and (folder / "report.html").read_text() == page


def test_report_reads_back_and_is_shown_in_words(tmp_path: Path, made: Made) -> None:
    report = judged(tmp_path, made, {}, {"metric": "mexa", "b": "finetune-1x"})
    run = replace(run_of(made), claims=report)
    run.write(tmp_path)
    assert Run.load(tmp_path).claims == report and "NaN" not in (tmp_path / "claims.json").read_text()
    text = to_markdown(run)
    assert text.index("## Does ecr-1x") < text.index("## Claims") and "**ECR wins.** Supported." in text
    assert to_markdown(run_of(made)).find("## Claims") == -1
    out = io.StringIO()
    print_claims(report, Console(file=out, width=80))
    assert max(map(len, out.getvalue().splitlines())) <= 80 and "c1: mexa was not measured" in out.getvalue()


def test_claims_agree_with_a_direct_comparison(made: Made, tmp_path: Path) -> None:
    (result,) = judged(tmp_path, made, {"task": "coarse", "b": "finetune-1x"}).results
    panel = build_panel(made.records[made.records["group"] == "unseen"])
    found = compare(panel, "ecr-1x", "finetune-1x", "fp32", "fp32", "coarse")
    assert isinstance(result, ClaimResult) and result.finding
    assert result.finding.difference == found.value == result.finding.mean_a - result.finding.mean_b
