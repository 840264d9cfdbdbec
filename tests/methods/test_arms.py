"""The arms beside ECR: input dropout, soft cues and the probe without a language model."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM

from ecr_bench import config
from ecr_bench.config import ControlTokensConfig, OptimiserConfig
from ecr_bench.data.cutting import cut_texts
from ecr_bench.data.encode import encode_items, encode_texts
from ecr_bench.data.module import ExamplesDataModule, Mixture, collate
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.probe import ProbeLM
from ecr_bench.methods.base import cross_entropy
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.probe import PENALTIES, Probe, fit_probe
from ecr_bench.methods.recipe import Recipe
from ecr_bench.runner.plan import make_plan
from ecr_bench.types import Item, Prompt

WINDOW, COUNT = 64, 2
CHOICES = ("lamp", "close door", "kitchen", "garden")


def make_items(sentences) -> list[Item]:
    """Items whose answer is the first of the options' words that occurs in the text."""
    found = []
    for i, text in enumerate(sentences):
        golds = [c for c in ("lamp", "kitchen", "garden") if c in text.split()]
        if len(golds) == 1:
            gold = CHOICES.index(golds[0])
            found.append(Item(f"i{i}", "slot", "fine", str(i), "en", "en", text, "which ?", CHOICES, gold))
    return found


@pytest.fixture
def given(tokenizer, anchors_and_projection) -> Ingredients:
    anchors, projection = anchors_and_projection
    control = ControlTokensConfig(count=COUNT, placement="infix")
    return Ingredients(tokenizer, control, ("en",), 8, 1, 32, anchors=anchors, projection=projection)


def prepared(recipe, model, given, items, texts):
    conditioner = recipe.conditioner(given)
    conditioner.tokens.add_to(model, 0.02, seed=0)
    module = recipe.module(model, OptimiserConfig(steps=1, learning_rate=0.01))
    module.prepare(Training(given, conditioner, items, texts, WINDOW, 0, {}, {}))
    return module, conditioner


def instances(items, kind="loglikelihood") -> list[Instance]:
    return [
        Instance(kind, dataclasses.asdict(item), (item.prompt, f" {c}"), i, metadata=("ecr_slot_en", n, 1))
        for n, item in enumerate(items)
        for i, c in enumerate(item.choices)
    ]


# ---- dropout


def dropout_rows(given, model, sentences, settings):
    """Loader rows of ecr+dropout, and what ecr and codes-only would be shown."""
    items, texts = make_items(sentences)[:24], cut_texts(given.tokenizer, [(s, "en") for s in sentences[:8]], 0)
    module, conditioner = prepared(Recipe.of("ecr", ["dropout"], {"dropout": settings}), model, given, items, texts)

    def encode(arm):
        return [*encode_items(arm, items, WINDOW), *encode_texts(arm, texts, WINDOW)]

    shown, hidden = encode(conditioner), encode(Recipe.of("codes-only").conditioner(given))
    mixture = Mixture(shown[: len(items)], shown[len(items) :], 0.25)
    data = ExamplesDataModule(mixture, shown[:4], given.tokenizer.pad_token_id, 8, 150, 0, module.variation(encode))
    return data, conditioner, shown, hidden


def test_dropout_hides_text_or_tokens_as_often_as_asked(given, model, sentences):
    settings = {"text": 0.3, "tokens": 0.1}
    data, conditioner, shown, hidden = dropout_rows(given, model, sentences, settings)
    null = conditioner.tokens.null_id
    counts = {"shown": 0, "hidden": 0, "null": 0}
    for batch in data.train_dataloader():
        for index, ids in zip(batch["rows"].tolist(), batch["input_ids"].tolist(), strict=True):
            kinds = {
                "shown": shown[index].ids,
                "hidden": hidden[index].ids,
                "null": [null if i >= len(given.tokenizer) else i for i in shown[index].ids],
            }
            match = [name for name, row in kinds.items() if ids[: len(row) - 1] == row[:-1]]
            assert len(match) == 1
            counts[match[0]] += 1
    total = sum(counts.values())
    for name, share in (("hidden", 0.3), ("null", 0.1)):
        assert abs(counts[name] / total - share) < 4 * math.sqrt(share * (1 - share) / total)


