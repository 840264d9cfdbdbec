"""A folder of a model that is not whole is refused in one line before any stage runs, wherever it is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ecr_bench import config
from ecr_bench.errors import UserError
from ecr_bench.publish import Execution, run_and_publish
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.preflight import check_model_folders
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
    return Path(shutil.copytree(whole, tmp_path / "model"))


WAYS: dict[str, dict[str, Any]] = {
    "size": {"sizes.1x": {"model": "FOLDER", "max_length": 64}},
    "teacher": {"teacher.name": "hf", "teacher.options": {"model": "FOLDER"}},
    "checkpoint": {"teacher.name": "checkpoint", "teacher.options": {"path": "FOLDER"}},
}


def experiment(way: str, folder: Path) -> config.Experiment:
    def here(value: Any) -> Any:
        return {key: here(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    named = {key: here(value) for key, value in WAYS[way].items()}
    for value in named.values():
        if isinstance(value, dict):
            value |= {key: str(folder) for key, inner in value.items() if inner == "FOLDER"}
    cells = [{"method": "ecr", "sizes": ["1x"]}]
    return config.load("tiny").with_overrides({**named, "cells": cells})


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_folder_passes(way: str, folder: Path) -> None:
    check_model_folders(make_plan(experiment(way, folder)))


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


def test_a_window_that_the_model_does_not_have_is_known_before(folder: Path) -> None:
    longer = experiment("size", folder).with_overrides({"sizes.1x.max_length": 65})
    with pytest.raises(UserError, match="reads 64 tokens, max_length is 65"):
        check_model_folders(make_plan(longer))


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
