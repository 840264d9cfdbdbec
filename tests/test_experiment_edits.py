"""Any experiment at all: refused in one line, or sound and plannable. ``ECR_BENCH_FUZZ`` sets how many are tried."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ecr_bench import config
from ecr_bench.config import Experiment, GeometryConfig, ScoringConfig
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.errors import UserError
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.names import file_name
from ecr_bench.options import options_of
from ecr_bench.runner.needs import check_memory, needs
from ecr_bench.runner.plan import make_plan
from ecr_bench.sections import (
    AnchorsConfig,
    ControlTokensConfig,
    CorpusConfig,
    FinetuneConfig,
    PretrainConfig,
    ProjectionConfig,
    TeacherConfig,
    TokenizerConfig,
)
from ecr_bench.sizes import SIZES, PretrainedSize
from ecr_bench.teachers.registry import TEACHERS
from ecr_bench.yaml_files import parse_set, shipped
from tests.helpers.experiment_edits import BASE, experiments, overrides

COUNT = int(os.environ.get("ECR_BENCH_FUZZ", "300"))
many = settings(max_examples=COUNT, suppress_health_check=list(HealthCheck), print_blob=True)


def _refused(error: UserError) -> None:
    message = str(error)
    assert message and "\n" not in message and message.isprintable() and len(message) < 1500, message
    event("refused")


def _accepted(experiment: config.Experiment) -> None:
    """What is accepted says what it said, holds no nonsense, and can be planned or is refused for one reason."""
    again = config.parse(json.loads(json.dumps(experiment.model_dump(mode="json"), allow_nan=False)), "again")
    assert again == experiment and again.identity == experiment.identity
    _check_values(experiment)
    try:
        plan = make_plan(experiment)
    except UserError as error:
        return _refused(error)
    event("planned")
    for spec in experiment.cells:
        for size in spec.sizes:
            found = list(needs(experiment.tuned_for(spec, size), size))
            assert all(0 <= need.bytes < 2**80 for need in found)
            assert len(found) == (0 if isinstance(experiment.sizes[size], PretrainedSize) else 3)
    try:
        check_memory(plan)
    except UserError as error:
        return _refused(error)
    event("fits")
    assert plan.cells and plan.stages
    labels = [cell.label for cell in plan.cells]
    assert len({file_name(label).lower() for label in labels}) == len(labels)
    for stage_id, stage in plan.stages.items():
        assert stage.id == stage_id and math.isfinite(stage.cost)
        assert set(stage.inputs.values()) <= set(plan.stages)
        assert len(Path(stage_id).name) < 100


def _check_values(section: BaseModel) -> None:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if field.annotation is int:
            assert type(value) is int and abs(value) < 2**63
        if field.annotation in (int, float):
            assert not isinstance(value, bool) and math.isfinite(value)
        for low, high in bounds_of(field):
            assert value is None or low <= value <= high
        if name in ("seed", "seeds"):
            assert all(0 <= seed < 2**32 for seed in (value if isinstance(value, tuple) else [value]))
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]:
            if isinstance(part, BaseModel):
                _check_values(part)
        if isinstance(value, tuple) and name != "cells":
            assert len(set(map(repr, value))) == len(value)
            assert value or name in ("languages", "modifiers", "tuned")


def bounds_of(field: FieldInfo) -> list[tuple[float, float]]:
    """Lower and upper bound of a field that is one number; none of others."""
    if field.annotation not in (int, float, int | None, float | None):
        return []
    said = {
        name: getattr(item, name) for item in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(item, name)
    }
    return [(said.get("ge", said.get("gt", -math.inf)), said.get("le", said.get("lt", math.inf)))]


SECTIONS: list[type[BaseModel]] = [
    Experiment,
    ScoringConfig,
    GeometryConfig,
    CorpusConfig,
    TokenizerConfig,
    TeacherConfig,
    AnchorsConfig,
    ProjectionConfig,
    ControlTokensConfig,
    PretrainConfig,
    FinetuneConfig,
    *SIZES.values(),
    *(
        options_of(owners.get(name))
        for owners in (METHODS, MODIFIERS, CORPORA, TEACHERS, PROJECTIONS)
        for name in owners
    ),
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__qualname__)
def test_every_number_says_how_small_and_how_large_it_may_be(section: type[BaseModel]) -> None:
    """What has no bound is accepted, runs for ever or ends in a stage."""
    for name, field in section.model_fields.items():
        for low, high in bounds_of(field):
            assert math.isfinite(low) and math.isfinite(high), f"{section.__qualname__}.{name}"


def _read(path: Path) -> None:
    try:
        experiment = config.load(str(path))
    except UserError as error:
        assert str(path) in str(error) and "hf_aaa" not in str(error)
        return _refused(error)
    _accepted(experiment)


@pytest.mark.slow
@given(raw=experiments())
@many
def test_any_experiment_is_refused_in_one_line_or_sound(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "edited.yaml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    _read(path)


@pytest.mark.slow
@given(override=overrides())
@settings(many, max_examples=max(1, COUNT // 3))
def test_any_override_is_refused_in_one_line_or_sound(override: tuple[str, Any]):
    key, value = override
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    try:
        experiment = config.parse(BASE, "tiny").with_overrides(parse_set([f"{key}={text}"]))
    except UserError as error:
        assert "--set" in str(error)
        return _refused(error)
    _accepted(experiment)


TINY = (shipped("baselines") / "tiny.yaml").read_bytes()


PIECES = ["\0", "&a ", "*a", "!!x ", "[", "{", "]", "- ", ": ", "\n", "\t", "'", '"\\ud800"', "|", "---\n", "<<: ", "%"]
pieces = st.one_of(st.binary(max_size=4), st.sampled_from([piece.encode() for piece in PIECES]))
edits = st.tuples(st.integers(0, len(TINY)), st.integers(0, 6), pieces)


@given(edits=st.lists(edits, min_size=1, max_size=4))
@settings(many, max_examples=max(1, COUNT // 3))
def test_any_bytes_are_refused_in_one_line_or_sound(tmp_path_factory, edits):
    raw = TINY
    for place, cut, insert in edits:
        raw = raw[:place] + insert + raw[place + cut :]
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(raw)
    _read(path)