def test_dropout_is_the_same_each_time_and_spares_validation(given, model, sentences):
    data, _, shown, _ = dropout_rows(given, model, sentences, {"text": 0.5, "tokens": 0.5})
    first, second = ([b["input_ids"].tolist() for b in data.train_dataloader()] for _ in range(2))
    assert first == second
    (batch,) = data.val_dataloader()
    expected = {tuple(row.ids[:-1]) for row in shown[:4]}
    assert {
        tuple(i for i in row if i != given.tokenizer.pad_token_id) for row in batch["input_ids"].tolist()
    } == expected


def test_without_dropout_nothing_changes(given, model, sentences):
    data, _, shown, _ = dropout_rows(given, model, sentences, {"text": 0.0, "tokens": 0.0})
    batch = next(iter(data.train_dataloader()))
    expected = collate([shown[i] for i in batch["rows"]], given.tokenizer.pad_token_id)
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["labels"], expected["labels"])


# ---- soft cue


@pytest.fixture
def soft(given, model, sentences):
    """A soft-cue module after one large step, so that its map is no longer zero."""
    items = make_items(sentences)[:12]
    module, conditioner = prepared(Recipe.of("soft-cue"), model, given, items, [])
    batch = collate(encode_items(conditioner, items, WINDOW), given.tokenizer.pad_token_id)
    optimiser = module.configure_optimizers()["optimizer"]
    for _ in range(3):
        optimiser.zero_grad()
        cross_entropy(module.model, batch).backward()
        assert module.map.weight.grad.abs().sum() > 0
        optimiser.step()
    module.model.eval()
    return module, conditioner, items


def test_soft_cue_is_placeholder_plus_mapped_projection(soft, given):
    module, conditioner, items = soft
    first = conditioner.tokens.first_id
    prompts = [Prompt(items[0].prompt, items[0].text), Prompt("no cue\nwhich ?", None)]
    cued, empty = conditioner.encode(prompts)
    assert empty.control_tokens == [first + COUNT] * COUNT
    assert all(i > conditioner.tokens.null_id for i in cued.control_tokens)
    embedding = module.model.get_input_embeddings()
    ids = given.tokenizer([items[0].text], add_special_tokens=False)["input_ids"]
    vector = torch.nn.functional.normalize(given.projection(ids), dim=-1)
    with torch.no_grad():
        expected = embedding.weight[first : first + COUNT] + (vector @ module.map.weight.T).view(COUNT, -1)
        found = embedding(torch.tensor([cued.control_tokens + empty.control_tokens]))[0]
    torch.testing.assert_close(found[:COUNT], expected)
    torch.testing.assert_close(found[COUNT:], embedding.weight[first + COUNT].expand(COUNT, -1).detach())


def test_soft_cue_cell_is_the_same_after_saving(soft, given, tmp_path):
    module, conditioner, items = soft
    module.save_model(tmp_path / "model")
    conditioner.save(tmp_path / "model" / "conditioner")
    before = EcrLM(module.model, tokenizer=given.tokenizer, conditioner=conditioner).loglikelihood(instances(items))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.get_input_embeddings().weight.shape[0] == len(given.tokenizer) + COUNT + 1
    folder = tmp_path / "model" / "conditioner"
    for batch_tokens in (8192, 40):
        lm = EcrLM(model, tokenizer=given.tokenizer, conditioner=folder, batch_tokens=batch_tokens)
        after = lm.loglikelihood(instances(items))
        assert np.allclose([v for v, _ in before], [v for v, _ in after], atol=1e-4)
    loaded = Conditioner.load(folder, given.tokenizer)
    assert loaded.source.side_parameters == given.projection.parameters + module.map.weight.numel()


