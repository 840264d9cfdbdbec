"""Whose terms the weights are under goes where the weights go."""

from __future__ import annotations

import pytest

from ecr_bench.bundle.licence import identifier, sentence, write_licence
from ecr_bench.methods.packaged_models import LICENCE, MODELS


@pytest.mark.parametrize("name", MODELS)
def test_a_packaged_models_note_is_in_folder_and_card(tmp_path, name):
    model = f"package:{name}"
    write_licence(model, tmp_path)
    note = MODELS[name].licence
    assert (tmp_path / LICENCE).read_text(encoding="utf-8") == f"{note}\n" and note in sentence(model)
    assert identifier(model) == MODELS[name].card_licence


def test_a_model_folders_files_go_along(tmp_path):
    model, bundle = tmp_path / "model", tmp_path / "bundle"
    bundle.mkdir()
    for name in ("LICENSE", "NOTICE.txt", "config.json"):
        model.mkdir(exist_ok=True)
        (model / name).write_text(name, encoding="utf-8")
    write_licence(str(model), bundle)
    assert {path.name: path.read_text() for path in bundle.iterdir()} == {
        "LICENSE": "LICENSE",
        "NOTICE.txt": "NOTICE.txt",
    }
    assert "its licence applies" in sentence(str(model)) and identifier(str(model)) is None


def test_a_model_from_scratch_has_none(tmp_path):
    write_licence(None, tmp_path)
    assert not list(tmp_path.iterdir()) and sentence(None) == "" and identifier(None) is None
