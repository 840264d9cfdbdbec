"""What the names in a claim stand for in a run, and which names no run could have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, get_args

from ecr_bench.arm import Arm, Role, with_bare_forms
from ecr_bench.config import Experiment, Precision
from ecr_bench.errors import UserError, unknown
from ecr_bench.items.registry import TASKS
from ecr_bench.methods.registry import METHODS, MODIFIERS, default_options, recipe_names, role_of
from ecr_bench.metrics.registry import METRICS
from ecr_bench.results.claim_schema import ACCURACY, COSTS, ArmReference, Claim
from ecr_bench.results.claim_settings import NotTestedError, has_setting, not_shared
from ecr_bench.results.contrasts import TASKS as MEANS
from ecr_bench.results.evidence import Facts
from ecr_bench.results.roles import REQUIRED_CONTROLS

ROLES = {"main": Role.MAIN, "plain": Role.PLAIN}


def resolve(name: ArmReference, facts: Facts, pooled: bool = False) -> Arm:
    """The arm of the run that ``name`` stands for; NotTestedError where the run has none, or cannot tell which.

    A role is played by the form without settings, as on the board. A method that was run in other settings only is
    found as well, where there is one form. Where settings are ``pooled`` either stands for all of its forms.
    """
    if name.name is not None:
        known = with_bare_forms(facts.arms)
        if name.name not in known:
            raise NotTestedError(f"{name} is not in this run")
        return known[name.name]
    size = _size(name, facts)
    wanted = Arm.of("", size, name.settings).settings
    alike = [arm for arm in facts.arms.values() if arm.size == size and _plays(arm, name)]
    if exact := next((arm for arm in alike if arm.settings == wanted), None):
        return exact
    if wanted or not alike:
        raise NotTestedError(f"this run has no {name}" + (f" ({size})" if name.at else ""))
    if pooled:
        return alike[0].without_settings
    if len(alike) == 1 and name.role is None:
        return alike[0]
    raise NotTestedError(f"{name} was run only as {', '.join(map(str, alike))}: a claim must name one of them")


def _plays(arm: Arm, name: ArmReference) -> bool:
    return (arm.role is ROLES[name.role] and not arm.modifiers) if name.role else arm.name == name.method


def _size(name: ArmReference, facts: Facts) -> str:
    if name.size is not None:
        return name.size
    size = facts.cast.small if name.at == "small" else facts.cast.large
    if size is None:
        needs = "ECR" if facts.cast.small is None else "plain fine-tuning at a size larger than the smallest with ECR"
        raise NotTestedError(f"this run has no {name.at} size: it lacks {needs}")
    return size


def check_names(claim: Claim, facts: Facts, source: str) -> None:
    """A name that no run could have is an error; one that this run lacks leaves the claim untested."""
    where = f"{source}: claim {claim.id}: "
    try:
        for arm in (claim.a, claim.b):
            _check_arm(arm, facts)
        _check_controls(claim, facts)
        panels = facts.panels.values()
        _among("metric", claim.metric, {ACCURACY, *COSTS, *METRICS, *(m.metric for m in facts.measures)})
        _among("task", claim.task, {*MEANS, *TASKS, *(task for panel in panels for task in panel.tasks)})
        for precision in (claim.precision, claim.precision_b or claim.precision):
            run = {one.precision for panel in panels for one in panel.respondents}
            _among("precision", precision, {*get_args(Precision), *run})
        for key in claim.requires:
            if not any(has_setting(arm, facts.experiment, key) for arm in facts.arms.values()):
                _check_setting(facts.experiment, key)
    except UserError as error:
        raise UserError(f"{where}{error}") from None


def _among(kind: str, name: str, allowed: set[str]) -> None:
    if name not in allowed:
        raise unknown(kind, name, allowed)


def _check_arm(name: ArmReference, facts: Facts) -> None:
    if name.name is not None:
        sizes = {arm.size for arm in facts.arms.values()} | set(facts.experiment.get("sizes") or {})
        possible = {str(Arm(method, size)) for method, size in product(recipe_names(), sizes)}
        _among("arm", name.name, {*facts.arms, *possible})
    elif name.method is not None:
        _among("method of arm", name.method, {*recipe_names(), *(arm.name for arm in facts.arms.values())})


def _check_controls(claim: Claim, facts: Facts) -> None:
    run = {arm.name for arm in facts.arms.values() if arm.role.is_control}
    for name in claim.controls or ():
        if name in (*run, *REQUIRED_CONTROLS) or (name in METHODS and role_of(name).is_control):
            continue
        raise unknown("control", name, {*run, *REQUIRED_CONTROLS})


def _check_setting(experiment: Mapping[str, Any], dotted: str) -> None:
    """UserError for a key that no arm of the experiment could have."""
    owner, in_full = _owner(dotted)
    if not_shared(experiment, in_full):
        return
    known = _with_options(experiment, owner) if owner else experiment
    for step, node in _walk(known, in_full) if experiment else ():
        if not isinstance(node, Mapping) or step not in node:
            allowed = ", ".join(sorted(node)) or "none" if isinstance(node, Mapping) else "none (it is a value)"
            raise UserError(f"requires: unknown key {dotted!r}: allowed here are {allowed}")


def _owner(dotted: str) -> tuple[str, str]:
    """Whose option a key is, empty where it is none, and the key in full: ``lora.rank`` is ``options.lora.rank``."""
    section, _, rest = dotted.partition(".")
    if section == "options":
        return rest.partition(".")[0], dotted
    is_owner = rest and section not in Experiment.model_fields and section in (*METHODS, *MODIFIERS)
    return (section, f"options.{dotted}") if is_owner else ("", dotted)


def _with_options(experiment: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """With what any method or modifier may be given, of which an experiment has only what it sets; of ``owner`` with
    each of its options."""
    known: dict[str, dict[str, Any]] = {name: {} for name in (*METHODS, *MODIFIERS)} | (experiment.get("options") or {})
    if owner in known:
        known[owner] = default_options(owner) | known[owner]
    return {**experiment, "options": known}


def _walk(experiment: Mapping[str, Any], dotted: str) -> Iterator[tuple[str, Any]]:
    """Each step of a dotted key with what it is looked up in."""
    node: Any = experiment
    for step in dotted.split("."):
        yield step, node
        node = node.get(step) if isinstance(node, Mapping) else None
