"""Every shipped paper file, from corpus to board, on tiny models of the same classes (paper-qwen: test_bundle.py)."""

from __future__ import annotations

import pytest

from ecr_bench.runner.store import Store
from ecr_bench.stages.base_model import BaseStage
from tests.helpers.tiny_models import run_here


def check(board, plan):
    """All cells were trained and scored at every precision they have, on the same items."""
    arms = {(row.arm, row.precision) for row in board.rows}
    assert {arm for arm, _ in arms} == {cell.arm for cell in plan.cells}
    assert {precision for arm, precision in arms if str(arm) == "ecr-1x"} == {"fp32", "bf16", "int8", "nf4"}
    assert {row.task for row in board.rows} >= {"label", "meaning", "all"}
    assert len({row.n_items for row in board.rows if row.task == "all" and row.group == "unseen"}) == 1


@pytest.mark.slow
def test_llama_as_shipped(tiny_folders, tmp_path):
    models = [f"sizes.1x.model={tiny_folders['llama']}", f"sizes.3x.model={tiny_folders['llama 3x']}"]
    board, plan = run_here("paper-llama3.2", tiny_folders, tmp_path, *models)
    check(board, plan)
    sizes = {row.arm.size: row.parameters for row in board.rows if row.arm.name == "finetune"}
    assert sizes["3x"] > 2 * sizes["1x"]
    languages = {item["lang"] for item in board.model_dump()["by_language"]}
    assert len(languages) == 20


@pytest.mark.slow
def test_gemma_as_shipped_with_a_multimodal_4b(tiny_folders, tmp_path):
    names = {"1x": "gemma3", "3x": "gemma3 3x", "4b": "gemma3-multimodal 3x"}
    models = [f"sizes.{size}.model={tiny_folders[name]}" for size, name in names.items()]
    board, plan = run_here("paper-gemma3", tiny_folders, tmp_path, *models)
    check(board, plan)
    # the text part of the multimodal model is as large as the text-only one: no vision tower was trained or stored
    sizes = {row.arm.size: row.parameters for row in board.rows if row.arm.name == "finetune"}
    assert sizes["4b"] == sizes["3x"]


@pytest.mark.slow
def test_qwen3_pretrained_on_with_the_larger_models_states_as_teacher_and_text_from_pypi(tiny_folders, tmp_path):
    pytest.importorskip("home_assistant_intents")
    board, plan = run_here(
        "paper-qwen",
        tiny_folders,
        tmp_path,
        f"sizes.1x.model={tiny_folders['qwen3']}",
        f"sizes.3x.model={tiny_folders['qwen3 3x']}",
        "pretrain={steps: 2, batch_size: 6, learning_rate: 1.0e-4, optimiser: adamw}",
        "corpus={name: intents, rows: 2000, languages: [en, de, fr, zh, ru, ja]}",
        "seen_languages=[en, de, fr, zh]",
        "tasks=[intent, slot, meaning]",
        "teacher={name: checkpoint, rows: 300, options: {size: 3x, state: base, layer: 1}}",
        "sizes.1x.accumulate=2",
        "projection={kind: hidden, options: {layer: 1}}",
        "cells=[{method: finetune, sizes: [1x, 3x]}, {method: ecr}, {method: finetune, with: [distill]}]",
    )
    assert {row.arm.name for row in board.rows} == {"finetune", "ecr", "finetune+distill"}
    store = Store(tmp_path)
    bases = [store.read(BaseStage, cell.base).training for cell in plan.cells]
    assert all(base.steps == 2 and base.train_loss is not None for base in bases)
