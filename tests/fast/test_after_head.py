"""Training and scoring use the logits a model itself gives, whatever it does around its last layer."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ecr_bench.config import FinetuneConfig
from ecr_bench.data.encode import Example
from ecr_bench.data.module import IGNORED, collate
from ecr_bench.fast import after_head as logits
from ecr_bench.fast.after_head import AfterHead, after_head
from ecr_bench.fast.labelled import labelled, labelled_logits
from ecr_bench.fast.packing import Request
from ecr_bench.fast.scorer import loglikelihoods
from ecr_bench.methods.base import cross_entropy
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.models import fit_to_machine
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.teacher_logits import build_cache
from ecr_bench.sizes import Fitting
from tests.helpers.architectures import ARCHITECTURES, V, build
from tests.helpers.training import batch, gradients


def own_loss(model: PreTrainedModel, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of the model's own logits, each row by itself."""
    losses = []
    for ids, labels in zip(given["input_ids"], given["labels"], strict=True):
        at = labels != IGNORED
        end = int(at.nonzero().max()) + 1
        own = model(input_ids=ids[None, :end], use_cache=False).logits[0][at[:end]]
        losses.append(torch.nn.functional.cross_entropy(own.float(), labels[at], reduction="none"))
    return torch.cat(losses).mean()


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_training_loss_and_its_gradients_are_those_of_the_models_own_logits(kind):
    model, given = build(kind), batch()
    ours, theirs = cross_entropy(model, given), own_loss(model, given)
    assert ours.item() == pytest.approx(theirs.item(), rel=2e-5)
    mine, expected = gradients(model, ours), gradients(model, theirs)
    assert mine.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp(min=1e-3)
        assert (mine[name] - gradient).abs().max() <= 1e-3 * scale, name


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_scores_are_those_of_the_models_own_logits(kind):
    model, draw = build(kind), np.random.default_rng(0)
    contexts = [tuple(draw.integers(3, V, size=n).tolist()) for n in (3, 9, 14)]
    requests = [Request(c, tuple(draw.integers(3, V, size=n).tolist())) for c in contexts for n in (1, 3, 4)]
    found = loglikelihoods(model, requests, pad_id=0, max_length=48)
    for (value, _), (context, continuation) in zip(found, requests, strict=True):
        with torch.no_grad():
            own = model(input_ids=torch.tensor([context + continuation[:-1]]), use_cache=False).logits[0]
        chosen = torch.log_softmax(own[len(context) - 1 :].double(), -1)[range(len(continuation)), continuation]
        assert value == pytest.approx(chosen.sum().item(), abs=2e-4)


class _Shifted(LlamaForCausalLM):
    """Forbids a token after its last layer, as models with image tokens do."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits.index_fill(-1, torch.tensor([5]), -1e4)
        return output


class _Halved(LlamaForCausalLM):
    """Halves the states on the way to its last layer."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        handle = self.model.register_forward_hook(self._halve)
        try:
            return super().forward(*args, **kwargs)
        finally:
            handle.remove()

    @staticmethod
    def _halve(_: Any, __: Any, output: Any) -> Any:
        output["last_hidden_state"] = output.last_hidden_state / 2
        return output


def llama(kind: type[LlamaForCausalLM] = LlamaForCausalLM, **more: Any) -> LlamaForCausalLM:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    torch.manual_seed(0)
    return kind(LlamaConfig(vocab_size=V, **{"initializer_range": 0.3, **shape, **more})).eval()


