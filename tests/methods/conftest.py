"""Shared by the tests of methods."""

from __future__ import annotations

import pytest

from tests.helpers.distillation import save_larger_model


@pytest.fixture
def teacher_folder(tmp_path, tokenizer):
    folder = tmp_path / "larger" / "model"
    save_larger_model(folder, tokenizer)
    return folder
