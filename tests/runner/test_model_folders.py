"""A folder of a model that is not whole is refused in one line before any stage runs, wherever it is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import AutoModel

from ecr_bench import config
from ecr_bench.errors import UserError
from ecr_bench.methods.distill import Distill, teacher_folder
from ecr_bench.publish import Execution, run_and_publish
from ecr_bench.runner.model_checks import check_models
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.preflight import check_model_folders
from ecr_bench.runner.store import Store
from ecr_bench.sections import TeacherConfig
from ecr_bench.teachers.registry import create
from ecr_bench.weight_files import check_whole
from tests.helpers.damage import DAMAGES, damaged

NEEDED = ["config.json", "model.safetensors", "tokenizer.json"]
LOST = ["cut to half", "emptied", "deleted", "a folder"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, size: Any, tokenizer: Any) -> Path:
    from ecr_bench.methods.models import create_model

    folder = tmp_path_factory.mktemp("models") / "model"
    create_model(size, tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """With a second one beside it, ``student``."""
    shutil.copytree(whole, tmp_path / "student")
    return Path(shutil.copytree(whole, tmp_path / "model"))


DISTILLED = [{"method": "finetune", "with": ["distill"], "set": {"sizes.1x.max_length": 64}}]
WAYS: dict[str, dict[str, Any]] = {
    "size": {"sizes.1x": {"model": "FOLDER", "max_length": 64}},
    "teacher": {"teacher.name": "hf", "teacher.options": {"model": "FOLDER"}},
    "checkpoint": {"teacher.name": "checkpoint", "teacher.options": {"path": "FOLDER"}},
    "teacher's size": {
        "sizes.3x": {"model": "FOLDER", "max_length": 64},
        "teacher.name": "checkpoint",
        "teacher.options": {"size": "3x", "state": "base"},
    },
    "distilled size": {
        "sizes.3x": {"model": "FOLDER", "max_length": 64},
        "sizes.1x": {"model": "STUDENT", "max_length": 64},
        "cells": DISTILLED,
    },
    "distilled": {"options.distill": {"model": "FOLDER"}, "cells": DISTILLED},
}


def experiment(way: str, folder: Path) -> config.Experiment:
    def here(value: Any) -> Any:
        return {key: here(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    named = {key: here(value) for key, value in WAYS[way].items()}
    for value in named.values():
        if isinstance(value, dict):
            value |= {key: str(folder) for key, inner in value.items() if inner == "FOLDER"}
            value |= {key: str(folder.parent / "student") for key, inner in value.items() if inner == "STUDENT"}
    return config.load("tiny").with_overrides({"cells": [{"method": "ecr"}], **named})


def refused(way: str, folder: Path, **overrides: Any) -> str:
    plan = make_plan(experiment(way, folder).with_overrides(overrides))
    with pytest.raises(UserError) as caught:
        check_models(plan, Store(folder.parent / "out"), Console(quiet=True))
    return str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_folder_passes(way: str, folder: Path) -> None:
    check_model_folders(make_plan(experiment(way, folder)))


@pytest.mark.parametrize("way", WAYS)
def test_the_home_folder_is_one_wherever_a_folder_is_named(
    way: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is checked, counts and is found as under its whole name."""
    monkeypatch.setenv("HOME", str(folder.parent))
    at_home, whole = (make_plan(experiment(way, place)) for place in (Path("~/model"), folder))
    assert {*at_home.stages} == {*whole.stages}
    check_model_folders(at_home)
    check_models(at_home, Store(folder.parent / "out"), Console(quiet=True))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NEEDED)
