"""JSON schema of an experiment file, for editors that complete and check YAML."""

from __future__ import annotations

from typing import Any

from ecr_bench.config import Experiment, Use
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.items.registry import TASKS
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.options import options_of
from ecr_bench.registry import Registry
from ecr_bench.runner.ablation import Axis
from ecr_bench.teachers.registry import TEACHERS

JsonSchema = dict[str, Any]

COMPLETE = {"Axis", "CellSpec", "Series", "Tuned", "Value"}
"""Parts that no other file can complete: what they need must be there."""


def experiment_schema() -> JsonSchema:
    """JSON schema (draft 2020-12) of a file in ``baselines/``: nothing is required but ``name``, since ``extends`` may
    give the rest. Names and options are those that are registered, plugins included, when it is called."""
    schema: JsonSchema = Experiment.model_json_schema()
    definitions = schema["$defs"]
    axis = Axis.model_json_schema()
    definitions |= axis.pop("$defs", {}) | {"Axis": axis}
    for name in definitions.keys() - COMPLETE:
        definitions[name].pop("required", None)
    definitions["Use"] = {"type": ["string", "object"], "description": Use.__doc__}
    properties = schema["properties"]
    text = "Another experiment, by name or path, whose settings hold where this file says nothing."
    properties["extends"] = {"type": "string", "description": text}
    sizes = properties["sizes"]["additionalProperties"]
    sizes["anyOf"] = sizes.pop("oneOf")  # a part of a size may be of either kind
    properties["cells"].pop("minItems")  # an ablation may have none beside its axis
    properties["axis"] = {"$ref": "#/$defs/Axis", "description": "What an ablation varies (`ecr-bench ablate`)."}
    for section, registry in (("CorpusConfig", CORPORA), ("TeacherConfig", TEACHERS)):
        definitions[section]["properties"]["name"]["examples"] = sorted(registry)
    definitions["ProjectionConfig"]["properties"]["kind"]["examples"] = sorted(PROJECTIONS)
    for place in ("CellSpec", "Tuned"):
        definitions[place]["properties"]["method"]["examples"] = sorted(METHODS)
    properties["tasks"]["items"]["examples"] = sorted(TASKS)
    properties["options"]["properties"] = _options(definitions, METHODS) | _options(definitions, MODIFIERS)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ecr-bench experiment"}
    return {**schema, **head, "required": ["name"]}


def _options(definitions: JsonSchema, registry: Registry) -> JsonSchema:
    """Name -> reference to the schema of its options, which is put among ``definitions``."""
    found = {}
    for name in registry:
        kind = options_of(registry.get(name))
        if not kind.model_fields:
            continue
        schema = kind.model_json_schema()
        schema.pop("required", None)
        key = f"options.{name}"
        definitions |= schema.pop("$defs", {}) | {key: schema}
        found[name] = {"$ref": f"#/$defs/{key}"}
    return found
