"""Whether an arm was run as a claim asks: its experiment's settings, but where it has its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

from ecr_bench.arm import Arm, as_setting
from ecr_bench.config import Experiment
from ecr_bench.methods.registry import default_options
from ecr_bench.results.claim_schema import Claim


class NotTestedError(Exception):
    """Why a run cannot speak to a claim, in words."""

    def __init__(self, message: str, same: float | None = None) -> None:
        super().__init__(message)
        self.same = same
        """The difference where it is the same in every seed, which leaves it without an interval."""


def unmet(claim: Claim, arm: Arm, experiments: Iterable[Mapping[str, Any]]) -> str | None:
    """What the claim requires and ``arm`` was run without in one of its experiments, in words. NotTestedError as
    ``setting``."""
    for experiment, (key, wanted) in product(experiments, claim.requires.items()):
        if as_setting(given := setting_of(arm, experiment, key)) != as_setting(wanted):
            who = "this run" if given == setting(experiment, key) else str(arm)
            return f"it needs {key} = {wanted}, {who} has {given}"
    return None


def setting_of(arm: Arm, experiment: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted key that an arm was run with: its own, else what is tuned for it, else the experiment's,
    else, of an option, what its owner does by itself."""
    own = dict(arm.settings)
    if (name := dotted if dotted in own else dotted.removeprefix("options.")) in own:
        return own[name]
    for chosen in tuned_for(arm, experiment):
        if dotted in chosen:
            return chosen[dotted]
    given = setting(experiment, dotted)
    section, _, option = dotted.partition(".")
    if given is None and section == "options":
        owner, _, key = option.partition(".")
        return default_options(owner).get(key)
    return given


def tuned_for(arm: Arm, experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the experiment sets for the arms of this method, modifiers and size: dotted keys and values.

    NotTestedError where a board of several runs, which has no cells then, does not share that; a whole experiment
    without is of a version that tuned nothing.
    """
    if not_shared(experiment, "tuned") and "cells" not in experiment:
        raise NotTestedError("its runs differ in what is tuned for an arm")
    return [
        chosen["set"]
        for chosen in experiment.get("tuned", ())
        if chosen["method"] == arm.method and set(chosen.get("with", ())) == set(arm.modifiers)
        if arm.size in chosen["sizes"]
    ]


def setting(experiment: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted key; None where there is none. NotTestedError where a board of several runs does not share
    the section it lies in."""
    if not_shared(experiment, dotted):
        raise NotTestedError(f"its runs differ in {dotted.partition('.')[0]}, and it needs {dotted}")
    node: Any = experiment
    for step in dotted.split("."):
        node = node.get(step) if isinstance(node, Mapping) else None
    return node


def not_shared(experiment: Mapping[str, Any], dotted: str) -> bool:
    """Whether every experiment has the section and this one, which several runs have in common, has not."""
    section = dotted.partition(".")[0]
    return bool(experiment) and section not in experiment and section in Experiment.model_fields