def test_a_folder_at_home_that_is_not_whole_is_one_line_as_well(
    name: str, way: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    with damaged(folder / name, "deleted"), pytest.raises(UserError) as caught:
        check_model_folders(make_plan(experiment(way, Path("~/model"))))
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message and len(message) < 500, message


@pytest.mark.parametrize("kind", ["hf", "checkpoint"])
def test_a_teacher_at_home_speaks(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    key = "model" if kind == "hf" else "path"
    at_home, whole = (create(TeacherConfig(name=kind, options={key: at})) for at in ("~/model", str(folder)))
    assert at_home.fingerprint == whole.fingerprint
    assert (at_home.embed(["a b"]) == whole.embed(["a b"])).all()


def test_a_model_at_home_is_distilled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert teacher_folder(Distill.Options(model="~/model"), {}) == folder


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("damage", LOST)
def test_a_folder_that_is_not_whole_is_one_line(damage: str, name: str, way: str, folder: Path) -> None:
    with damaged(folder / name, damage), pytest.raises(UserError) as caught:
        check_model_folders(make_plan(experiment(way, folder)))
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message and len(message) < 500, message


def test_nothing_is_written_before_it_is_known(folder: Path, tmp_path: Path) -> None:
    DAMAGES["cut to half"](folder / "model.safetensors")
    with pytest.raises(UserError, match="not whole"):
        run_and_publish(experiment("size", folder), Execution(tmp_path / "runs", Console(quiet=True)))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("way", "name"), [("size", "1x"), ("teacher's size", "3x"), ("distilled size", "3x")])
def test_a_window_that_the_model_does_not_have_is_known_before(way: str, name: str, folder: Path) -> None:
    message = refused(way, folder, **{f"sizes.{name}.max_length": 65})
    assert message.startswith(f"sizes.{name}.max_length: ") and "reads 64 tokens, max_length is 65" in message


def test_each_window_of_a_folder_is_looked_at(folder: Path) -> None:
    """Of two sizes of one model the second has too long a window."""
    second = {"sizes.3x": {"model": str(folder), "max_length": 65}, "cells": [{"method": "ecr", "sizes": ["1x", "3x"]}]}
    assert refused("size", folder, **second).startswith("sizes.3x.max_length: ")
    second["cells"] = [{"method": "ecr", "set": {"pretrain.distill": "3x"}}]
    assert refused("size", folder, **second).startswith("sizes.3x.max_length: ")


def test_what_is_distilled_reads_as_much_as_the_student(folder: Path) -> None:
    longer = [{**DISTILLED[0], "set": {"sizes.1x.max_length": 65}}]
    message = refused("distilled", folder, cells=longer)
    assert message.startswith("options.distill.model: ")
    assert "reads 64 tokens, the size that learns from it 65" in message
    short = {"sizes.3x.max_length": 32, "sizes.1x.max_length": 64}
    for key, cell in (("pretrain", {"set": {"pretrain.distill": "3x"}}), ("options", {"with": ["distill"]})):
        message = refused("teacher", folder, **short, cells=[{"method": "ecr", **cell}])
        assert message.startswith(f"{key}.distill") and "size 3x reads 32 tokens" in message


LEARNED = {
    "teacher": "teacher.options.model: ",
    "checkpoint": "teacher.options.path: ",
    "teacher's size": "sizes.3x: ",
    "distilled size": "sizes.3x: ",
    "distilled": "options.distill.model: ",
}


@pytest.mark.parametrize("way", LEARNED)
def test_what_is_learned_from_needs_memory_for_all_its_config_says(way: str, folder: Path) -> None:
    path = folder / "config.json"
    shape = {"hidden_size": 8192, "intermediate_size": 65_536, "num_hidden_layers": 1000}
    path.write_text(json.dumps({**json.loads(path.read_text()), **shape}))
    message = refused(way, folder)
    assert message.startswith(LEARNED[way]) and str(folder) in message and "GB are free" in message, message
    check_models(make_plan(experiment(way, folder)), Store(folder.parent / "out"), Console(quiet=True), here=False)


@pytest.mark.parametrize("way", WAYS)
def test_what_fits_passes(way: str, folder: Path) -> None:
    check_models(make_plan(experiment(way, folder)), Store(folder.parent / "out"), Console(quiet=True))


def test_a_teacher_that_takes_half_precision_needs_half(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ecr_bench import memory
    from ecr_bench.methods.models import count_parameters

    numbers = count_parameters(AutoModel.from_pretrained(folder))
    monkeypatch.setattr(memory, "free_memory", lambda: 4 * numbers - 1)
    assert "to be read" in refused("teacher", folder)
    half = experiment("teacher", folder).with_overrides({"teacher.options.dtype": "bfloat16"})
    check_models(make_plan(half), Store(folder.parent / "out"), Console(quiet=True))


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0{}x", b"\x02\0\0\0\0\0\0\0[]", b"GGUF" * 9]
)
def test_what_is_no_safetensors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: not safetensors, or not whole"):
        check_whole(path)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../b.safetensors"}}'],
)
def test_an_index_of_weights_names_files_beside_it(content: str, folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=r"index\.json"):
        check_model_folders(make_plan(experiment("size", folder)))
