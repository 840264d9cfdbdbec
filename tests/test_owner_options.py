"""Options of teacher, corpus and projection: read against their owner before anything runs, and gone with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ecr_bench.config import Experiment, load
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.errors import UserError
from ecr_bench.methods.former import modern_experiment
from ecr_bench.options import NoOptions, described, listing, options_of
from ecr_bench.registry import Registry
from ecr_bench.runner.plan import make_plan
from ecr_bench.section import Section
from ecr_bench.teachers.registry import TEACHERS

OWNERS = (TEACHERS, CORPORA, PROJECTIONS)


@pytest.mark.parametrize("registry", OWNERS, ids=lambda registry: registry.kind)
def test_every_owner_documents_its_options(registry: Registry) -> None:
    for name in registry:
        kind = options_of(registry.get(name))
        assert issubclass(kind, Section)
        assert all(field.description for field in kind.model_fields.values()), name
    assert all(text for _, text in listing(registry))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"teacher.options": {"speed": 1}}, "teacher.options.speed: teacher 'usem3' has no such .*threads"),
        ({"teacher.options.threads": 0}, "teacher.options.threads: .*greater than or equal to 1"),
        ({"teacher.name": "hf"}, "teacher.options.model must be given for teacher 'hf' .*layer, pooling"),
        ({"teacher.name": "checkpoint"}, "teacher.options: give either path or size"),
        ({"teacher": {"name": "checkpoint", "options": {"size": "3x", "path": "x"}}}, "give either path or size"),
        ({"teacher": {"name": "checkpoint", "options": {"size": "3x", "state": "new"}}}, "'base' or 'finetuned'"),
        ({"corpus.options": {"path": "x"}}, "corpus.options.path: corpus 'intents' has no such .*none"),
        ({"corpus.name": "files"}, "corpus.options.path must be given for corpus 'files' .*language"),
        ({"corpus": {"name": "hub", "options": {"path": ""}}}, "corpus.options.path: .*at least 1 character"),
        ({"projection.kind": "magic"}, "unknown projection 'magic': allowed are hidden, mlp, token-table"),
        ({"projection.options.rank": 0}, "projection.options.rank: .*greater than or equal to 1"),
        (
            {"projection.options.layer": 1},
            "options.layer: projection 'token-table' has no such .*rank, ridge",
        ),
        ({"projection": {"kind": "hidden", "options": {"rank": 2}}}, "rank: projection 'hidden' .*layer, ridge"),
        ({"projection.layer": 1}, "unknown key 'projection.layer': allowed here are kind, options"),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_is_planned(overrides: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load("tiny").with_overrides(overrides)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("--set: ")


def test_another_owner_starts_from_its_own_defaults(tmp_path: Path) -> None:
    tiny = load("tiny")
    assert tiny.projection.options == {"rank": 16}
    assert tiny.with_overrides({"projection.kind": "hidden"}).projection.options == {}
    assert tiny.with_overrides({"projection.kind": "token-table"}).projection.options == {"rank": 16}
    # in either order
    for overrides in (
        {"projection.kind": "hidden", "projection.options.layer": 1},
        {"projection.options.layer": 1, "projection.kind": "hidden"},
    ):
        assert tiny.with_overrides(overrides).projection.options == {"layer": 1}
    for kind, options in (("hidden", {}), ("token-table", {"rank": 16})):
        raw = {"extends": "tiny", "name": "child", "projection": {"kind": kind}}
        (tmp_path / "child.yaml").write_text(yaml.safe_dump(raw))
        assert load(str(tmp_path / "child.yaml")).projection.options == options


def test_options_of_a_projection_change_the_arms_that_project() -> None:
    tiny = load("tiny")
    before, after = (
        {cell.label: cell.train for cell in make_plan(experiment).cells}
        for experiment in (tiny, tiny.with_overrides({"projection.options.rank": 8}))
    )
    changed = {label for label in before if before[label] != after[label]}
    assert changed == {"ecr-1x-s0", "ecr-1x-s1", "codes-only-1x-s0", "ecr-1x-s0-control_tokens.count=1"}


def test_published_projections_are_read_as_they_would_be_written_now() -> None:
    flat = {"kind": "mlp", "rank": 64, "ridge": 1.0, "layer": 2, "mlp_width": 128}
    cells = [{"method": "ecr", "set": {"projection.kind": "hidden", "projection.layer": 1}}]
    dump = load("tiny").model_dump(mode="json")
    modern = modern_experiment({**dump, "projection": flat, "cells": cells})
    experiment = Experiment.model_validate(modern)
    assert (experiment.projection.kind, experiment.projection.options) == ("mlp", {"layer": 2, "width": 128})
    assert experiment.cells[0].set == {"projection.kind": "hidden", "projection.options.layer": 1}
    make_plan(experiment)


def test_what_an_owner_takes_is_found_on_classes_and_functions() -> None:
    class Options(Section):
        """Some."""

        x: int = 1
        """A number."""

    class Teacher:
        pass

    def bare(config: object) -> None: ...

    def takes(config: object, options: object) -> None: ...

    takes.__annotations__["options"] = Options
    assert (
        options_of(Teacher) is NoOptions and options_of(bare) is NoOptions and options_of(lambda config: 1) is NoOptions
    )
    assert options_of(takes) is Options and options_of(type("T", (), {"Options": Options})) is Options
    (option,) = described(Options)
    assert (option.name, option.kind, option.default, option.text) == ("x", "int", "default 1", "A number.")


def both_ways(owner: str, key: str, value: object) -> list[dict]:
    """A cell of an ECR arm whose base learns from 3x, with an option beside its owner's name and in ``set``."""
    beside = {"with": [{owner: {key: value}}]}
    inside = {"with": [owner], "set": {f"options.{owner}.{key}": value}}
    cells = []
    for given in (beside, inside):
        own = {"pretrain.distill": "3x", **given.get("set", {})}
        cells.append({"method": "ecr", "seeds": [0], **given, "set": own})
    return cells


@pytest.mark.parametrize(
    ("owner", "key", "value"),
    [("distill", "temperature", 3.0), ("distill", "divergence", "jsd"), ("dropout", "text", 0.25), ("lora", "rank", 3)],
)
def test_an_option_says_the_same_beside_its_owner_and_in_set(owner: str, key: str, value: object) -> None:
    """One name of an arm, so one set of stages: what pre-trains a base reads options as well."""
    sizes = {**load("tiny").model_dump(mode="json")["sizes"]}
    sizes["3x"] = {**sizes["1x"], "layers": 2}
    plans = [
        make_plan(load("tiny").with_overrides({"sizes": sizes, "cells": [cell]}))
        for cell in both_ways(owner, key, value)
    ]
    beside, inside = plans
    assert beside.cells == inside.cells and beside.stages.keys() == inside.stages.keys()
