"""Items of which the order of the options decided are counted and named, on a board and by ``eval``."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ecr_bench.data.encode import ask
from ecr_bench.data.joint import encode_questions
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.evaluation.records import undecided
from ecr_bench.fast.scorer import Request, loglikelihoods
from ecr_bench.results.notes import edge_note, undecided_note
from ecr_bench.types import Item
from tests.helpers.tokenizer_kinds import tokenizer_of
from tests.helpers.world import LEVELS, make


@pytest.mark.parametrize(
    ("scores", "tied"),
    [([-1.0, -2.0], False), ([-2.0, -2.0, -1.0], False), ([-1.0, -1.0, -2.0], True), ([-3.0, -3.0], True)],
)
def test_only_the_highest_must_stand_alone(scores: list[float], tied: bool) -> None:
    assert undecided(pd.DataFrame({"loglikelihoods": [scores]})).tolist() == [tied]


def test_the_note_counts_by_arm_and_is_not_there_without_any() -> None:
    records = make(LEVELS, items=5).records.reset_index(drop=True)
    assert undecided_note(records) == []
    rows = records.index[records["arm"] == "ecr-1x"][:7]
    for row in rows:
        records.at[row, "loglikelihoods"] = [-1.0] * 4
    (note,) = undecided_note(records)
    assert f"ecr-1x in 7 of {(records['arm'] == 'ecr-1x').sum()}" in note and "finetune" not in note


def test_a_probe_whose_ridge_is_at_an_end_of_its_grid_is_named() -> None:
    cell = make(LEVELS, items=5).cells[0]
    fits = {"intent": {"penalty": 1e-7, "at_edge": True}, "slot": {"penalty": 1e-6, "at_edge": False}}
    assert edge_note([cell]) == [] == edge_note([cell.model_copy(update={"probe": {"intent": {"penalty": 1e-5}}})])
    (note,) = edge_note([cell.model_copy(update={"probe": fits})] * 2)
    assert str(cell.arm) in note and "(intent)" in note


def test_options_in_a_script_that_a_tokenizer_does_not_know_are_undecided() -> None:
    """WordPiece makes one unknown token of each word: the score of all options is the same to the last bit."""
    tokenizer: Any = tokenizer_of("wordpiece")
    options = ("ᚠᚢᚦ", "ᚨᚱᚲ", "ᚷᚹᚺ")
    item = Item(
        item_id="x", task="intent", grain="fine", cluster="c", lang="en", target_lang="en", text="turn on",
        question="the lamp", choices=options, gold=2, topic="",
    )  # fmt: skip
    (found,) = encode_questions(Conditioner(tokenizer), ask([item]), 64)
    assert len(set(found.continuations)) == 1
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    with torch.random.fork_rng():
        model = LlamaForCausalLM(config).eval()
    requests = [Request(tuple(found.context.ids), ids) for ids in found.continuations]
    scores = [score for score, _ in loglikelihoods(model, requests, pad_id=0, max_length=64)]
    assert undecided(pd.DataFrame({"loglikelihoods": [scores]})).tolist() == [True]
