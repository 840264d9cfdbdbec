"""What a claim requires is compared with what each arm was really run with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ecr_bench.arm import Arm, Role
from ecr_bench.config import ArmSpec, parse
from ecr_bench.errors import UserError
from ecr_bench.results.claim_schema import Claim, ClaimResult
from ecr_bench.results.claim_settings import NotTestedError, setting_of, unmet
from ecr_bench.results.claims_file import judge
from ecr_bench.results.filled import filled
from ecr_bench.runner.plan import make_plan
from ecr_bench.types import Measure
from tests.helpers.world import LEVELS, QUICK, Made, arm, make, measured

RATES = ("pretrain.learning_rate", "finetune.learning_rate")


def rated(rate: float | None, **sections: Any) -> dict[str, Any]:
    """Quick with a learning rate of its smallest size's own."""
    return QUICK | {"sizes": QUICK["sizes"] | {"1x": QUICK["sizes"]["1x"] | {"learning_rate": rate}}} | sections


def ecr(**settings: Any) -> Arm:
    return Arm.of("ecr", "1x", {key.replace("__", "."): value for key, value in settings.items()}, Role.MAIN)


def lacking(arm: Arm, experiment: dict[str, Any], **requires: Any) -> str | None:
    claim = Claim(id="c", says="x", a={"role": "main", "at": "small"}, b={"role": "plain", "at": "small"},
                  metric="mexa", direction="higher", smallest_effect=0.1,
                  requires={key.replace("__", "."): value for key, value in requires.items()})  # fmt: skip
    return unmet(claim, arm, [experiment])


@pytest.mark.parametrize("key", RATES)
def test_a_sizes_own_rate_stands_in_place_of_those_of_the_stages(key: str) -> None:
    stage = QUICK[key.partition(".")[0]]["learning_rate"]
    assert setting_of(ecr(), rated(0.25), key) == 0.25
    assert setting_of(ecr(), rated(None), key) == stage
    assert setting_of(Arm("ecr", "3x"), rated(0.25), key) == (QUICK["sizes"]["3x"]["learning_rate"] or stage)
    assert setting_of(ecr(), rated(0.25), key.partition(".")[0])["learning_rate"] == 0.25
    assert (
        lacking(ecr(), rated(0.25), **{key.replace(".", "__"): stage}) == f"it needs {key} = {stage}, ecr-1x has 0.25"
    )
    assert lacking(ecr(), rated(0.25), **{key.replace(".", "__"): 0.25}) is None


def test_it_stands_there_whatever_set_it_and_whatever_else_is_set() -> None:
    """As ``runner/grid.py`` puts it in last; the size's is a setting as any other."""
    key = "finetune.learning_rate"
    assert setting_of(ecr(finetune__learning_rate=3.0), rated(0.25), key) == 0.25
    assert setting_of(ecr(finetune__learning_rate=3.0), rated(None), key) == 3.0
    assert setting_of(ecr(sizes__1x__learning_rate=0.5), rated(0.25), key) == 0.5
    tuned = [{"method": "ecr", "with": [], "sizes": ["1x"], "set": {"sizes.1x.learning_rate": 0.75}}]
    assert setting_of(ecr(), rated(0.25, tuned=tuned), key) == 0.75


def test_a_board_whose_runs_differ_in_sizes_does_not_know_the_rate() -> None:
    shared = {key: value for key, value in QUICK.items() if key not in ("sizes", "cells")}
    with pytest.raises(NotTestedError, match=r"its runs differ in sizes, and it needs finetune\.learning_rate"):
        setting_of(ecr(), shared, "finetune.learning_rate")
    assert setting_of(ecr(), shared, "finetune.clip") == QUICK["finetune"]["clip"]


