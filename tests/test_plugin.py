"""Adding a method, a teacher, a corpus and a task from one file outside the package."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ecr_bench.cli import main
from ecr_bench.config import TeacherConfig, load, parse_set
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.errors import UserError
from ecr_bench.items.registry import TASKS
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.plugins import blame, load_plugins
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.store import Store
from ecr_bench.teachers.registry import TEACHERS, create
from tests.helpers.outside import ROOT

EXAMPLES = ROOT / "docs" / "examples"
PLUGIN, EXPERIMENT = EXAMPLES / "my_plugin.py", EXAMPLES / "my_experiment.yaml"


@pytest.fixture(autouse=True)
def _registries_as_before() -> Iterator[None]:
    registries = (METHODS, MODIFIERS, TEACHERS, CORPORA, TASKS)
    before = [(dict(registry.entries), dict(registry.help)) for registry in registries]
    yield
    for registry, (entries, lines) in zip(registries, before, strict=True):
        registry.entries, registry.help = entries, lines
    for name in [name for name in sys.modules if name.startswith("ecr_bench_plugin_")]:
        del sys.modules[name]


def test_the_documented_example_is_the_file() -> None:
    guide, code = (EXAMPLES.parent / "plugins.md").read_text(), PLUGIN.read_text()
    shown = [part.split("```")[0].strip() for part in guide.split("```python\n")[1:]]
    assert len(shown) == 2 and all(part in code for part in shown)


def test_the_example_adds_one_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    main(["methods", "--plugin", str(PLUGIN)])
    main(["teachers", "--plugin", str(PLUGIN)])
    out = capsys.readouterr().out
    assert "few-codes" in out and "letters" in out and "How many codes there are." in out
    assert "token-rows" in out and "Train the norms as well." in out
    assert "rooms" in CORPORA and "verb" in TASKS


@pytest.mark.slow
def test_the_example_runs_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["finetune.steps=2", "options.few-codes.distinct=3"]
    main(["run", str(EXPERIMENT), "--plugin", str(PLUGIN), "--out", str(tmp_path), "--set", *settings])
    records = pd.read_parquet(tmp_path / "mine" / "records.parquet")
    two, frozen = "few-codes-1x[few-codes.distinct=2]", "ecr+dropout+token-rows-1x[token-rows.norms=True]"
    assert set(records["arm"]) == {"finetune-1x", "finetune-3x", "ecr-1x", "few-codes-1x", two, frozen}
    assert set(records["task"]) == {"verb"} and set(records["group"]) == {"seen", "unseen"}
    for arm, codes in (("few-codes-1x", 3), (two, 2)):
        tokens = records[records["arm"] == arm]["control_tokens"]
        assert len({code for row in tokens for code in row}) == codes
    assert "few-codes-1x" in capsys.readouterr().out
    plan = make_plan(load(str(EXPERIMENT)).with_overrides(parse_set(settings)))
    store, cell = Store(tmp_path), next(cell for cell in plan.cells if str(cell.arm) == frozen)
    before, after = (load_file(store.path(stage) / "model" / "model.safetensors") for stage in (cell.base, cell.train))
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved and all("embed_tokens" in name or "norm" in name for name in moved)


def plan_with(plugin: Path) -> Plan:
    load_plugins((str(plugin),))
    return make_plan(load(str(EXPERIMENT)))


def test_an_edited_plugin_is_run_again_and_nothing_else(tmp_path: Path) -> None:
    shutil.copy(PLUGIN, tmp_path / "one.py")
    (tmp_path / "two.py").write_text(PLUGIN.read_text() + "\n# edited\n")
    one, two = plan_with(tmp_path / "one.py"), plan_with(tmp_path / "two.py")
    assert one.stages.keys() & two.stages.keys() == set()
    tiny = make_plan(load("tiny"))
    assert not any(name.startswith("plugin") for stage in tiny.stages.values() for name in stage.identity.files)


METHOD = "from ecr_bench.methods.method import Method, Modifier\n"
METHOD += "from ecr_bench.methods.registry import METHODS, MODIFIERS\n"
METHOD += "from ecr_bench.section import Section\n"
A = f"{METHOD}class A(Method):\n    'Doc.'\n    def source(self, given): ...\n"
B = f"{METHOD}class B(Modifier):\n    'Doc.'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_like_this", "ModuleNotFoundError"),
        ("1/0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        (f"{METHOD}METHODS.add('a', 'nope.mod:Nope')", "method 'a' is not at 'nope.mod:Nope': ModuleNotFoundError"),
        (f"{METHOD}METHODS.add('a', 'json:Nope')", "method 'a' is not at 'json:Nope': AttributeError"),
        (
            f"{METHOD}class A(Method):\n    'Doc.'\nMETHODS.add('a', A)",
            "method 'a' must define 'source",
        ),
        (f"{METHOD}METHODS.add('a', dict)", "method 'a' must be a subclass of ecr_bench.methods.method.Method"),
        (
            f"{METHOD}class A(Method):\n    def source(self, given): ...\nMETHODS.add('a', A)",
            "method 'a' must have a docstring",
        ),
        (f"{METHOD}class A(Modifier): ...\nMODIFIERS.add('a', A)", "modifier 'a' must have a docstring"),
        (f"{B}METHODS.add('b', B)", "method 'b' must be a subclass of ecr_bench.methods.method.Method"),
        (f"{A}MODIFIERS.add('a', A)", "modifier 'a' must be a subclass of ecr_bench.methods.method.Modifier"),
        (f"{A}METHODS.add('a+b', A)", r"method 'a\+b' must be named with letters, digits"),
        (f"{A}METHODS.add('a.b', A)", "method 'a.b' must be named with letters, digits"),
        (f"{A}METHODS.add('lora', A)", "method 'lora' is a modifier already"),
        (f"{B}MODIFIERS.add('ecr', B)", "modifier 'ecr' is a method already"),
        (f"{A}    class Options: ...\nMETHODS.add('a', A)", "must declare its Options as a subclass of .*Section"),
        (
            f"{B}    class Options(Section):\n        rate: float = 1.0\nMODIFIERS.add('b', B)",
            "modifier 'b' must have a docstring below its option 'rate'",
        ),
        (
            "from ecr_bench.corpora.registry import CORPORA\nCORPORA.add('c', lambda: 1)",
            r"corpus 'c' must be callable with \(config\)",
        ),
        (
            "from ecr_bench.items.registry import TASKS\nTASKS.add('t', lambda frame: [])",
            "task 't' must be callable with .*pairs",
        ),
        ("from ecr_bench.teachers.registry import TEACHERS\nTEACHERS.add('t', 3)", "teacher 't' must be callable"),
    ],
)
def test_a_broken_plugin_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    for _ in range(2):  # the second time nothing half-loaded may pass
        with pytest.raises(UserError, match=message) as caught:
            load_plugins((str(path),))
        assert "broken.py" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_text_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file: .*none\.py"):
        load_plugins((str(tmp_path / "none.py"),))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"notes\.txt: not a Python file"):
        load_plugins((str(tmp_path / "notes.txt"),))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"options.few-codes.distinct": 0}, "options.few-codes.distinct: .*greater than or equal to 1"),
        ({"options.few-codes.distnct": 2}, "few-codes.distnct: method 'few-codes' has no such option: .*distinct"),
        ({"cells": [{"method": "few-codes", "options": {"x": 1}}]}, "few-codes.x: method 'few-codes' has no such"),
        ({"cells": [{"method": "ecr", "with": [{"token-rows": {"norms": 1}}]}]}, "token-rows.norms: .*valid boolean"),
        ({"cells": [{"method": "ecr", "with": ["token-row"]}]}, "unknown modifier 'token-row': .*token-rows"),
    ],
)
def test_a_wrong_option_of_a_plugin_is_one_line(overrides: dict[str, object], message: str) -> None:
    load_plugins((str(PLUGIN),))
    with pytest.raises(UserError, match=message) as caught:
        make_plan(load(str(EXPERIMENT)).with_overrides(overrides))
    assert "\n" not in str(caught.value)


def test_an_option_of_a_plugin_retrains_the_arms_that_use_it_only() -> None:
    load_plugins((str(PLUGIN),))
    experiment = load(str(EXPERIMENT))

    def changed(key: str, value: object) -> set[str]:
        after = make_plan(experiment.with_overrides({key: value}))
        pairs = zip(make_plan(experiment).cells, after.cells, strict=True)
        return {str(a.arm) for a, b in pairs if a.train != b.train}

    # the other few-codes arm has an own value
    assert changed("options.few-codes.distinct", 3) == {"few-codes-1x"}
    assert changed("options.token-rows.norms", True) == set()


@pytest.mark.parametrize("field", ["name", "dim", "fingerprint", "embed"])
def test_a_teacher_without_a_field_is_one_line(field: str) -> None:
    fields = {"name": "t", "dim": 2, "fingerprint": "t-1", "embed": lambda self, texts, on_progress=None: None}
    fields.pop(field)
    TEACHERS.add("t", type("T", (), {"__init__": lambda self, options: None, **fields}))
    with pytest.raises(UserError, match=f"teacher 't': lacks the (field|method) '{field}"):
        create(TeacherConfig(name="t"))


CORPUS = """from ecr_bench.corpora.registry import CORPORA

