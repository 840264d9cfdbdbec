"""An experiment as it was run: what its authors left out is at its default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ecr_bench.config import Experiment
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.methods.registry import default_options
from ecr_bench.options import defaults_of, options_of
from ecr_bench.registry import Registry
from ecr_bench.sizes import PretrainedSize, SizeConfig
from ecr_bench.teachers.registry import TEACHERS
from ecr_bench.yaml_files import CHOOSERS

OWNERS: dict[str, Registry] = {"corpus": CORPORA, "teacher": TEACHERS, "projection": PROJECTIONS}
"""Section -> who its ``options`` may be for."""


def filled(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that it has, each whole, with the options of whoever is loaded; plain JSON.

    Of a section that is not there nothing is known: an older version kept of a board of several runs only what all
    shared.
    """
    return {
        key: _FILLED[key](value) if key in _FILLED else filled_section(key, value) for key, value in experiment.items()
    }


def filled_section(section: str, value: Any) -> Any:
    """One section."""
    field = Experiment.model_fields.get(section)
    if not isinstance(value, Mapping) or field is None:
        return value
    default = field.get_default(call_default_factory=True)
    found = {**(defaults_of(type(default)) if isinstance(default, BaseModel) else {}), **value}
    if section not in CHOOSERS:
        return found
    owner, registry = str(found.get(CHOOSERS[section])), OWNERS[section]
    known = defaults_of(options_of(registry.get(owner))) if owner in registry else {}
    return {**found, "options": {**known, **(found.get("options") or {})}}


def _sizes(sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {**defaults_of(PretrainedSize if "model" in shape else SizeConfig), **shape}
        for name, shape in sizes.items()
    }


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {owner: {**default_options(owner), **given} for owner, given in options.items()}


_FILLED = {"sizes": _sizes, "options": _options}
"""Sections that are mappings of their own."""
