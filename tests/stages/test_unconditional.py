"""What the text adds to an option: the stage of unconditional scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from ecr_bench.config import load
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.evaluation.records import write_records
from ecr_bench.items.files import write_items
from ecr_bench.metrics.files import FILE, read_measures
from ecr_bench.runner.plan import make_plan
from ecr_bench.stages.unconditional import UnconditionalInputs, UnconditionalSettings, UnconditionalStage
from ecr_bench.types import Prompt
from tests.conftest import WORDS
from tests.helpers.measuring import LANGS, item, no_progress, records, save_cell


def test_what_the_text_adds_to_an_option_decides(inputs, model, tokenizer, anchors_and_projection):
    """Against the definition, with transformers' own forward: log P(option | text) - log P(option | null tokens)."""
    save_cell(inputs["train"], "ecr", model, tokenizer, anchors_and_projection)
    trained = AutoModelForCausalLM.from_pretrained(inputs["train"] / "model")
    conditioner = Conditioner.load(inputs["train"] / "model" / "conditioner", tokenizer)
    head = conditioner.encode([Prompt("", None)])[0].ids

    def alone(option: str) -> float:
        ids = tokenizer(f" {option}", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = trained(torch.tensor([[*head, *ids]])).logits[0, len(head) - 1 : -1].log_softmax(-1)
        return float(logits.gather(1, torch.tensor(ids)[:, None]).sum())

    items = [item("intent", lang, k, (WORDS[k], f"{WORDS[k + 1]} {WORDS[k]}")) for k in range(6) for lang in LANGS]
    write_items(inputs["items"] / "test", items)
    right = [i % 4 != 0 for i in range(len(items))]  # the right option is the first, and the shorter
    gains = [0.01 if yes else -0.01 for yes in right]
    scored = records([replace(one, choices=("a", "b")) for one in items]).assign(group="unseen")
    scored["loglikelihoods"] = [
        [alone(one.choices[0]) + gain, alone(one.choices[1])] for one, gain in zip(items, gains, strict=True)
    ]
    assert all(first > second for first, second in scored["loglikelihoods"])  # the whole likelihood says nothing of it
    write_records(inputs["score"] / "records.parquet", scored)
    folders = UnconditionalInputs(inputs["train"], inputs["items"], inputs["score"])
    told = UnconditionalStage.run(UnconditionalSettings(batch_tokens=2048), folders, inputs["out"], no_progress)
    assert told.options == len({choice for one in items for choice in one.choices})
    found = {(m.metric, m.lang): m for m in read_measures(inputs["out"] / FILE)}
    assert found["acc_mutual_info", ""].value == found["acc_mutual_info_coarse", ""].value
    assert found["acc_mutual_info", ""].value == pytest.approx(sum(right) / len(right))
    for lang in LANGS:
        mine = [yes for yes, one in zip(right, items, strict=True) if one.lang == lang]
        assert found["acc_mutual_info", lang].value == pytest.approx(sum(mine) / len(mine))
    assert len(found) == 2 + len(LANGS)


def test_options_without_their_text_are_a_stage_of_their_own_and_move_no_other():
    off, on = (make_plan(load("quick").with_overrides({"scoring.unconditional": value})) for value in (False, True))
    added = set(on.stages) - set(off.stages)
    assert not set(off.stages) - set(on.stages) and {on.stages[one].kind for one in added} == {"unconditional"}
    assert {cell.unconditional for cell in on.cells} == added and {cell.unconditional for cell in off.cells} == {None}
