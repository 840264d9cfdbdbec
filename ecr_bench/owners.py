"""Options an experiment gives to methods, modifiers, teacher, corpus and projection, read against their owners'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecr_bench.config import Experiment
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.errors import UserError, unknown
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.options import options_of, read_options
from ecr_bench.registry import Registry
from ecr_bench.teachers.registry import TEACHERS


def check_options(experiment: Experiment, source: str) -> None:
    """UserError in one line, with ``source``, for the first unknown owner, or option that its owner does not take."""
    try:
        for name, given in experiment.options.items():
            registry = next((registry for registry in (METHODS, MODIFIERS) if name in registry), None)
            if registry is None:
                raise UserError(f"options: {unknown('method or modifier', name, (*METHODS, *MODIFIERS))}")
            _check(registry, name, given, f"options.{name}")
        for tuned in experiment.tuned:
            for registry, names in ((METHODS, (tuned.method,)), (MODIFIERS, tuned.modifiers)):
                if odd := next((name for name in names if name not in registry), None):
                    raise UserError(f"tuned: {unknown(registry.kind, odd, tuple(registry))}")
        corpus, teacher = experiment.corpus, experiment.teacher
        _check(CORPORA, corpus.name, corpus.options, "corpus.options")
        _check(TEACHERS, teacher.name, teacher.options, "teacher.options")
        _check(PROJECTIONS, experiment.projection.kind, experiment.projection.options, "projection.options")
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _check(registry: Registry, name: str, given: Mapping[str, Any], key: str) -> None:
    read_options(options_of(registry.get(name)), given, key, f"{registry.kind} {name!r}")
