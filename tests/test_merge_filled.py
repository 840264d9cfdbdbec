"""Two runs are compared in what they were run with: defaults, what is tuned, and what others learn from included."""

from __future__ import annotations

from typing import Any

import pytest

from ecr_bench import config
from ecr_bench.arm import Arm, Role, by_name
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.conflicts import conflicts, unlike
from ecr_bench.leaderboard.joint import joint_experiment
from ecr_bench.leaderboard.merge import merge
from ecr_bench.leaderboard.origins import incomparable, settled_by
from ecr_bench.leaderboard.pool import NOT_TOLD
from ecr_bench.results.budget import step_notes
from ecr_bench.results.claim_settings import has_setting, setting_of, told_apart_by
from ecr_bench.run import Run
from ecr_bench.runner.plan import make_plan
from tests.test_merge_settings import CODES, ECR, PLAIN, halves, put
from tests.test_merge_sources import OTHER, edited, notes, prints

__all__ = ["halves"]  # a fixture
DISTILLED, DISTILLED_PLAIN = (Arm.of(method, "1x", modifiers=["distill"]) for method in ("ecr", "finetune"))
TINY = config.load("tiny").model_dump(mode="json")


def experiment(**sections: Any) -> dict[str, Any]:
    """``tiny``, with keys of sections replaced."""
    return (
        TINY
        | {name: {**TINY[name], **given} for name, given in sections.items() if name != "tuned"}
        | {"tuned": sections.get("tuned", [])}
    )