def build(config):
    {body}

CORPORA.add("boom", build)
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {}[config.name]", "broken.py, line 4: KeyError: 'boom'"),
        ("return None", "corpus 'boom' must give an ecr_bench.corpora.base.Corpus, not None"),
    ],
)
def test_a_plugin_that_fails_when_used_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, message: str
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(CORPUS.format(body=body))
    with pytest.raises(SystemExit) as caught:
        main(["data", "boom", "--plugin", str(path)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 2 and len(lines) == 1 and message in lines[0]


def test_a_plugin_that_fails_in_a_worker_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.py"
    path.write_text(CORPUS.format(body="1 / 0"))
    with pytest.raises(SystemExit) as caught:
        main(["run", "tiny", "--plugin", str(path), "--out", str(tmp_path), "--set", "corpus={name: boom}"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 2 and "broken.py, line 4: ZeroDivisionError" in lines[-1]
    assert "Traceback" not in "".join(lines)


def test_an_entry_point_may_name_what_is_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", "string:digits", "ecr_bench.plugins")
    monkeypatch.setattr("ecr_bench.plugins.entry_points", lambda group: [entry])
    load_plugins()


def test_our_own_errors_are_not_blamed_on_a_plugin() -> None:
    load_plugins((str(PLUGIN),))
    try:
        load("tiny").cells[99]
    except IndexError as error:
        assert blame(error) is None
