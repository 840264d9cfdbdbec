"""``ecr-bench time``: arms in turn, by the stages' own code, and what the published run then says of time."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ecr_bench.cli import main
from ecr_bench.config import load
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import read_records, write_records
from ecr_bench.io import read_json
from ecr_bench.publish import judge_again, publish
from ecr_bench.results.timings import fault_of
from ecr_bench.run import Run
from ecr_bench.runner import timing
from ecr_bench.runner.perform import run_stage
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.store import Store
from ecr_bench.runner.timing import Subject, Turn, in_order, to_warm_up
from ecr_bench.stages.pace import check_steps
from ecr_bench.stages.score import ScoreStage
from ecr_bench.stages.train import TrainStage
from ecr_bench.timing import Asked, time_and_publish
from ecr_bench.verify import verify

YAML = """\
extends: tiny
name: timed
teacher: {name: bag, rows: 200}
precisions: [fp32, bf16]
finetune: {steps: 100}
geometry: {measure: false}
cells:
  - {method: finetune}
  - {method: ecr, seeds: [1, 0]}
  - {method: teacher-probe}
  - {method: ecr, set: {finetune.learning_rate: 1000000.0}}
"""
ARMS = {"finetune-1x", "ecr-1x", "teacher-probe-1x"}
FAST = "ecr-1x[finetune.learning_rate=1000000.0]"


def planned(folder: Path) -> Plan:
    return make_plan(load(str(folder / "timed.yaml")))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment and its finished run."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "timed.yaml").write_text(YAML)
    plan, store = planned(folder), Store(folder / "runs")
    for stage in plan.stages.values():
        run_stage(stage, store, lambda done, total: None)
    publish(plan, store, folder / "runs" / "timed")
    return folder


@pytest.fixture
def here(kept: Path, tmp_path: Path) -> Path:
    shutil.copytree(kept, tmp_path / "here")
    return tmp_path / "here"


def command(folder: Path, *more: str) -> list[str]:
    return ["time", str(folder / "timed.yaml"), "--out", str(folder / "runs"), "--steps", "10", *more]


def taken(monkeypatch: pytest.MonkeyPatch) -> list[Turn]:
    """The turns from now on, which take no time: an item, or a step, of the n-th turn takes n."""
    turns: list[Turn] = []

    def take(turn: Turn, *_: Any) -> float:
        turns.append(turn)
        return float(len(turns))

    monkeypatch.setattr(timing, "take", take)
    return turns


# --- what is measured ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_time_is_measured_by_the_stages_own_code_and_judged(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: Counter[str] = Counter()
    for work in (TrainStage, ScoreStage):

        def spied(*given: Any, kind: str = work.kind, run: Any = work.run) -> Any:
            calls[kind] += 1
            return run(*given)

        monkeypatch.setattr(work, "run", staticmethod(spied))
    before = {path: path.stat().st_mtime_ns for path in (here / "runs" / "store").rglob("*")}
    untimed = {r.claim.id: r.verdict for r in Run.load(here / "runs" / "timed").claims.results}  # type: ignore[union-attr]
    assert untimed["trains-at-no-extra-cost"] == untimed["answers-at-no-extra-cost"] == "not tested"
    main(command(here, "--rounds", "3", "--precisions", "fp32"))
    said = " ".join(capsys.readouterr().out.split())
    assert "3 rounds of 5 turns (3 arms): about" in said and "times finetune-1x" in said
    # in each round two arms are trained and three scored; one of each before
    assert calls == {"train": 3 * 2 + 1, "score": 3 * 3 + 1}
    assert before == {path: path.stat().st_mtime_ns for path in (here / "runs" / "store").rglob("*")}

    run = Run.load(here / "runs" / "timed")
    of = {(str(t.arm), t.metric): t for t in run.timings}
    assert set(of) == {(arm, "ms_per_item") for arm in ARMS} | {
        (a, "train_seconds") for a in ARMS - {"teacher-probe-1x"}
    }
    items = run.records().groupby(["cell", "precision"]).size().iloc[0]
    for (_, metric), one in of.items():
        assert (one.count, len(one.rounds), one.precision) == (10 if metric == "train_seconds" else items, 3, "fp32")
        assert one.interleaved and min(one.rounds) > 0
    assert of["ecr-1x", "ms_per_item"].seed == 1  # its first
    assert len({(t.session, t.host, t.device, t.code) for t in run.timings}) == 1
    by_id = {r.claim.id: r for r in run.claims.results}  # type: ignore[union-attr]
    for name in ("trains-at-no-extra-cost", "answers-at-no-extra-cost"):
        finding = by_id[name].finding
        assert by_id[name].verdict != "not tested" and finding and finding.covers == "rounds"
        assert {e.row["session"] for e in by_id[name].evidence} == {run.timings[0].session}
    others = {name: verdict for name, verdict in untimed.items() if "cost" not in name}
    assert others.items() <= {name: r.verdict for name, r in by_id.items()}.items()
    assert 'id="time"' in (here / "runs" / "timed" / "report.html").read_text()
    assert any("timings.json" in line for line in verify(here / "runs" / "timed"))


@pytest.mark.slow
def test_timings_are_part_of_the_run_and_stay_with_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(monkeypatch)
    folder = here / "runs" / "timed"
    main(command(here, "--rounds", "3"))
    timed = Run.load(folder)
    assert "timings.json" in read_json(folder / "run.json")["files"] and timed.timings
    plan, store = planned(here), Store(here / "runs")
    assert publish(plan, store, folder).timings == timed.timings  # nothing changed: as it is
    judge_again(folder, None)
    assert Run.load(folder).timings == timed.timings
    monkeypatch.setattr("ecr_bench.publish.__version__", "0")  # published anew, of the same stages
    again = publish(plan, store, folder)
    assert again.made_from != timed.made_from and again.timings == timed.timings
    verify(folder)
    (folder / "timings.json").write_text((folder / "timings.json").read_text().replace('"count": 10', '"count": 20'))
    with pytest.raises(UserError, match=r"timings\.json: was changed"):
        verify(folder)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["identity", "fingerprints"])
def test_timings_of_another_experiment_or_of_other_stages_are_dropped(
    here: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(monkeypatch)
    folder = here / "runs" / "timed"
    main(command(here, "--rounds", "3"))
    run = Run.load(folder)
    board = run.board.model_copy(update={"provenance": {**run.provenance, key: "another"}})
    replace(run, board=board).write(folder)
    monkeypatch.setattr("ecr_bench.publish.__version__", "0")
    assert publish(planned(here), Store(here / "runs"), folder).timings == ()
    assert not (folder / "timings.json").exists()


@pytest.mark.slow
def test_a_later_session_takes_the_place_of_an_earlier_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(monkeypatch)
    main(command(here, "--rounds", "4"))
    (here / "elsewhere").mkdir()
    shutil.copytree(here / "runs" / "timed", here / "elsewhere" / "mine")
    arms = ["--arms", "ecr-1x", "finetune-1x", "--precisions", "bf16"]
    main(command(here, "--rounds", "3", "--to", str(here / "elsewhere" / "mine"), *arms))
    there, own = Run.load(here / "elsewhere" / "mine").timings, Run.load(here / "runs" / "timed").timings
    assert {len(t.rounds) for t in there} == {3} and {len(t.rounds) for t in own} == {4}
    assert {t.precision for t in there if t.metric == "ms_per_item"} == {"bf16"}


# --- in which order -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_diverged_has_no_turn_and_all_others_take_theirs_in_every_round(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = taken(monkeypatch)
    main(command(here, "--rounds", "3"))
    assert {str(turn.subject.arm) for turn in turns} == ARMS
    # two train, three are scored in fp32, the probe has no bf16: once each to warm up, then in every round
    assert Counter(turn.precision for turn in turns) == {"": 3 * 2 + 1, "fp32": 3 * 3 + 1, "bf16": 3 * 2 + 1}


@pytest.mark.parametrize("arms", [2, 3, 5])
@pytest.mark.parametrize("kinds", [("",), ("", "fp32", "int8")])
def test_rounds_are_interleaved_and_nobody_always_goes_first(arms: int, kinds: tuple[str, ...]) -> None:
    subjects = [Subject(None, None, None) for _ in range(arms)]  # type: ignore[arg-type]
    turns = [Turn(subject, kind) for kind in kinds for subject in subjects]
    rounds = [in_order(turns, number) for number in range(2 * arms)]
    places: dict[Turn, list[int]] = {turn: [] for turn in turns}
    for order in rounds:
        assert len(order) == len(turns) and set(order) == set(turns)
        assert [turn.precision for turn in order] == [kind for kind in kinds for _ in subjects]
        for place, turn in enumerate(order):
            places[turn].append(place % arms)
    # over all rounds everybody has stood everywhere alike
    assert all(Counter(stood) == dict.fromkeys(range(arms), 2) for stood in places.values())
    assert [turn.precision for turn in to_warm_up(turns)] == list(kinds)


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--rounds", "2"], "--rounds 2: must be 3 or more"),
        (["--rounds", "0"], "--rounds 0: must be 3 or more"),
        (["--steps", "15"], "--steps 15: must be a multiple of 10 from 10 to 10"),
        (["--steps", "20"], "--steps 20: must be a multiple of 10 from 10 to 10 (of 100 steps"),
        (["--steps", "0"], "--steps 0: must be a multiple"),
        (["--arms", "ecr-1x", "ecr-9x"], f"unknown --arms 'ecr-9x': allowed are ecr-1x, {FAST}, finetune-1x"),
        (["--arms", "ecr-1x"], "1 arm to time, two are needed"),
        (["--arms", "ecr-1x", FAST], "no two of its arms can be compared"),
        (["--precisions", "nf4"], "unknown --precisions 'nf4': allowed are bf16, fp32"),
        (["--set", "finetune.steps=99"], "of other settings than timed"),
        (["--set", "finetune.items=32"], "of other settings than timed"),
        (["--set", "name=other"], "no run in"),
        (["--to", "/nowhere/run"], "no run in /nowhere/run"),
        (["--rounds", "many"], "must be of type int"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_timed(
    kept: Path, more: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = taken(monkeypatch)
    run = (kept / "runs" / "timed" / "run.json").read_bytes()
    with pytest.raises(SystemExit) as caught:
        main(command(kept, *more))
    error = capsys.readouterr().err
    assert caught.value.code == 2 and words in error and error.count("\n") == 1
    assert not turns and (kept / "runs" / "timed" / "run.json").read_bytes() == run


@pytest.mark.slow
def test_a_run_of_other_items_or_without_records_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, folder = taken(monkeypatch), here / "runs" / "timed"
    asked = Asked(load(str(here / "timed.yaml")), here / "runs", rounds=3, steps=10)
    run = Run.load(folder)
    records = read_records(folder / "records.parquet")
    write_records(folder / "records.parquet", records.replace({"item_id": {records["item_id"].iloc[0]: "another"}}))
    run.seal(folder)
    with pytest.raises(UserError, match=r"answers 1 items that are not in .* and lacks 1 that are"):
        time_and_publish(asked, Console(file=io.StringIO()))
    (folder / "records.parquet").unlink()
    run.seal(folder)
    with pytest.raises(UserError, match=r"published without records.parquet"):
        time_and_publish(asked, Console(file=io.StringIO()))
    assert not turns


@pytest.mark.slow
@pytest.mark.parametrize(("whole", "fits"), [(4, False), (83, False), (84, True)])
def test_steps_are_timed_before_the_first_validation(kept: Path, whole: int, fits: bool) -> None:
    plan = planned(kept)
    settings = plan.stages[plan.cells[0].train].settings
    settings = settings.model_copy(update={"finetune": settings.finetune.model_copy(update={"steps": whole})})
    if fits:
        return check_steps(settings, 10)
    with pytest.raises(UserError, match=rf"finetune.steps: {whole} are too few .* 84 or more"):
        check_steps(settings, 10)
    return None


@pytest.mark.slow
def test_an_interrupted_session_writes_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the midst of a training step, where Lightning would end the process with exit code 1."""
    folder, before = here / "runs" / "timed", signal.getsignal(signal.SIGINT)
    published = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    from ecr_bench.methods.base import CausalLMModule

    def interrupted(self: CausalLMModule, batch: Any, _: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(CausalLMModule, "training_step", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(command(here, "--rounds", "3"))
    assert caught.value.code == 130 and "interrupted; nothing was written" in capsys.readouterr().err
    assert published == {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_rows_that_no_session_gives_are_found(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(monkeypatch)
    folder = here / "runs" / "timed"
    main(command(here, "--rounds", "3"))
    run = Run.load(folder)
    rows = list(run.timings)
    assert fault_of(rows) is None
    assert "is there twice" in str(fault_of([*rows, rows[0]]))
    assert "rounds" in str(fault_of([*rows[1:], rows[0].model_copy(update={"rounds": (1.0,)})]))
    raw = json.loads((folder / "timings.json").read_text())
    raw[0]["rounds"][0] = 0
    (folder / "timings.json").write_text(json.dumps(raw))
    run.seal(folder)
    with pytest.raises(UserError, match=r"timings\.json: 0\.rounds\.0: .*greater than 0"):
        Run.load(folder)