def test_soft_cue_scores_depend_on_the_cue_alone_and_text_may_be_cut(soft, given):
    module, conditioner, items = soft
    lm = EcrLM(module.model, tokenizer=given.tokenizer, conditioner=conditioner, max_length=24)
    long, other = (dataclasses.replace(items[0], text=f"{word} " * 60 + "please " * 30) for word in ("red", "warm"))
    with torch.no_grad():
        module.map.weight.zero_()
    scores = np.array([v for v, _ in lm.loglikelihood(instances([long, other]))]).reshape(2, -1)
    # the windows hold the same text, so with a map of zero the two are one
    assert np.allclose(scores[0], scores[1], atol=1e-5)
    with torch.no_grad():
        module.map.weight.normal_(generator=torch.Generator().manual_seed(0))
    scores = np.array([v for v, _ in lm.loglikelihood(instances([long, other]))]).reshape(2, -1)
    assert np.abs(scores[0] - scores[1]).max() > 1e-3


def test_soft_cue_generates(soft, given):
    module, conditioner, items = soft
    lm = EcrLM(module.model, tokenizer=given.tokenizer, conditioner=conditioner, batch_size=2)
    requests = [
        Instance("generate_until", {"text": i.text}, (i.prompt, {"max_gen_toks": 3}), 0, metadata=("ecr_slot_en", n, 1))
        for n, i in enumerate(items[:3])
    ]
    assert [type(text) for text in lm.generate_until(requests)] == [str] * 3


# ---- probe


