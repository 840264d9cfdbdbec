"""What code a piece of work reaches, found without importing it: the reader itself, and against what really runs."""

from __future__ import annotations

import cProfile
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from ecr_bench import source_code
from ecr_bench.config import load
from ecr_bench.quiet import quiet_libraries
from ecr_bench.runner.perform import run_stage
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.store import Store
from ecr_bench.source_code import ROOT, code_of, forget, installed_version
from ecr_bench.stages.stage import Stage


@pytest.fixture(autouse=True)
def _read_anew() -> Any:
    forget()
    yield
    forget()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``write(name, text)`` puts a module of a package ``world`` where Python finds it."""
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> str:
        path = tmp_path.joinpath("world", *name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        forget()
        return f"world.{name}"

    yield write
    for loaded in [name for name in sys.modules if name.partition(".")[0] == "world"]:
        del sys.modules[loaded]


def reached(name: str, chosen: tuple[str, ...] = ()) -> set[str]:
    return set(code_of([name], chosen).files) - {"world"}


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("import world.b", True),
        ("from world import b", True),
        ("from world.b import something", True),
        ("from . import b", True),
        ("from .b import something", True),
        ("def work():\n    from world.b import something", True),
        ("class A:\n    def work(self):\n        if self:\n            import world.b", True),
        ("try:\n    import world.b\nexcept ImportError:\n    pass", True),
        ("import importlib\nimportlib.import_module('world.b')", True),
        ("WHERE = 'world.b:something'", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import world.b", False),
        ("import typing\nif typing.TYPE_CHECKING:\n    import world.b\nelse:\n    import json", False),
        ("from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import world.b", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import world.b", True),
        ("def where(name):\n    return f'world.{name}:something'", True),
        ("def where(name):\n    return f'world.b.{name}'", False),  # b is no package: nothing is inside
        ("def where(name):\n    return f'my world.{name}'", False),
        ("'import world.b'", False),
        ("import json", False),
    ],
)
def test_imports_wherever_they_stand(package: Any, text: str, there: bool) -> None:
    package("b", "")
    assert reached(package("a", text)) == ({"world.a", "world.b"} if there else {"world.a"})


def test_what_is_imported_imports(package: Any) -> None:
    package("b", "import world.deep.c")
    package("deep.__init__", "import world.d")
    package("deep.c", "import world.a")  # a ring
    package("d", "")
    package("e", "import world.a")
    assert reached(package("a", "import world.b")) == {f"world.{n}" for n in ("a", "b", "deep", "deep.c", "d")}


REGISTRY = """from ecr_bench.registry import Registry
THINGS = Registry("thing", {"b": "world.b:B"}, {"b": "help"})
THINGS.add("c", "world.c:C", "help")
"""


def test_of_a_registry_all_or_the_chosen(package: Any) -> None:
    for name in "bc":
        package(name, "")
    package("things", REGISTRY)
    name = package("a", "from world.things import THINGS")
    ours = {"world.a", "world.things"}
    assert {n for n in reached(name) if n.startswith("world")} == ours | {"world.b", "world.c"}
    assert {n for n in reached(name, ("thing",)) if n.startswith("world")} == ours
    before = code_of([name, "world.b"], ["thing"])
    package("things", REGISTRY + 'THINGS.add("d", "world.d:D")\n')
    assert code_of([name, "world.b"], ["thing"]) == before  # another entry is no other code
    package("things", REGISTRY + "LIMIT = 3\n")
    assert code_of([name, "world.b"], ["thing"]) != before


def test_entries_that_are_objects_are_code(package: Any) -> None:
    package("things", 'from ecr_bench.registry import Registry\nTHINGS = Registry("thing")\nTHINGS.add("b", 1)\n')
    name = package("a", "from world.things import THINGS")
    before = code_of([name], ["thing"])
    package("things", 'from ecr_bench.registry import Registry\nTHINGS = Registry("thing")\nTHINGS.add("b", 2)\n')
    assert code_of([name], ["thing"]) != before


def test_a_file_counts_by_its_bytes(package: Any) -> None:
    name = package("a", "X = 1\n")
    before = code_of([name])
    package("a", "X = 1\n")
    assert code_of([name]) == before
    package("a", "X = 1  # why\n")
    assert code_of([name]) != before


def test_packages_are_those_that_are_imported(package: Any) -> None:
    name = package("a", "import sklearn.cluster\ndef f():\n    import yaml\n    import not_installed_here.x\n")
    assert code_of([name]).packages == {
        "scikit-learn": installed_version("scikit-learn"),
        "PyYAML": installed_version("PyYAML"),
        "not_installed_here": None,
    }


def test_a_local_version_is_the_public_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_code, "version", lambda name: "2.9.0+cpu")
    assert installed_version("torch") == "2.9.0"


# --- against what really runs ------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {
    "teacher.name": "bag",
    "teacher.rows": 200,
    "pretrain.steps": 2,
    "finetune.steps": 2,
    "finetune.items": 40,
    "scoring.items": 2,
    "precisions": ["fp32", "int8"],
    "projection": {"kind": "hidden"},
    "cells": [
        {"method": "ecr", "with": ["dropout", "refresh"]},
        {"method": "oracle"},
        {"method": "soft-cue"},
        {"method": "teacher-probe"},
        {"method": "finetune", "with": [{"distill": {"cache_top_k": 4}}, {"lora": {"base": "int8"}}]},
    ],
}


@pytest.mark.slow
def test_every_file_of_ours_that_a_stage_runs_is_part_of_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet_libraries()
    ran: dict[str, set[Path]] = {}
    plain = Stage.run

    def watched(self: Stage[Any], *arguments: Any) -> Any:
        profile = cProfile.Profile()
        result = profile.runcall(plain, self, *arguments)
        codes = (entry.code for entry in profile.getstats())
        files = {Path(code.co_filename) for code in codes if isinstance(code, CodeType)}
        ran[self.id] = {file.relative_to(ROOT) for file in files if file.is_relative_to(ROOT)}
        return result

    monkeypatch.setattr(Stage, "run", watched)
    plan = make_plan(load("tiny").with_overrides(SETTINGS))
    for stage in plan.stages.values():
        run_stage(stage, Store(tmp_path), lambda done, total: None)
    own = {Path("stages/stage.py"), Path("__init__.py")}  # who calls, and the public names
    for stage in plan.stages.values():
        # whom an arm asks when it is used counts through the stage that trained it
        trained = counted(plan.stages[stage.inputs["train"]]) if "train" in stage.inputs else set()
        asked = {path for path in trained if path.parts[0] == "teachers"}
        assert ran[stage.id] and ran[stage.id] - counted(stage) - asked - own == set(), stage.label


def counted(stage: Stage[Any]) -> set[Path]:
    """Files of ours in the identity of ``stage``."""
    modules = {Path(*name.split(".")[1:]) for name in stage.identity.files if name.startswith("ecr_bench.")}
    return {path.with_suffix(".py") for path in modules} | {path / "__init__.py" for path in modules}
