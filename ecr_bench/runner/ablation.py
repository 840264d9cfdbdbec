"""An ablation: an experiment whose cells lie along one axis.

The YAML is that of an experiment plus ``axis``; its ``cells`` are only the references that stand beside the
axis. Every series is run at every value, so stages that no value changes are computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from ecr_bench.arm import Arm
from ecr_bench.config import ArmSpec, CellSpec, Experiment, one_line, parse, read, shipped
from ecr_bench.consistency import check_once
from ecr_bench.errors import UserError, unknown
from ecr_bench.methods.recipe import arms_of
from ecr_bench.names import repeated
from ecr_bench.nested import put_at
from ecr_bench.section import Distinct, Filled, Section, Seed
from ecr_bench.yaml_files import locate


def _once(overrides: dict[str, Any]) -> dict[str, Any]:
    check_once("set", overrides)
    return overrides


class Value(Section):
    """One place on the axis."""

    label: str
    at: float | None = None
    """Position on a numeric axis; without it values stand side by side in their order."""
    size: str | None = None
    """Model size at this value, in place of the series'."""
    set: Annotated[dict[str, Any], AfterValidator(_once)] = {}
    """Overrides of the experiment, dotted."""


class Series(ArmSpec):
    """One line of the plot; its ``set`` holds along the whole line."""

    label: str
    method: str = "ecr"
    size: str = "1x"
    set: Annotated[dict[str, Any], AfterValidator(_once)] = {}
    """Overrides of the experiment, dotted, at every value."""

    def at(self, value: Value, seeds: tuple[int, ...]) -> CellSpec:
        """The cells of this line at one value of the axis."""
        own = self.model_dump(include={"method", "modifiers", "options"})
        cells = {"sizes": (value.size or self.size,), "seeds": seeds, "set": _on_top(self.set, value.set)}
        return CellSpec.model_validate({**own, **cells})


def _on_top(before: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted overrides on top of others: a part of what stands there whole goes into it, a whole replaces parts."""
    found = dict(before)
    for key, value in overrides.items():
        found = {old: kept for old, kept in found.items() if not old.startswith(f"{key}.")}
        whole = next((old for old, kept in found.items() if key.startswith(f"{old}.") and isinstance(kept, dict)), None)
        if whole is None:
            found[key] = value
        else:
            found[whole] = put_at(found[whole], key.removeprefix(f"{whole}.").split("."), value)
    return found


class Axis(Section):
    label: str
    """What is varied, in words."""
    log: bool = False
    """Logarithmic axis; every value then needs a positive ``at``."""
    values: tuple[Value, ...] = Field(min_length=2)
    series: tuple[Series, ...] = Field(default=(Series(label="ecr"),), min_length=1)
    seeds: Annotated[tuple[Seed, ...], Filled, Distinct] = (0,)

    @model_validator(mode="after")
    def _told_apart(self) -> Axis:
        for kind, labels in (("values", [v.label for v in self.values]), ("series", [s.label for s in self.series])):
            if (twice := repeated(labels)) is not None:
                raise ValueError(f"two {kind} are labelled {twice!r}: each needs a label of its own")
        return self

    @model_validator(mode="after")
    def _positions(self) -> Axis:
        places = [value.at for value in self.values]
        if None in places and any(place is not None for place in places):
            raise ValueError("give 'at' to every value or to none")
        if self.log and not all(place is not None and place > 0 for place in places):
            raise ValueError("a logarithmic axis needs a positive 'at' for every value")
        return self

    @property
    def by_size(self) -> bool:
        """Whether every value names a model size."""
        return all(value.size for value in self.values)

    @property
    def numeric(self) -> bool:
        return self.values[0].at is not None


@dataclass(frozen=True)
class Place:
    """Where an arm of the board stands: on which line, at which value."""

    series: str
    label: str
    """Of the value."""
    at: float | None
    arm: Arm


@dataclass(frozen=True)
class Ablation:
    experiment: Experiment
    """With all cells: references first, then the axis."""
    axis: Axis
    references: tuple[Arm, ...]
    """The arms that hold still."""

    @property
    def places(self) -> list[Place]:
        """Every series at every value, in the order of the YAML."""
        return [
            Place(series.label, value.label, value.at, arm)
            for series in self.axis.series
            for value in self.axis.values
            for arm in arms_of(series.at(value, self.axis.seeds), self.experiment)
        ]


def load_ablation(name_or_file: str, overrides: dict[str, Any]) -> Ablation:
    """Read ``absent`` or ``ablation-absent`` (shipped), or a file. UserError names file, key and what is allowed."""
    name = _full_name(name_or_file)
    source = str(locate(name))
    raw = read(name)
    if not isinstance(raw, dict) or "axis" not in raw:
        raise UserError(f"{source}: has no 'axis', so it is no ablation; run it: ecr-bench run {name_or_file}")
    try:
        axis = Axis.model_validate(raw.pop("axis"))
    except ValidationError as error:
        raise UserError(f"{source}: axis: {one_line(error, Axis)}") from None
    if "cells" in overrides:
        raise UserError("--set cells: the cells of an ablation come from its axis; edit a copy of the YAML")
    given = raw.get("cells") or []
    given = given if isinstance(given, list) else [given]
    experiment = parse({**raw, "cells": [*given, *_cells(axis)]}, source)
    references, moving = experiment.cells[: len(given)], experiment.cells[len(given) :]
    cells = (*references, *(left for cell in moving if (left := _unlisted(cell, references))))
    held = sorted({arm for spec in references for arm in arms_of(spec, experiment) if not arm.settings})
    experiment = experiment.model_copy(update={"cells": cells}).with_overrides(overrides)
    return Ablation(experiment, axis, tuple(held))


def _full_name(name: str) -> str:
    """``absent`` -> ``ablation-absent`` where that is shipped."""
    names = [path.stem for path in shipped("baselines").glob("*.yaml")]
    if name.endswith((".yaml", ".yml")) or name in names:
        return name
    if f"ablation-{name}" not in names:
        raise unknown("ablation", name, [n.removeprefix("ablation-") for n in names if n.startswith("ablation-")])
    return f"ablation-{name}"


def _cells(axis: Axis) -> list[dict[str, Any]]:
    cells = [series.at(value, axis.seeds) for series in axis.series for value in axis.values]
    return [cell.model_dump(mode="json") for cell in cells]


def _unlisted(cell: CellSpec, specs: tuple[CellSpec, ...]) -> CellSpec | None:
    """At the seeds at which no reference is this very cell; None where there are none left."""
    made = cell.model_dump(exclude={"sizes", "seeds"})
    alike = [spec for spec in specs if made == spec.model_dump(exclude={"sizes", "seeds"})]
    listed = {seed for spec in alike if cell.sizes[0] in spec.sizes for seed in spec.seeds}
    seeds = tuple(seed for seed in cell.seeds if seed not in listed)
    return cell.model_copy(update={"seeds": seeds}) if seeds else None