def test_probe_learns_what_the_projection_knows(given, sentences):
    items = make_items(sentences)
    train, test = items[: len(items) // 2], items[len(items) // 2 :]
    probe, stats = fit_probe(given.tokenizer, given.projection, train, test[:10])
    right = [np.argmax(probe.log_probabilities("slot", i.text, i.choices)) == i.gold for i in test[10:]]
    assert np.mean(right) > 0.9
    assert stats["slot"]["val_loss"] < math.log(4) / 2
    assert stats["slot"]["at_edge"] == (stats["slot"]["penalty"] in (PENALTIES[0], PENALTIES[-1]))
    mixed = [dataclasses.replace(i, gold=(i.gold + int(i.cluster)) % 4) for i in train]
    blind, _ = fit_probe(given.tokenizer, given.projection, mixed, mixed)
    right = [np.argmax(blind.log_probabilities("slot", i.text, i.choices)) == i.gold for i in test[10:]]
    assert np.mean(right) < 0.6


def test_rounding_of_the_projection_does_not_show_in_the_probe(given, sentences):
    """L-BFGS has converged under each ridge: the last bits of a teacher's vector change no digit that counts."""
    items = make_items(sentences)
    train, test = items[: len(items) // 2], items[len(items) // 2 :]
    plain, _ = fit_probe(given.tokenizer, given.projection, train, test[:10])
    other = copy.deepcopy(given.projection)
    noise = torch.randn(other.table.shape, generator=torch.Generator().manual_seed(0))
    other.table = other.table * (1 + 1e-6 * noise)
    nudged, _ = fit_probe(given.tokenizer, other, train, test[:10])
    values = [[p.log_probabilities("slot", i.text, i.choices) for i in test] for p in (plain, nudged)]
    assert np.allclose(values[0], values[1], atol=1e-3)


def test_probe_scores_through_lm_eval_and_after_saving(given, sentences, tmp_path):
    items = make_items(sentences)[:20]
    probe, _ = fit_probe(given.tokenizer, given.projection, items, [])
    probe.save(tmp_path / "probe")
    scores = ProbeLM(Probe.load(tmp_path / "probe", given.tokenizer)).loglikelihood(instances(items))
    values = np.array([v for v, _ in scores]).reshape(-1, len(CHOICES))
    assert np.allclose(np.exp(values).sum(1), 1)
    assert np.allclose(values, [probe.log_probabilities("slot", i.text, i.choices) for i in items], atol=1e-5)
    with pytest.raises(UserError, match="no language model"):
        ProbeLM(probe).generate_until([])


def test_probe_uses_the_cosine_where_it_has_no_labels_and_takes_any_number_of_options(given, sentences):
    items = make_items(sentences)[:20]
    short = [dataclasses.replace(i, choices=i.choices[:2]) for i in items if i.gold < 2]
    probe, _ = fit_probe(given.tokenizer, given.projection, [*items, *short], [])
    batch = probe.prepare([*items[:1], *short[:1]])
    assert batch.scores(probe.weights["slot"]).isfinite().sum(1).tolist() == [4, 2]
    values = probe.log_probabilities("other", "red lamp", ["red lamp", "cold garden"])
    text, *options = probe.embed(["red lamp", "red lamp", "cold garden"])
    cosines = torch.stack([text @ option for option in options])
    assert np.allclose(values, cosines.log_softmax(0).tolist(), atol=1e-5)


# ---- configuration and plan


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"options.dropout.text": 0.7, "options.dropout.tokens": 0.4}, "text 0.7 .* tokens 0.4 must not exceed 1"),
        ({"options.dropout.text": -0.1}, "dropout.text: .*greater than or equal to 0 and less than or equal to 1 "),
        (
            {"options.dropout.word": 0.1},
            "options.dropout.word: modifier 'dropout' has no such option: allowed are text, tokens",
        ),
        ({"options.lora.rank": 0}, "lora.rank: .*greater than or equal to 1"),
        ({"options.lora.alpha": 0}, "lora.alpha: .*greater than 0"),
    ],
)
def test_bad_settings_name_key_and_allowed(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        config.load("tiny").with_overrides(overrides)
    assert "\n" not in str(caught.value)


def test_settings_change_the_arms_that_read_them_and_no_other():
    cells = [{"method": method} for method in ("finetune", "ecr", "soft-cue", "teacher-probe")]
    cells += [{"method": "ecr", "with": ["dropout"]}, {"method": "finetune", "with": [{"lora": {"base": "int8"}}]}]
    tiny = config.load("tiny").with_overrides({"cells": [*cells, {"method": "ecr", "with": ["lora"]}]})

    def changed(**overrides):
        plans = [make_plan(tiny), make_plan(tiny.with_overrides(overrides))]
        a, b = ({cell.arm.name: cell.train for cell in plan.cells} for plan in plans)
        return {arm for arm in a if a[arm] != b[arm]}

    assert changed(**{"options.dropout.text": 0.2}) == {"ecr+dropout"}
    assert changed(**{"options.lora.rank": 3}) == {"finetune+lora", "ecr+lora"}
    assert changed(**{"control_tokens.placement": "suffix"}) == {"ecr", "soft-cue", "ecr+dropout", "ecr+lora"}


def test_arms_are_scored_at_the_precisions_they_exist_in():
    arms = {"teacher-probe": ["fp32"], "ecr+lora": ["int8"], "finetune+lora": ["fp32", "bf16"], "ecr": ["fp32", "bf16"]}
    given = [{"method": "teacher-probe"}, {"method": "ecr", "with": [{"lora": {"base": "int8"}}]}]
    given += [{"method": "finetune", "with": ["lora"]}, {"method": "ecr"}]
    cells = {"cells": given, "precisions": ["fp32", "bf16"]}
    plan = make_plan(config.load("tiny").with_overrides(cells))
    assert {cell.arm.name: list(plan.stages[cell.score].settings.precisions) for cell in plan.cells} == arms
    without = make_plan(config.load("tiny").with_overrides({**cells, "control_tokens.count": 0}))
    assert {cell.arm.name for cell in without.cells if cell.anchors} == {"teacher-probe"}
