"""A run says its plan before and after, by toy stages that wait; probes are laid out small, each shape once."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from ecr_bench.config import load
from ecr_bench.forecast.forecast import make_forecast, trains
from ecr_bench.forecast.hardware import Hardware
from ecr_bench.forecast.kept import PlanKept
from ecr_bench.forecast.measurement import measurement_of
from ecr_bench.forecast.outlook import Outlook, known_forecast, line_of, workshop_of
from ecr_bench.forecast.probe import FEW, Probes, ProbeStage, to_probe
from ecr_bench.forecast.profile import Profile, identities_in, keep, kept_profile
from ecr_bench.forecast.shape import code_key
from ecr_bench.formats import duration
from ecr_bench.runner.execute import execute
from ecr_bench.runner.perform import perform
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store
from tests.helpers.forecasts import MACHINE, TWO, measurement
from tests.helpers.toy_stages import by_id, toy


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path / "cache"))


def run(stages, store: Store) -> tuple[str, PlanKept | None]:
    """What is printed, and what is kept."""
    plan = Plan(load("tiny"), stages, [])
    forecast = known_forecast(plan, store, workshop_of(1))
    output = io.StringIO()
    console = Console(file=output, width=200)
    outlook = Outlook(plan, store, forecast)
    outlook.begin(console)
    execute(forecast.costed, store, console, Local(1), left=outlook.left).raise_first()
    made = outlook.end(console)
    return output.getvalue(), made


@pytest.mark.slow
def test_the_first_run_tells_the_second(tmp_path):
    log = tmp_path / "log"
    stages = by_id(first := toy(log, "a", seconds=0.3), toy(log, "b", seconds=0.3, first=first))
    said, before = run(stages, Store(tmp_path / "one"))
    assert "2 stages to run, 2 of them unknown on this machine: the first stages will tell" in said
    assert "1 unknown stage left" in said and "0 of 2 stages known before" in said
    assert before is not None and before.expected_seconds is None
    said, after = run(stages, Store(tmp_path / "two"))
    took = sum(one.seconds for one in before.stages)  # on a busy machine more than they wait
    assert f"about {duration(took)} with 1 worker (critical path" in said and re.search(r"about \d+ s left", said)
    assert after is not None and after.expected_seconds == pytest.approx(sum(one.seconds for one in before.stages))
    assert after.expected_seconds >= 0.6 and all(
        one.off is not None and one.memory_off is not None for one in after.stages
    )
    said, nothing = run(stages, Store(tmp_path / "two"))
    assert nothing is None and "plan:" not in said


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_the_next_plan_and_no_run(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ECR_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    said, made = run(by_id(toy(tmp_path / "log", "a")), Store(tmp_path / "out"))
    assert "not kept for the next plan: cannot write" in said and made is not None and len(made.stages) == 1


def test_a_store_without_a_cache_tells_too_and_another_machine_does_not(tmp_path, monkeypatch):
    log, store = tmp_path / "log", Store(tmp_path / "out")
    stages = by_id(toy(log, "a"), toy(log, "b"))
    made, other = stages.values()
    perform(made, made.identity, store, lambda done, total: None)
    record, folder = store.record(made.id), store.path(made.id)
    found = measurement_of(record, folder, identities_in(store), Hardware.here())
    assert found is not None and found.disk == sum(size for size, _ in record["files"].values()) > 0
    assert found.memory and found.memory > 10**6 and found.kind == "toy"
    assert measurement_of(record, folder, identities_in(store), MACHINE) is None  # was not made there
    forecast = known_forecast(Plan(load("tiny"), stages, []), store, workshop_of(1))
    assert list(forecast.to_run) == [other.id] and forecast.unknown  # another name, another shape
    record["result"] = {"diverged": "elsewhere"}
    assert measurement_of(record, folder, identities_in(store), Hardware.here()) is None


def test_probes_are_small_and_one_of_each_shape(tmp_path):
    plan = make_plan(load("quick"))
    store = Store(tmp_path)
    forecast = make_forecast(plan.stages, store, Profile(hardware=MACHINE), TWO)
    wanted = to_probe(forecast)
    assert len({one.shape for one in wanted}) == len(wanted) < len(plan.stages)
    probes = Probes(forecast, store)
    for one in wanted:
        probes.add(one.stage.id)
    trainings = [stage for stage in probes.stages.values() if isinstance(stage, ProbeStage)]
    steps = {
        getattr(stage.settings, name).steps
        for stage in trainings
        for name in ("finetune", "pretrain")
        if hasattr(stage.settings, name)
    }
    for stage in trainings:
        wanted = {"base": plan.experiment.pretrain.steps, "train": plan.experiment.finetune.steps}[stage.kind]
        assert stage.stands_for == wanted
    assert steps == set(FEW["train"]) and {stage.kind for stage in trainings} == {"base", "train"}
    assert all(needed in probes.stages for stage in probes.stages.values() for needed in stage.inputs.values())
    kept = {stage.kind for stage_id, stage in probes.stages.items() if stage_id in plan.stages}
    assert kept == {"corpus", "tokenizer", "anchors", "translations", "parallel"}  # as the run needs them
    # what a probe measures is what the plan lacks
    shapes = {one.shape for one in forecast.to_run.values()}
    small = make_forecast(probes.stages, store, Profile(hardware=MACHINE), TWO)
    assert shapes <= {one.shape for one in small.to_run.values()}


def test_on_a_new_machine_quick_says_how_long_it_takes(tmp_path):
    """By the reference that comes with the package, which knows each stage of it; then at the pace of what is done."""
    plan, store = make_plan(load("quick")), Store(tmp_path)
    blank = make_forecast(plan.stages, store, Profile(hardware=MACHINE), TWO)
    outlook = Outlook(plan, store, blank)
    borrowed = outlook.borrowed
    assert borrowed is not None and set(borrowed.seconds) == set(plan.stages)
    said = line_of(blank, borrowed)
    assert re.search(r"^plan: \d+ stages to run, about \d+ min with 2 workers at the pace of .*, 2 cores: none", said)
    first, *others = plan.stages
    assert re.fullmatch(r"about \d+ min left", outlook.left(first, others))
    slow = {first: measurement(shape="x", seconds=3 * borrowed.seconds[first])}
    assert borrowed.at_pace_of(slow)[others[0]] == pytest.approx(3 * borrowed.seconds[others[0]])
    assert borrowed.at_pace_of({}) == dict(borrowed.seconds)


def test_what_the_reference_does_not_know_stays_unknown(tmp_path):
    plan, store = make_plan(load("quick").with_overrides({"sizes.1x.hidden_size": 96})), Store(tmp_path)
    blank = make_forecast(plan.stages, store, Profile(hardware=MACHINE), TWO)
    assert Outlook(plan, store, blank).borrowed is None
    assert "unknown on this machine: the first stages will tell" in line_of(blank, None)


def test_what_is_known_with_this_code_is_not_probed(tmp_path):
    plan = make_plan(load("tiny"))
    store = Store(tmp_path)
    blank = make_forecast(plan.stages, store, Profile(hardware=MACHINE), TWO)
    known = [
        measurement(kind=one.stage.kind, shape=one.shape, code="old", units=one.units, seconds=2.0)
        for one in blank.to_run.values()
    ]
    forecast = make_forecast(plan.stages, store, Profile(hardware=MACHINE, measurements=tuple(known)), TWO)
    assert not forecast.unknown and forecast.simulated is not None
    assert len(to_probe(forecast)) == len(to_probe(blank))  # it may be slower or faster now
    keep(MACHINE, known)


def test_a_training_whose_operations_nobody_counted_is_probed_once(tmp_path):
    plan, store = make_plan(load("quick")), Store(tmp_path)
    blank = make_forecast(plan.stages, store, Profile(hardware=MACHINE), TWO)

    def left(units: float, flops: float | None) -> set[str]:
        known = [
            measurement(
                kind=one.stage.kind, shape=one.shape, code=code_key(one.stage.identity), seconds=2.0,
                units=units if trains(one.stage) else one.units, per_unit=0.1, flops_per_unit=flops,
            )
            for one in blank.to_run.values()
        ]  # fmt: skip
        profile = Profile(hardware=MACHINE, measurements=tuple(known))
        return {one.stage.kind for one in to_probe(make_forecast(plan.stages, store, profile, TWO))}

    assert left(700, None) == {"base", "train"} and not left(700, 5.0) and not left(12, None)


def test_measurements_of_a_machine_come_back_by_shape(tmp_path):
    known = [measurement(shape=name) for name in "ab"]
    keep(MACHINE, known)
    assert len(kept_profile(MACHINE).by_shape) == len({one.shape for one in known})