MEASURED = {
    "llama": AfterHead(),
    "granite": AfterHead(scale=1 / 8),
    "cohere": AfterHead(scale=0.3),
    "falcon_h1": AfterHead(scale=3.0),
    "gemma2": AfterHead(cap=3.0),
    "recurrent_gemma": AfterHead(cap=3.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [0.002, 0.3])
@pytest.mark.parametrize("kind", MEASURED)
def test_a_scale_and_a_cap_are_measured_however_small_the_logits_are(kind, size, dtype):
    found, expected = after_head(build(kind, initializer_range=size).to(dtype)), MEASURED[kind]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    assert found is not None and found.scale == pytest.approx(expected.scale, rel=tolerance)
    assert found.cap == pytest.approx(expected.cap, rel=tolerance)


@pytest.mark.parametrize("kind", [_Shifted, _Halved])
@pytest.mark.parametrize("fitting", [Fitting(), Fitting(accumulate=2)])
def test_what_no_scale_and_no_cap_explain_is_run_through_its_own_forward(kind, fitting, caplog):
    model, given = llama(kind), batch()
    with caplog.at_level(logging.WARNING):
        assert after_head(model) is None and after_head(model) is None
    assert [record.name for record in caplog.records] == [logits.__name__]
    assert caplog.records[0].getMessage().startswith(f"{kind.__name__} is run through its own forward")
    fit_to_machine(model, fitting)
    ours, theirs = cross_entropy(model, given), own_loss(model, given)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    mine, expected = gradients(model, ours), gradients(model, theirs)
    for name, gradient in expected.items():
        torch.testing.assert_close(mine[name], gradient, rtol=1e-3, atol=1e-6)
    found, labels = labelled_logits(model, given)
    assert found.shape == (len(labels), V)


@pytest.mark.parametrize(("value", "why"), [(0.0, "nothing but zeros"), (torch.nan, "not finite")])
def test_what_cannot_be_measured_is_said(value, why, caplog):
    model = llama()
    torch.nn.init.constant_(model.lm_head.weight, value)
    assert after_head(model) is None and why in caplog.text


def test_measuring_leaves_no_trace():
    model, given = llama(attention_dropout=0.5).train(), torch.randint(3, V, (1, 6))
    model.model.layers[0].eval()
    torch.manual_seed(3)
    expected, hooks = torch.rand(2), len(model.lm_head._forward_hooks)
    torch.manual_seed(3)
    assert after_head(model) == AfterHead()
    assert torch.equal(torch.rand(2), expected) and len(model.lm_head._forward_hooks) == hooks
    assert model.training and model.model.norm.training and not model.model.layers[0].training
    assert model(given).logits.requires_grad


@pytest.mark.parametrize("kind", ["granite", "gemma2", "modernbert-decoder"])
def test_a_teacher_is_asked_for_its_own_logits(kind):
    """At hand and in the cache."""
    teacher, given = build(kind).requires_grad_(False), batch()
    with torch.no_grad():
        own = teacher(input_ids=given["input_ids"], use_cache=False).logits[given["labels"] != IGNORED]
    torch.testing.assert_close(labelled(teacher, given).logits(), own, rtol=1e-4, atol=1e-4)
    rows = [Example([*ids, 7], len(ids) - 2, 1) for ids in given["input_ids"].tolist()]
    settings = Distill.Options(cache_top_k=V, temperature=1.0)
    cache = build_cache(teacher, rows, settings, V, 0)
    kept = torch.zeros(len(cache.tensors["labels"]), V).scatter(1, cache.tensors["ids"].long(), cache.tensors["log_p"])
    with torch.no_grad():
        own = torch.cat(
            [teacher(input_ids=torch.tensor([r.ids[:-1]]), use_cache=False).logits[0, r.loss_from - 1 :] for r in rows]
        )
    torch.testing.assert_close(kept, torch.log_softmax(own, -1), rtol=1e-3, atol=1e-3)
    recipe = Recipe.of("finetune", ["distill"], {"distill": {"temperature": 1.0, "weight": 1.0}})
    (part,), module = recipe.modifiers, recipe.module(llama(), FinetuneConfig())
    part.vocabulary, part.pad_id, part.rows, part.teacher = V, 0, rows, teacher
    module.log = lambda *_, **__: None
    given = {**collate(rows, 0), "rows": torch.arange(len(rows))}
    student = torch.log_softmax(labelled_logits(module.model, given)[0], -1)
    each = torch.nn.functional.kl_div(student, torch.log_softmax(own, -1), reduction="none", log_target=True).sum(-1)
    assert module.loss(given).item() == pytest.approx(each.mean().item(), rel=1e-4)
