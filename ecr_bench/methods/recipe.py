"""A recipe is a method with its modifiers and their options: an arm but for its size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ecr_bench.arm import Arm, Role
from ecr_bench.errors import UserError
from ecr_bench.methods.former import FORMER
from ecr_bench.methods.method import Ingredients, Method, Modifier, Part
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.nested import value_at
from ecr_bench.options import read_options
from ecr_bench.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ecr_bench.config import ArmSpec, CellSpec, Experiment
    from ecr_bench.ecr.conditioner import Conditioner
    from ecr_bench.methods.distill import Distill
    from ecr_bench.methods.module import ArmModule
    from ecr_bench.sections import ControlTokensConfig, OptimiserConfig
    from ecr_bench.sizes import Devices

ONE_OWNER = {
    "loss": "brings a loss of its own",
    "save_model": "saves the model its own way",
    "base_precision": "decides what the base model is quantised to",
    "larger": "learns from a larger model",
}
"""Hooks that one part of a recipe may override, and what it does then."""

OwnerOptions = Mapping[str, Mapping[str, Any]]
"""Name of a method or modifier -> its options, as a YAML gives them."""


@dataclass(frozen=True)
class Recipe:
    """Method and modifiers. The modifiers stand in the order of their registry, however they were listed."""

    method: Method
    modifiers: tuple[Modifier, ...] = ()

    @classmethod
    def of(cls, method: str, modifiers: Iterable[str] = (), options: OwnerOptions | None = None) -> Recipe:
        """The recipe of registered names.

        Raises:
            UserError: an unknown name or option, a modifier that is listed twice, or parts that do not go together.
        """
        listed, given = list(modifiers), options or {}
        if twice := next((name for name in listed if listed.count(name) > 1), None):
            raise UserError(f"{method} with {', '.join(listed)}: {twice} is listed twice")
        if method in FORMER and method not in METHODS:
            raise UserError(f"method {method!r} is now written {json.dumps(FORMER[method])}")
        main = _part(METHODS, method, given)
        places = {name: place for place, name in enumerate(MODIFIERS)}
        others = [_part(MODIFIERS, name, given) for name in listed]
        recipe = cls(main, tuple(sorted(others, key=lambda part: places[part.name])))
        recipe._check_parts()
        return recipe

    @classmethod
    def of_spec(cls, spec: ArmSpec, options: OwnerOptions) -> Recipe:
        """The recipe of an entry of ``cells``; its own options go on top of the experiment's (``set`` applied).

        UserError as for ``of``, and for an option that is given both there and in its ``set``.
        """
        inside = spec.given_options()
        for name, given in inside.items():
            if whole := next((key for key in ("options", f"options.{name}") if given and key in spec.set), None):
                raise UserError(f"{spec.method}: {whole} stands in 'set', and options of {name} beside its name")
            for key in given.keys() & _options_in(spec.set).get(name, {}).keys():
                raise UserError(f"{spec.method}: {name}.{key} stands in 'set' and beside its name: leave one out")
        names = [use.name for use in spec.modifiers]
        merged = {name: {**options.get(name, {}), **inside[name]} for name in inside}
        return cls.of(spec.method, names, merged)

    def settings(self, spec: ArmSpec, options: OwnerOptions, experiment: Mapping[str, Any]) -> dict[str, Any]:
        """Dotted key and value of what tells this arm from the same in an experiment with ``options``: as chosen for
        its method and size, before its own.

        Options are keyed by owner, ``lora.base``, wherever in the entry they are given; those that stand beside the
        owner's name count where they differ from ``options``. All of an owner at once, ``options.lora``, stay so: they
        put back to its default what they do not name. ``experiment``: as it was read for this arm, in plain JSON; a
        number is the same arm's whichever way it was written.
        """
        steps = {key: key.split(".", 2) for key in spec.set}
        single = {key for key, (first, *rest) in steps.items() if first == "options" and len(rest) == 2}
        own = self.to_json()["options"]
        read = {**experiment, "options": {**experiment.get("options", {}), **own}}
        found = {
            key.removeprefix("options.") if key in single else key: _as_read(value, value_at(read, key.split(".")))
            for key, value in spec.set.items()
        }
        before = Recipe.of(self.method.name, [part.name for part in self.modifiers], options).to_json()["options"]
        for name, given in spec.given_options().items():
            found |= {f"{name}.{key}": own[name][key] for key in given if own[name][key] != before[name][key]}
        return found

    def arm(self, size: str, settings: Mapping[str, Any] | None = None) -> Arm:
        """The arm of this recipe at a size; ``settings``: what ``settings`` gave."""
        return Arm.of(self.method.name, size, settings, self.role, [part.name for part in self.modifiers])

    def arm_of(self, spec: ArmSpec, size: str, experiment: Experiment, local: Experiment) -> Arm:
        """The arm of an entry of ``cells`` at a size; ``local``: the experiment as it is for it, ``tuned_for``."""
        before = experiment.chosen_for(spec, size).options
        return self.arm(size, self.settings(spec, before, local.model_dump(mode="json")))

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.method, *self.modifiers)

    @property
    def name(self) -> str:
        """``ecr+dropout``."""
        return "+".join(part.name for part in self.parts)

    @property
    def role(self) -> Role:
        """The method's, or what is left of it under modifiers."""
        return self.method.role.under(self.modifiers)

    @property
    def uses_control_tokens(self) -> bool:
        return self.method.uses_control_tokens

    @property
    def uses_teacher(self) -> bool:
        return self.method.uses_teacher

    @property
    def asks_teacher(self) -> bool:
        """Whether the teacher itself is asked, at whatever stage, beside the anchors that are made of it."""
        return self.method.uses_teacher or self.method.distils_teacher

    @property
    def trains_model(self) -> bool:
        return self.method.trains_model

    @property
    def trains_weights(self) -> bool:
        """Whether fine-tuning changes all weights of the model."""
        return self.trains_model and all(part.trains_weights for part in self.parts)

    @property
    def uses_anchors(self) -> bool:
        return any(part.uses_anchors for part in self.parts)

    @property
    def sections(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts for name in part.sections))

    @property
    def precisions(self) -> tuple[str, ...]:
        return next((part.precisions for part in self.parts if part.precisions), ())

    @property
    def base_precision(self) -> str | None:
        return self.owner("base_precision").base_precision

    @property
    def larger(self) -> Distill.Options | None:
        """The larger plain model it learns from."""
        return self.owner("larger").larger

    def owner(self, hook: str) -> Part:
        """The part that overrides ``hook``, else the method."""
        return next((part for part in self.parts if _overrides(part, hook)), self.method)

    def check(self, experiment: Experiment) -> None:
        """UserError for an experiment in which this recipe cannot be run."""
        for part in self.parts:
            part.check(experiment)

    def check_devices(self, size: str, devices: Devices) -> None:
        """UserError where ``size`` is trained on several devices in a way that a part of this recipe cannot be."""
        for part in self.parts if devices.count > 1 and self.trains_model else ():
            if reason := part.alone(devices.strategy):
                raise UserError(
                    f"sizes.{size}.devices: {devices.strategy} on {devices.count}: {self.name} cannot be trained so: "
                    f"{part.name} {reason}"
                )

    def base(self, control_tokens: ControlTokensConfig) -> Recipe | None:
        """What pre-trains its base model; None for the plain base. Modifiers have no part in that."""
        method = self.method.pretrained_as(control_tokens)
        return None if method is None else Recipe(method)

    def conditioner(self, given: Ingredients) -> Conditioner:
        """The conditioner the arm is trained, scored and shipped with."""
        return self.method.conditioner(given)

    def module(self, model: PreTrainedModel, optimiser: OptimiserConfig) -> ArmModule:
        """What trains ``model`` in this way."""
        from ecr_bench.methods.module import ArmModule

        return ArmModule(model, optimiser, self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON with all options of all parts; ``from_json`` is its inverse."""
        options = {part.name: part.options.model_dump(mode="json") for part in self.parts}
        return {"method": self.method.name, "modifiers": [part.name for part in self.modifiers], "options": options}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Recipe:
        return cls.of(raw["method"], raw["modifiers"], raw["options"])

    def _check_parts(self) -> None:
        if self.modifiers and not self.trains_model:
            raise UserError(f"{self.name}: {self.method.name} trains no language model, so nothing can modify it")
        for modifier in self.modifiers:
            if reason := modifier.misfit(self):
                raise UserError(f"{self.name}: {modifier.name} does not go with this: {reason}")
        for hook, what in ONE_OWNER.items():
            owners = [part.name for part in self.parts if _overrides(part, hook)]
            if len(owners) > 1:
                raise UserError(f"{self.name}: {' and '.join(owners)} do not go together: each {what}")


def arms_of(spec: CellSpec, experiment: Experiment) -> list[Arm]:
    """The arms of an entry of ``cells``, one for each of its sizes; UserError where they cannot be run."""
    local = {size: experiment.tuned_for(spec, size) for size in spec.sizes}
    return [Recipe.of_spec(spec, own.options).arm_of(spec, size, experiment, own) for size, own in local.items()]


def _as_read(given: Any, made: Any) -> Any:
    """A value as the experiment has it: 0 where a fraction is asked for is 0.0, and an arm of either is the same."""
    if isinstance(given, Mapping) and isinstance(made, Mapping):
        return {key: _as_read(value, made.get(key)) for key, value in given.items()}
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (given, made))
    return made if numbers and given == made else given


def _overrides(part: Part, hook: str) -> bool:
    return getattr(type(part), hook) is not getattr(Part, hook)


def _options_in(overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What dotted overrides set in ``options``, by owner."""
    found: dict[str, dict[str, Any]] = {}
    for dotted, value in overrides.items():
        key, _, rest = dotted.partition(".")
        if key == "options":
            name, _, option = rest.partition(".")
            nested = {name: {option: value} if option else value} if name else value
            for owner, given in nested.items():
                found.setdefault(owner, {}).update(given)
    return found


def _part(registry: Registry, name: str, options: OwnerOptions) -> Any:
    kind: type[Part] = registry.get(name)
    return kind(name, read_options(kind.Options, options.get(name, {}), f"options.{name}", f"{registry.kind} {name!r}"))