def test_keys_above_and_below_what_is_set_are_found() -> None:
    options = QUICK | {"projection": QUICK["projection"] | {"options": {"rank": 64}}}
    assert setting_of(ecr(projection__options={"rank": 3}), options, "projection.options.rank") == 3
    assert setting_of(ecr(projection__kind="other"), options, "projection.options.rank") is None
    assert setting_of(ecr(control_tokens__count=8), QUICK, "control_tokens") == QUICK["control_tokens"] | {"count": 8}
    tuned = [{"method": "ecr", "sizes": ["1x"], "set": {"finetune.clip": None}}]
    assert setting_of(ecr(), QUICK | {"tuned": tuned}, "finetune")["clip"] is None
    assert setting_of(ecr(), QUICK, "finetune")["clip"] == QUICK["finetune"]["clip"] is not None
    assert setting_of(ecr(finetune__clip=2.0), QUICK | {"tuned": tuned}, "finetune.clip") == 2.0


def test_the_settings_are_those_the_runner_trains_with() -> None:
    """The same layers in the same order as an experiment puts them on."""
    tuned = [{"method": "ecr", "with": [], "sizes": ["1x"], "set": {"finetune.clip": None, "finetune.steps": 7}}]
    experiment, own = QUICK | {"tuned": tuned}, {"finetune.steps": 9, "control_tokens.count": 8}
    local = filled(parse(experiment, "x").tuned_for(ArmSpec(method="ecr", set=own), "1x").model_dump(mode="json"))
    arm = Arm.of("ecr", "1x", own)
    for key in ("control_tokens", "projection", "anchors", "finetune.steps", "finetune.clip", "finetune.batch_size"):
        section, _, rest = key.partition(".")
        assert setting_of(arm, experiment, key) == (local[section][rest] if rest else local[section]), key


def test_what_an_arm_sets_itself_needs_nothing_that_a_board_does_not_share() -> None:
    shared = {key: value for key, value in QUICK.items() if key not in ("finetune", "cells", "tuned")}
    clipped = ecr(finetune__clip=1.0)
    assert lacking(clipped, shared, finetune__clip=None) == f"it needs finetune.clip = None, {clipped} has 1.0"


@pytest.mark.parametrize("given", [["lora"], [{"lora": {}}], [{"lora": {"rank": 4}}]])
def test_what_is_tuned_may_name_its_modifiers_in_either_form(given: list[Any]) -> None:
    tuned = [{"method": "finetune", "with": given, "sizes": ["1x"], "set": {"finetune.clip": 9.0}}]
    experiment = QUICK | {"tuned": tuned}
    assert setting_of(Arm("finetune", "1x", ("lora",)), experiment, "finetune.clip") == 9.0
    assert setting_of(Arm("finetune", "1x"), experiment, "finetune.clip") == QUICK["finetune"]["clip"]


def test_the_rate_is_that_of_the_stage_that_trains() -> None:
    experiment = parse(rated(0.25, cells=[{"method": "ecr", "sizes": ["1x", "3x"]}]), "x")
    plan = make_plan(experiment)
    for cell in plan.cells:
        trained = plan.stages[cell.train].settings.finetune.learning_rate
        assert setting_of(cell.arm, experiment.model_dump(mode="json"), RATES[1]) == trained


@pytest.fixture(scope="module")
def made() -> Made:
    return make(LEVELS, items=6, precisions=("fp32",))


def judged(folder: Path, made: Made, change: dict[str, Any], measures: list[Measure]) -> ClaimResult:
    claim = {"id": "c", "says": "x", "a": "ecr-1x", "b": "finetune-1x", "metric": "mexa", "direction": "higher"}
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [claim | {"smallest_effect": 0.01} | change]}))
    (result,) = judge("x", made.facts(measures), path).results
    return result


VALUES = {"ecr-1x": [0.9, 0.93, 0.91], "finetune-1x": [0.5, 0.52, 0.53]}


@pytest.mark.parametrize("key", ["options.distill.weight", "distill.weight"])
def test_an_option_that_nobody_sets_can_be_required(made: Made, tmp_path: Path, key: str) -> None:
    alike = judged(tmp_path, made, {"requires": {key: 0.5}}, measured("mexa", VALUES))
    assert alike.finding
    other = judged(tmp_path, made, {"requires": {key: 0.25}}, measured("mexa", VALUES))
    assert f"it needs {key} = 0.25, ecr-1x has 0.5" in other.sentence


