"""Which settings an arm's numbers depend on: two runs may pool it only where these are the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import Field

from ecr_bench.arm import Arm, Role
from ecr_bench.config import load
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.conflicts import conflicts
from ecr_bench.methods.finetune import Finetune
from ecr_bench.methods.registry import METHODS
from ecr_bench.section import Section

DISTILLED = Arm("finetune", "1x", ("distill",))
PLAIN, ECR = Arm("finetune", "1x", role=Role.PLAIN), Arm("ecr", "1x", role=Role.MAIN)
PROBE = Arm("teacher-probe", "1x")
FROM_3X = Arm.of("ecr", "1x", {"teacher.options": {"size": "3x", "state": "base"}}, Role.MAIN)
HEALED = Arm.of("finetune", "1x", {"pretrain.distill": "3x"}, modifiers=["distill"])
OTHER = {"hidden_size": 8, "layers": 1, "heads": 1, "intermediate_size": 8}
RATE = [{"method": "finetune", "with": [], "sizes": ["3x"], "set": {"finetune.learning_rate": 0.5}}]
CHECKPOINT = {"name": "checkpoint", "options": {"size": "3x"}}


def found(arm: Arm, shared: dict[str, Any], changed: dict[str, Any]) -> str | None:
    """The setting in which an arm differs between ``distill`` with ``shared`` and the same with ``changed`` as well."""
    ours = load("distill").model_dump(mode="json") | shared
    theirs = copy.deepcopy(ours)
    for section, value in changed.items():
        theirs[section] = {**theirs[section], **value} if isinstance(value, dict) else value
    setting = next(conflicts(arm, ours, theirs), None)
    assert (setting is None) == (next(conflicts(arm, theirs, ours), None) is None)
    return ".".join(setting[0]) if setting else None


@pytest.mark.parametrize(("arm", "shared", "changed", "setting"), [
    (PLAIN, {}, {"sizes": {"3x": OTHER}}, None),
    (PLAIN, {}, {"options": {"distill": {"temperature": 9.0}}}, None),
    (PLAIN, {}, {"teacher": {"rows": 9}}, None),
    (DISTILLED, {}, {"sizes": {"3x": OTHER}}, "learned from.3x"),
    (DISTILLED, {}, {"options": {"distill": {"temperature": 9.0}}}, "options.distill.temperature"),
    (DISTILLED, {}, {"options": {"distill": {"temperature": 2.0}}}, None),
    (DISTILLED, {}, {"tuned": RATE}, "learned from.3x.finetune.learning_rate"),
    (HEALED, {}, {"tuned": RATE}, "learned from.3x.finetune.learning_rate"),
    (ECR, {"teacher": CHECKPOINT}, {"sizes": {"3x": OTHER}}, "learned from.3x"),
    (ECR, {}, {"sizes": {"3x": OTHER}}, None),
    (FROM_3X, {}, {"sizes": {"3x": OTHER}}, "learned from.3x"),
    (ECR, {}, {"teacher": {"rows": 9}}, "teacher.rows"),
])  # fmt: skip
def test_what_an_arm_depends_on(arm: Arm, shared: dict[str, Any], changed: dict[str, Any], setting: str | None) -> None:
    answer = found(arm, shared, changed)
    assert answer is None if setting is None else answer is not None and answer.startswith(setting), answer


def test_distillation_in_pre_training_brings_its_options_however_it_is_set() -> None:
    changed = {"options": {"distill": {"temperature": 9.0}}}
    tuned = [{"method": "finetune", "with": [], "sizes": ["1x"], "set": {"pretrain.distill": "3x"}}]
    pretrain = load("distill").model_dump(mode="json")["pretrain"] | {"distill": "3x"}
    for shared in ({"pretrain": pretrain}, {"tuned": tuned}):
        assert found(PLAIN, shared, changed) == "options.distill.temperature"


ON_STATES = {"projection": {"kind": "hidden", "options": {}}}


@pytest.mark.parametrize("section", ["pretrain", "options", "tuned", "sizes"])
@pytest.mark.parametrize(("arm", "shared"), [
    (DISTILLED, {}),
    (PROBE, ON_STATES),
    (PROBE, {"teacher": CHECKPOINT}),
    (PROBE, {"teacher": {"name": "checkpoint", "options": {"size": "3x", "state": "base"}}}),
])  # fmt: skip
def test_what_is_not_known_is_refused_and_not_taken_for_the_same(
    arm: Arm, shared: dict[str, Any], section: str
) -> None:
    whole = load("distill").model_dump(mode="json") | shared
    del whole["cells"]  # as on a board of runs that differ
    part = {key: value for key, value in whole.items() if key != section}
    for ours, theirs in ((part, whole), (whole, part), (part, part)):
        with pytest.raises(UserError, match=f"its {section} settings are not known"):
            list(conflicts(arm, ours, theirs))


def test_what_an_arm_does_not_read_need_not_be_known() -> None:
    whole = load("distill").model_dump(mode="json")
    part = {key: value for key, value in whole.items() if key != "pretrain"}
    assert not list(conflicts(PROBE, part, whole))


def test_defaults_of_a_plugin_of_any_kind_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner(Section):
        depth: int = 2

    class Mine(Finetune):
        class Options(Section):
            layers: tuple[int, ...] = (1, 2)
            names: list[str] = Field(default_factory=lambda: ["a"])
            inner: Inner = Inner()

    monkeypatch.setitem(METHODS.entries, "mine", Mine)
    mine = Arm("mine", "1x")
    assert found(mine, {}, {"options": {"mine": {"layers": [1, 2], "names": ["a"], "inner": {"depth": 2}}}}) is None
    assert found(mine, {}, {"options": {"mine": {"inner": {"depth": 3}}}}) == "options.mine.inner.depth"
