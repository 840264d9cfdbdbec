"""Options an experiment gives to methods, modifiers, teacher, corpus and projection, read against their owners'."""

from __future__ import annotations

from ecr_bench.config import Experiment
from ecr_bench.errors import UserError, unknown
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.options import read_options


def check_options(experiment: Experiment, source: str) -> None:
    """UserError in one line, with ``source``, for the first option that its owner does not take."""
    try:
        for name, given in experiment.options.items():
            registry = next((registry for registry in (METHODS, MODIFIERS) if name in registry), None)
            if registry is None:
                raise UserError(f"options: {unknown('method or modifier', name, (*METHODS, *MODIFIERS))}")
            read_options(registry.get(name).Options, given, f"options.{name}", f"{registry.kind} {name!r}")
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