@pytest.mark.parametrize(("key", "allowed"), [
    ("options.distill.wait", "beta, cache_top_k, divergence, model, size, tail, temperature, weight"),
    ("distill.wait", "beta, cache_top_k, divergence, model, size, tail, temperature, weight"),
    ("options.distil.weight", "codes-only, constant, distill, dropout, ecr"), ("options.ecr.x", "none"),
    ("finetun.clip", "anchors, cells, control_tokens"), ("finetune.clap", "batch_size, clip"),
])  # fmt: skip
def test_a_key_that_no_arm_could_have_is_an_error(made: Made, tmp_path: Path, key: str, allowed: str) -> None:
    with pytest.raises(UserError, match=f"requires: unknown key '{key}': allowed here are {allowed}"):
        judged(tmp_path, made, {"requires": {key: 1}}, measured("mexa", VALUES))


def test_a_key_that_one_arm_alone_sets_can_be_required(made: Made, tmp_path: Path) -> None:
    own = made.under("ecr-1x", {"projection.options": {"novel": 3}})
    change = {"a": {"method": "ecr", "size": "1x"}, "requires": {"projection.options.novel": 3}}
    assert "it needs projection.options.novel = 3" in judged(tmp_path, own, change, []).sentence


def test_a_language_that_was_not_measured_is_named(made: Made, tmp_path: Path) -> None:
    both = [*measured("mexa", VALUES), *measured("mexa", VALUES, lang="de")]
    assert judged(tmp_path, made, {"lang": "de"}, both).finding
    words = judged(tmp_path, made, {"lang": "xx"}, both).sentence
    assert "mexa was not measured in lang xx in this run, which has it of de, the mean over all" in words
    alone = judged(tmp_path, made, {}, measured("mexa", VALUES, lang="de")).sentence
    assert "mexa was not measured as a mean over all languages in this run, which has it of de" in alone
    assert "mexa was not measured in this run." in judged(tmp_path, made, {"lang": "xx"}, []).sentence


def test_measures_at_other_layers_are_not_compared(made: Made, tmp_path: Path) -> None:
    ecr_rows, plain_rows = ({name: values} for name, values in VALUES.items())
    other = [*measured("mexa", ecr_rows, layer=1), *measured("mexa", plain_rows, layer=-1)]
    words = judged(tmp_path, made, {}, other).sentence
    assert "mexa was measured at different layers: 1 of ecr-1x and -1 of finetune-1x" in words
    probe = [*measured("mexa", ecr_rows, layer=-1), *measured("mexa", plain_rows)]
    assert judged(tmp_path, made, {}, probe).finding


def controls_of(folder: Path, made: Made, **settings: Any) -> tuple[set[str], set[str]]:
    """Of a gain of ECR in these settings: methods of the controls it met, and of those that count as not run."""
    mine = ecr(**settings)
    controls = {f"{name}-1x": [0.5, 0.51, 0.52] for name in ("random", "shuffled", "codes-only")}
    values = {mine: VALUES["ecr-1x"], arm("finetune-1x"): VALUES["finetune-1x"]} | {
        arm(name): rows for name, rows in controls.items()
    }
    result = judged(folder, made, {"a": str(mine)}, measured("mexa", values))
    return {control.arm.method for control in result.controls}, set(result.untested_controls)


ABSENT = {"constant", "language"}


def test_a_control_run_in_other_settings_counts_as_not_run(made: Made, tmp_path: Path) -> None:
    everybody = {"random", "shuffled", "codes-only"}
    assert controls_of(tmp_path, made) == (everybody, ABSENT)
    for own in ({"control_tokens__count": 1}, {"finetune__steps": 9}, {"anchors__k": 3}):
        assert controls_of(tmp_path, made, **own) == (set(), everybody | ABSENT), own
    same = QUICK["control_tokens"]["count"]
    assert controls_of(tmp_path, made, control_tokens__count=same) == (everybody, ABSENT)


def test_what_a_control_does_not_read_sets_it_not_apart(made: Made, tmp_path: Path) -> None:
    """Random codes need no projection; shuffled ones are those of ECR."""
    assert controls_of(tmp_path, made, projection__novel=3) == ({"random"}, {"shuffled", "codes-only"} | ABSENT)
    assert controls_of(tmp_path, made, dropout__tokens=0.3)[1] == ABSENT
