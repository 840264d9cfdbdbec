"""Held-out parallel rows, sentence vectors under conditioning, and what training leaves behind."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from ecr_bench.config import FinetuneConfig
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.data.parallel import parallel_rows
from ecr_bench.ecr.codes import ConstantCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.errors import UserError
from ecr_bench.evaluation.pooled import pooled_states
from ecr_bench.methods.base import CausalLMModule
from ecr_bench.methods.models import create_model
from ecr_bench.stages.fitting import Snapshots, fit
from ecr_bench.types import Prompt
from tests.helpers.rows import whole_rows


def corpus(languages=("de", "en", "fr"), meanings=10) -> pd.DataFrame:
    keys = [(lang, m, split) for lang in languages for m in range(meanings) for split in ("train", "test")]
    rows = [
        {"id": f"{lang}-{m}-{split}", "text": f"{lang} {m} {split}", "lang": lang, "meaning": f"m{m}",
         "label": f"l{m % 2}", "unit": f"{lang}{split}", "split": split, "slots": "{}"}
        for lang, m, split in keys
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_parallel_rows_are_held_out_translations_of_english():
    found = parallel_rows(corpus(), per_language=4)
    assert len(found) == 2 * 2 * 4 and not found["text"].str.contains("train").any()
    for _, pair in found.groupby("pair"):
        assert pair["meaning"].nunique() == 1 and pair["lang"].tolist()[1] == "en"
    assert found["pair"].tolist() == [i // 2 for i in range(len(found))]
    assert found["lang"].value_counts().to_dict() == {"en": 8, "de": 4, "fr": 4}


def test_parallel_rows_do_not_depend_on_row_order_and_pivot_falls_back():
    frame = corpus()
    assert parallel_rows(frame, 3).equals(parallel_rows(frame.sample(frac=1, random_state=5), 3))
    without = parallel_rows(pd.concat([corpus(("it",), 10), corpus(("de",), 6)]), 99)
    assert without["lang"].tolist() == ["de", "it"] * 6
    assert parallel_rows(frame[frame.split == "train"], 3).empty


def test_pooled_states_are_the_mean_over_text_tokens(model, tokenizer):
    texts = ["lamp on", "kitchen door red blue", "open"]
    found = pooled_states(model, Conditioner(tokenizer), texts, [""] * 3, layer=1, batch_tokens=64)
    for text, row in zip(texts, found, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(row, states[0, 1:].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("placement", ["prefix", "suffix"])
def test_control_tokens_are_read_but_not_pooled(model, tokenizer, placement):
    tokens = ControlTokens(len(tokenizer), 4)
    tokens.add_to(model, 0.5, 0)
    conditioner = Conditioner(tokenizer, ConstantCodes(2, 4), tokens, 2, placement)
    ids = conditioner.encode([Prompt("lamp on", "lamp on")])[0].ids
    states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    text = [i for i, token in enumerate(ids) if i > 0 and token < tokens.first_id]
    found = pooled_states(model, conditioner, ["lamp on"], [""])
    torch.testing.assert_close(found[0], states[text].mean(0), rtol=1e-4, atol=1e-5)


def test_a_hidden_text_leaves_the_control_tokens(model, tokenizer):
    tokens = ControlTokens(len(tokenizer), 4)
    tokens.add_to(model, 0.5, 0)
    hidden = Conditioner(tokenizer, ConstantCodes(2, 4), tokens, 2, drop_cue=True)
    a, b = pooled_states(model, hidden, ["lamp on", "red door"], ["", ""])
    torch.testing.assert_close(a, b)
    assert a.abs().sum() > 0


def test_a_layer_that_does_not_exist(model, tokenizer):
    with pytest.raises(UserError, match="layer 7 does not exist"):
        pooled_states(model, Conditioner(tokenizer), ["lamp"], [""], layer=7)


def run(tmp_path, size, tokenizer, sentences, callbacks):
    settings = FinetuneConfig(steps=6, batch_size=4, learning_rate=1e-3)
    model = create_model(size, tokenizer, 0)
    rows = whole_rows(tokenizer, sentences[:40], 32)
    data = ExamplesDataModule(Mixture([], rows, 1.0), [], tokenizer.pad_token_id, 4, 6, 0)
    tmp_path.mkdir()
    stats = fit(CausalLMModule(model, settings), data, settings, 0, tmp_path, lambda *_: None, callbacks(model))
    return model, stats


def test_training_keeps_its_trace_and_snapshots_and_is_the_same_without(tmp_path, size, tokenizer, sentences):
    taken: list[Snapshots] = []

    def observe(model):
        pool = lambda: pooled_states(model, Conditioner(tokenizer), ["lamp on", "red"], ["", ""])  # noqa: E731
        taken.append(Snapshots(pool, 6, 3))
        return taken

    seen, stats = run(tmp_path / "a", size, tokenizer, sentences, observe)
    unseen, _ = run(tmp_path / "b", size, tokenizer, sentences, lambda model: [])
    assert all(torch.equal(p, q) for p, q in zip(seen.parameters(), unseen.parameters(), strict=True))
    trace = load_file(tmp_path / "a" / "trace.safetensors")
    assert trace["loss"].shape == trace["grad_norm"].shape == (6,)
    assert float(trace["grad_norm"].max()) == pytest.approx(stats.grad_norm_max, abs=1e-4)
    taken[0].save(tmp_path / "a")
    kept = load_file(tmp_path / "a" / "snapshots.safetensors")
    assert sorted(kept) == ["step-000000", "step-000002", "step-000004", "step-000006"]
    last = pooled_states(seen, Conditioner(tokenizer), ["lamp on", "red"], ["", ""])
    torch.testing.assert_close(kept["step-000006"].float(), last, rtol=1e-2, atol=1e-2)
    assert not torch.equal(kept["step-000000"], kept["step-000006"])
