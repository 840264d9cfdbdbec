"""Shared by the tests of methods."""

from __future__ import annotations

import pytest
import torch

from ecr_bench.config import SizeConfig
from ecr_bench.methods.models import create_model


@pytest.fixture
def teacher_folder(tmp_path, tokenizer):
    folder = tmp_path / "larger" / "model"
    big = SizeConfig(hidden_size=48, layers=1, heads=2, intermediate_size=64, max_length=64)
    teacher = create_model(big, tokenizer, seed=3)
    with torch.no_grad():  # a fresh model says next to nothing
        teacher.get_input_embeddings().weight.mul_(20)
    teacher.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