def keys(one: Arm, other: Arm, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    both = list(unlike(one, other, ours, theirs)), list(unlike(other, one, theirs, ours))
    found = [[".".join(path) for path, *_ in side] for side in both]
    assert sorted(found[0]) == sorted(found[1])
    return found[0]


def own(**options: Any) -> dict[str, Any]:
    return {"name": "checkpoint", "options": {"size": "3x", **options}}


WIDER = {"3x": {**TINY["sizes"]["3x"], "hidden_size": 8 * TINY["sizes"]["3x"]["heads"]}}
UNLIKE = {
    "projection.options.rank": (ECR, CODES, {"projection": {"options": {"rank": 2}}}, {}),
    "teacher.options.state": (ECR, CODES, {"teacher": own(state="base")}, {"teacher": own()}),
    "teacher.options.layer": (ECR, CODES, {"teacher": own(layer=0)}, {"teacher": own()}),
    "corpus.options.path": (ECR, PLAIN, {"corpus": {"options": {"path": "here"}}}, {}),
    "learned from.3x.sizes.hidden_size": (DISTILLED, DISTILLED_PLAIN, {"sizes": WIDER}, {}),
    "options.distill.weight": (
        ECR, PLAIN,
        {"pretrain": {"distill": "3x"}, "options": {"distill": {"weight": 0.9}}}, {"pretrain": {"distill": "3x"}},
    ),
    "pretrain.distill": (ECR, PLAIN, {"pretrain": {"distill": "3x"}}, {}),
}  # fmt: skip


@pytest.mark.parametrize("key", UNLIKE)
def test_a_default_is_a_value(key: str) -> None:
    one, other, ours, theirs = UNLIKE[key]
    assert key in keys(one, other, experiment(**ours), experiment(**theirs))
    assert keys(one, other, experiment(**ours), experiment(**ours)) == []


def test_a_default_that_is_said_is_no_other_value() -> None:
    rank = config.load("tiny").projection.options.get("rank", 64)
    said = experiment(projection={"options": {"rank": rank}})
    assert list(conflicts(ECR, said, experiment())) == [] == keys(ECR, CODES, said, experiment())
    joint = joint_experiment([said, experiment()])
    assert setting_of(ECR, joint, "projection.kind") == "token-table" and joint["cells"]
    assert joint_experiment([experiment(), said])["projection"] == experiment()["projection"]
    assert setting_of(ECR, experiment(), "projection.options.rank") == rank


def tuned(method: str, size: str = "1x", **chosen: Any) -> list[dict[str, Any]]:
    return [
        {"method": method, "with": [], "sizes": [size], "set": {k.replace("__", "."): v for k, v in chosen.items()}}
    ]


@pytest.mark.parametrize(
    "chosen", [{"sizes.1x.hidden_size": 640}, {"finetune.items": 99}, {"control_tokens.count": 3}, {"corpus.rows": 5}]
)
def test_what_may_not_be_tuned_sets_arms_apart(chosen: dict[str, Any]) -> None:
    """An older version, or a stranger, may have run it."""
    (key,) = chosen
    ours = experiment(tuned=[{"method": "ecr", "with": [], "sizes": ["1x"], "set": chosen}])
    assert keys(ECR, Arm.of("random", "1x", role=Role.ANCHOR_CONTROL), ours, experiment()) == [key]


def test_what_may_be_tuned_or_is_an_arms_own_does_not() -> None:
    ours = experiment(tuned=tuned("ecr", finetune__steps=7, finetune__learning_rate=0.1, sizes__1x__accumulate=2))
    assert keys(ECR, CODES, ours, experiment()) == []
    counted = Arm.of("ecr", "1x", {"control_tokens.count": 3, "teacher.name": "bag"}, role=Role.MAIN)
    assert keys(counted, CODES, experiment(), experiment()) == []


OF_ITS_OWN = {
    "an own model as teacher": Arm.of(
        "ecr", "1x", {"teacher.name": "checkpoint", "teacher.options": {"size": "3x"}}, role=Role.MAIN
    ),
    "distilled": Arm.of("finetune", "1x", {"pretrain.distill": "3x"}, modifiers=["distill"]),
    "from another size": Arm.of("ecr", "1x", {"distill.size": "1x"}, modifiers=["distill"]),
}


@pytest.mark.parametrize("name", OF_ITS_OWN)
@pytest.mark.parametrize("rival", [ECR, CODES, PLAIN, DISTILLED_PLAIN])
def test_whom_an_arm_says_it_learns_from_sets_it_apart_from_nobody(name: str, rival: Arm) -> None:
    assert keys(OF_ITS_OWN[name], rival, TINY, TINY) == []


def test_what_is_set_in_a_section_that_is_not_told_tells_nothing_of_the_rest() -> None:
    less = experiment(tuned=tuned("ecr", finetune__steps=9))
    del less["finetune"]
    assert keys(ECR, PLAIN, less, experiment(finetune={"batch_size": 17})) == []
    assert not has_setting(ECR, less, "finetune.batch_size") and has_setting(ECR, less, "finetune.steps")


def test_a_teacher_is_settled_only_for_arms_whose_anchors_it_made() -> None:
    """The run tells the teachers of anchors, and ``embedding-distillation`` asks one itself."""
    told = {"fingerprints": {"teachers": ["a"]}, "arms": ["ecr-1x"]}
    rival = Arm.of("embedding-distillation", "1x")
    assert list(settled_by((ECR, CODES), told, told, {})) == [("teacher", "name"), ("teacher", "options")]
    assert list(settled_by((ECR, rival), told, told, {})) == []
    for own in ({"teacher.name": "usem3"}, {"teacher": {"name": "usem3"}}):
        arm = Arm.of("ecr", "1x", own, Role.MAIN)
        assert list(settled_by((ECR, CODES), told, {**told, "arms": [str(arm)]}, {str(arm): arm})) == []
    probe = {**told, "arms": ["ecr-1x", "teacher-probe-1x"]}
    assert list(settled_by((ECR, CODES), told, probe, {})) == [("teacher", "name"), ("teacher", "options")]
    two = {**told, "fingerprints": {"teachers": ["a", "b"]}}
    assert list(settled_by((ECR, CODES), two, two, {})) == []


def test_how_training_fits_a_machine_is_no_matter() -> None:
    fit = {"1x": {**TINY["sizes"]["1x"], "accumulate": 2, "checkpointing": True, "devices": {"count": 2}}}
    ours = experiment(sizes=fit)
    assert list(conflicts(ECR, ours, experiment())) == [] == keys(ECR, CODES, ours, experiment())
    chosen = experiment(tuned=tuned("ecr", sizes__1x__accumulate=2))
    assert list(conflicts(ECR, chosen, experiment())) == []
    larger = {"3x": {**TINY["sizes"]["3x"], "accumulate": 2}}
    fitted = experiment(sizes=larger, teacher=own(), tuned=tuned("finetune", "3x", sizes__3x__accumulate=2))
    assert keys(ECR, CODES, fitted, experiment(teacher=own())) == []


def test_a_measure_is_compared_where_a_default_is_said() -> None:
    said, plain, other = (experiment(teacher=teacher) for teacher in ({"options": {"threads": None}}, {}, {"rows": 9}))
    own = Arm.of("ecr", "1x", {"teacher.name": "bag"}, Role.MAIN)

    def differ(*experiments: dict[str, Any], **told: Any) -> dict[str, set[str]]:
        return incomparable(
            ((["trustworthiness"], {"a": one}, {"a": told}) for one in experiments), by_name([ECR, own])
        )

    assert differ(said, plain) == {}
    assert differ(other, plain)
    placed = experiment(teacher={"options": {"threads": 2}})
    assert differ(placed, plain)
    assert differ(placed, plain, fingerprints={"teachers": ["a"]}, arms=["ecr-1x"]) == {}
    assert differ(placed, plain, fingerprints={"teachers": ["a"]}, arms=[str(own)])  # its teacher, not the experiment's


LEARNERS = [
    ((ECR, CODES), {"teacher": own()}, "finetune"),
    ((ECR, CODES), {"teacher": own(state="base")}, "pretrain"),
    ((ECR, PLAIN), {"pretrain": {"distill": "3x"}}, "pretrain"),
    ((DISTILLED, DISTILLED_PLAIN), {}, "finetune"),
]


@pytest.mark.parametrize(("arms", "learned", "stage"), LEARNERS)
def test_the_model_that_both_learn_from_is_trained_alike(
    arms: tuple[Arm, Arm], learned: dict[str, Any], stage: str
) -> None:
    """In the stages that it goes through, whether that is tuned for it or set for all; what is tuned for who
    learns from it is not its own."""
    usual, found = experiment(**learned), [f"learned from.3x.{stage}.learning_rate"]
    key, section = f"{stage}__learning_rate", {stage: {**learned.get(stage, {}), "learning_rate": 0.5}}
    for ours in (experiment(**learned, tuned=tuned("finetune", "3x", **{key: 0.5})), experiment(**learned | section)):
        assert keys(*arms, ours, usual) == found
        assert keys(*arms, ours, ours) == []
    rate, method = TINY[stage]["learning_rate"], arms[0].method
    own_rate = tuned(method, **{key: 0.5})
    own_rate[0]["with"] = list(arms[0].modifiers)
    said = experiment(**learned, tuned=tuned("finetune", "3x", **{key: rate}))
    assert list(unlike(*arms, experiment(**learned, tuned=own_rate), said)) == []
    other = experiment(**learned, tuned=tuned("finetune", "3x", **{key: 0.5}))
    assert [".".join(path) for path, *_ in unlike(*arms, experiment(**learned, tuned=own_rate), other)] == found
    if stage == "pretrain":  # it is not fine-tuned
        tune = experiment(**learned, tuned=tuned("finetune", "3x", finetune__learning_rate=0.5))
        assert keys(*arms, tune, usual) == []


def test_the_rate_of_a_size_that_is_learned_from_counts_by_its_value() -> None:
    sized = experiment(sizes={"3x": {**TINY["sizes"]["3x"], "learning_rate": TINY["finetune"]["learning_rate"]}})
    same = experiment(pretrain={"learning_rate": TINY["finetune"]["learning_rate"]})
    assert keys(DISTILLED, DISTILLED_PLAIN, sized, same) == []


@pytest.mark.parametrize("chosen", ["token-table", "hidden"])
def test_an_owner_that_is_chosen_hides_its_options_only_where_it_is_another(chosen: str) -> None:
    ours = experiment(projection={"kind": "token-table", "options": {"rank": 2}})
    arm = Arm.of("ecr", "1x", {"projection.kind": chosen}, role=Role.MAIN)
    found = list(unlike(arm, CODES, ours, experiment()))
    assert [".".join(path) for path, *_ in found] == (["projection.options.rank"] if chosen == "token-table" else [])


def test_all_options_as_one_setting_are_read() -> None:
    """No version writes such an arm, but a stranger may."""
    odd = Arm.of("ecr", "1x", {"options": {"ecr": {}}})
    assert setting_of(odd, experiment(), "options") == {"ecr": {}}
    assert told_apart_by(odd, CODES, {odd: [experiment()], CODES: [experiment()]}) == "options"


@pytest.mark.parametrize("odd", [[1], {"a": 1}, 3, None])
def test_whom_an_arm_learns_from_may_be_nonsense_in_a_strangers_run(odd: Any) -> None:
    ours = experiment(teacher=own(size=odd, state=odd), pretrain={"distill": odd}, options={"distill": {"size": odd}})
    found = [".".join(path) for path, *_ in unlike(ECR, CODES, ours, experiment(teacher=own()))]
    assert any(key.startswith("teacher.options.size") for key in found)
    assert keys(DISTILLED, DISTILLED_PLAIN, ours, ours) == [] == list(conflicts(DISTILLED, ours, ours))


def test_what_an_arm_does_not_read_sets_it_apart_from_itself_neither() -> None:
    random, adapted = Arm.of("random", "1x"), Arm.of("finetune", "1x", modifiers=["lora"])
    probe = Arm.of("teacher-probe", "1x")
    assert list(conflicts(random, experiment(teacher={"rows": 9}), experiment())) == []
    assert list(conflicts(adapted, experiment(anchors={"k": 9}), experiment())) == []
    assert list(conflicts(probe, experiment(pretrain={"batch_size": 9}), experiment())) == []
    assert list(conflicts(Arm.of("embedding-distillation", "1x"), experiment(teacher={"rows": 9}), experiment())) == []
    assert list(conflicts(probe, experiment(teacher={"rows": 9}), experiment()))


def test_steps_that_differ_between_runs_are_told_whatever_is_tuned(halves: Any, tmp_path: Any) -> None:
    """What is tuned at its default keeps a run from refusing others, and its own board has no note."""
    ours, theirs = halves
    steps = Run.load(theirs).experiment["finetune"]["steps"]
    arms = [(arm.method, arm.size) for arm in Run.load(theirs).arms.values()]
    chosen = [
        {"method": method, "with": [], "sizes": [size], "set": {"finetune.steps": steps}} for method, size in arms
    ]
    longer = edited(ours, tmp_path / "longer", put("finetune", "steps", 2 * steps))
    said = edited(theirs, tmp_path / "said", lambda told: told["experiment"].update(tuned=chosen))
    merge([longer, said], tmp_path / "board", apart=False)
    (note,) = [note for note in notes(tmp_path / "board" / "intents") if note.startswith("Steps differ:")]
    assert f"finetune.steps = {steps}" in note and f"finetune.steps = {2 * steps}" in note


def test_who_has_which_steps_is_told_of_those_that_have_some_and_whose_name_does_not_tell() -> None:
    usual, (few, many) = TINY["finetune"]["steps"], (3, 8)
    named, probe = Arm.of("ecr", "1x", {"finetune.steps": many}), Arm.of("teacher-probe", "1x")
    ours = experiment(tuned=tuned("finetune", finetune__steps=few))
    told = {arm: [ours] for arm in (named, PLAIN, CODES, probe)}
    assert step_notes(told) == [f"Steps differ: finetune.steps = {few}: {PLAIN}; finetune.steps = {usual}: {CODES}."]
    assert step_notes({arm: [ours] for arm in (named, CODES, probe)}) == []
    unknown = {name: value for name, value in ours.items() if name != "finetune"}
    assert step_notes({PLAIN: [ours], CODES: [unknown]}) == []
    odd = experiment(finetune={"steps": [1]})
    assert step_notes({ECR: [odd, TINY], PLAIN: [TINY]}) == [
        f"Steps differ: finetune.steps = [1] and {usual}: {ECR}; finetune.steps = {usual}: {PLAIN}."
    ]


def test_what_is_tuned_is_no_matter_to_who_does_not_learn_from_it() -> None:
    ours = experiment(tuned=tuned("finetune", "3x", finetune__learning_rate=0.5))
    assert keys(PLAIN, Arm.of("finetune", "1x", modifiers=["dropout"]), ours, TINY) == []


def test_what_is_tuned_counts_by_the_value_that_an_arm_has() -> None:
    """And not by how it came to it: saying a default, or the same in another way, is no difference."""
    usual = TINY["finetune"]
    rate, steps = {"finetune__learning_rate": usual["learning_rate"]}, {"finetune__steps": usual["steps"]}
    for same in (rate, steps, rate | steps):
        said = experiment(tuned=tuned("ecr", **same))
        otherwise = experiment(tuned=said["tuned"], finetune={**usual, "learning_rate": 0.5})
        assert list(conflicts(ECR, said, experiment())) == []
        assert (list(conflicts(ECR, otherwise, experiment())) == []) == ("finetune__learning_rate" in same)
        plain = experiment(tuned=tuned("finetune", "3x", **same))
        assert keys(DISTILLED, DISTILLED_PLAIN, plain, experiment()) == []
        assert list(conflicts(DISTILLED, plain, experiment())) == []
    other = experiment(tuned=tuned("ecr", finetune__learning_rate=0.5))
    assert [".".join(path) for path, *_ in conflicts(ECR, other, experiment())] == ["finetune.learning_rate"]


@pytest.mark.parametrize("section", ["pretrain", "tokenizer", "projection"])
def test_a_run_that_does_not_tell_its_settings_is_named(halves: Any, tmp_path: Any, section: str) -> None:
    def lose(provenance: dict[str, Any]) -> None:
        del provenance["experiment"][section]

    ours, theirs = halves
    merge([edited(ours, tmp_path / "less", lose), theirs], tmp_path / "board", apart=False)
    said = [note for note in notes(tmp_path / "board" / "intents") if note.startswith(NOT_TOLD)]
    assert said == [f"{NOT_TOLD} {section} (ours)"]
    merge([ours, theirs], tmp_path / "whole", apart=False)
    assert not any(note.startswith(NOT_TOLD) for note in notes(tmp_path / "whole" / "intents"))


@pytest.mark.parametrize(
    ("what", "option"), [("corpus", ("corpus", {"path": "/home/a/x.jsonl"})), ("teacher", ("teacher", {"dim": 3}))]
)
def test_a_place_is_no_matter_where_what_lies_there_is_the_same(
    halves: Any, tmp_path: Any, what: str, option: tuple[str, dict[str, Any]]
) -> None:
    ours, theirs = halves
    moved = edited(ours, tmp_path / "moved", put(option[0], "options", option[1]))
    merge([moved, theirs], tmp_path / "board", apart=False)
    values = {"corpus": ""} if what == "corpus" else {"teachers": []}
    unknown = edited(moved, tmp_path / "unknown", prints(**values))
    with pytest.raises(UserError, match=rf"{option[0]}\.options\."):
        merge([unknown, theirs], tmp_path / "other", apart=False)
    assert Run.load(unknown).provenance["fingerprints"] != {"corpus": OTHER}


FROM_3X = {"teacher": {"name": "checkpoint", "options": {"size": "3x"}}}
RATE_OF_3X = {"tuned": [{"method": "finetune", "sizes": ["3x"], "set": {"finetune.learning_rate": 0.5}}]}
IN_PRETRAINING = {"pretrain": {"distill": "3x"}, "options": {"distill": {"weight": 0.9}}}


@pytest.mark.parametrize(("cell", "given"), [
    ({"method": "finetune"}, IN_PRETRAINING),
    ({"method": "finetune", "set": {"pretrain.distill": "3x"}}, {"options": {"distill": {"weight": 0.9}}}),
    ({"method": "finetune"}, {**IN_PRETRAINING, **RATE_OF_3X}),
    ({"method": "ecr"}, {**FROM_3X, **RATE_OF_3X}),
    ({"method": "finetune", "with": ["distill"]}, RATE_OF_3X),
    ({"method": "finetune", "with": [{"distill": {"size": "3x", "weight": 0.7}}]}, RATE_OF_3X),
])  # fmt: skip
def test_the_experiment_of_several_runs_trains_what_they_trained(cell: dict[str, Any], given: dict[str, Any]) -> None:
    """Also what no cell is of: options of distillation in pre-training, settings of whom an arm learns from."""
    usual = config.load("distill").model_dump(mode="json", exclude={"tuned", "options", "cells"})
    for section, value in given.items():
        usual[section] = {**usual.get(section, {}), **value} if isinstance(value, dict) else value
    parts = [
        config.parse({**usual, "cells": [{**cell, "seeds": [seed]}]}, "x").model_dump(mode="json") for seed in (0, 1)
    ]
    trained = [{cell.label: cell.train for cell in make_plan(config.parse(one, "x")).cells} for one in parts]
    assert {c.label: c.train for c in make_plan(config.parse(joint_experiment(parts), "x")).cells} == trained[
        0
    ] | trained[1]
