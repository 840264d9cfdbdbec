"""The arms as LightningModules: what they train, what they log, and that the same seed gives the same model."""

from __future__ import annotations

import pytest
import torch

from ecr_bench.config import FinetuneConfig, OptimiserConfig
from ecr_bench.data.module import IGNORED, ExamplesDataModule, Mixture
from ecr_bench.errors import UserError
from ecr_bench.methods.base import CausalLMModule, average, learning_rate, row_weights
from ecr_bench.methods.method import Method
from ecr_bench.methods.models import create_model
from ecr_bench.methods.optimisers import create_optimiser, hidden_matrices
from ecr_bench.methods.registry import METHODS
from ecr_bench.stages.fitting import fit
from tests.helpers.architectures import build
from tests.helpers.rows import whole_rows


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_has_one_line_of_help(name):
    method = METHODS.get(name)
    assert issubclass(method, Method)
    assert len(method.__doc__.strip().splitlines()[0]) > 20


def train(tmp_path, size, tokenizer, sentences, seed=0, **settings):
    optimiser = OptimiserConfig(**{"steps": 12, "batch_size": 8, "learning_rate": 0.01, **settings})
    rows = whole_rows(tokenizer, sentences, size.max_length)
    data = ExamplesDataModule(Mixture([], rows, 1.0), rows[:16], tokenizer.pad_token_id, 8, optimiser.steps, seed)
    model = create_model(size, tokenizer, 0)
    stats = fit(CausalLMModule(model, optimiser), data, optimiser, seed, tmp_path, lambda done, total: None)
    return model, stats


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_training_lowers_the_loss_and_logs_without_clipping(optimiser, tmp_path, size, tokenizer, sentences):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, stats = train(tmp_path, size, tokenizer, sentences, steps=40, optimiser=optimiser)
    assert stats.val_loss < 0.8 * torch.log(torch.tensor(float(len(tokenizer)))) and stats.finite
    assert stats.steps == 40 and stats.grad_norm_max >= stats.grad_norm_median > 0
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/grad_norm", "train/lr", "val/loss"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_clipping_bounds_every_step_in_every_arithmetic(
    dtype, optimiser, tmp_path, size, tokenizer, sentences, monkeypatch
):
    """A fused optimiser under autocast too, which Lightning's own clipping refuses."""
    seen, clip = [], CausalLMModule.configure_gradient_clipping

    def watched(module, optimizer, *given, **named):
        clip(module, optimizer, *given, **named)
        seen.append(float(torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])))

    monkeypatch.setattr(CausalLMModule, "configure_gradient_clipping", watched)
    settings = OptimiserConfig(steps=4, batch_size=8, learning_rate=0.01, optimiser=optimiser, clip=0.05)
    rows = whole_rows(tokenizer, sentences, size.max_length)
    data = ExamplesDataModule(Mixture([], rows, 1.0), rows[:16], tokenizer.pad_token_id, 8, 4, 0)
    module = CausalLMModule(create_model(size, tokenizer, 0), settings)
    stats = fit(module, data, settings, 0, tmp_path, lambda done, total: None, dtype=dtype)
    assert stats.grad_norm_max > 0.05  # what is logged is the norm before
    assert len(seen) == 4 and max(seen) <= 0.0501


def test_same_seed_same_weights(tmp_path, size, tokenizer, sentences):
    runs = [train(tmp_path / str(i), size, tokenizer, sentences, seed=s)[0] for i, s in enumerate((0, 0, 1))]
    same, other = (
        all(torch.equal(a, b) for a, b in zip(runs[0].parameters(), run.parameters(), strict=True)) for run in runs[1:]
    )
    assert same and not other


def test_muon_takes_matrices_and_leaves_the_tied_embedding(size, tokenizer):
    model = create_model(size, tokenizer, 0)
    matrices = hidden_matrices(model)
    assert model.get_input_embeddings().weight not in set(matrices) and len(matrices) == 7 * size.layers
    optimiser = create_optimiser(model, FinetuneConfig())
    in_groups = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(in_groups) == sorted({id(p) for p in model.parameters()})


def test_muon_without_a_linear_layer_is_one_line():
    model = build("gpt2")
    with pytest.raises(UserError, match="muon works on linear layers, and this model has none; allowed: adamw"):
        create_optimiser(model, FinetuneConfig())
    assert create_optimiser(model, FinetuneConfig(optimiser="adamw"))


def test_one_schedule_moves_both_parts_of_muon(size, tokenizer):
    optimiser = create_optimiser(create_model(size, tokenizer, 0), FinetuneConfig(learning_rate=0.01))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5)
    assert schedule.get_last_lr()[0] == 0.005
    assert {group["lr"] for group in [*optimiser.adamw.param_groups, *optimiser.muon.param_groups]} == {0.005}


def test_learning_rate_rises_then_falls_to_a_tenth():
    factors = [learning_rate(step, 100, 0.1) for step in range(100)]
    assert factors[0] == 0.1 and max(factors) == 1.0 == factors[9]
    assert factors[9:] == sorted(factors[9:], reverse=True) and 0.1 <= factors[-1] < 0.11


def test_row_average_counts_a_long_answer_once():
    labels = torch.tensor([[1, IGNORED, IGNORED], [2, 3, 4], [IGNORED, IGNORED, IGNORED]])
    losses = torch.tensor([4.0, 1.0, 1.0, 1.0])
    assert average(losses, labels, per_row=True).item() == pytest.approx((4.0 + 1.0) / 2)
    assert average(losses, labels, per_row=False).item() == pytest.approx(7.0 / 4)
    assert row_weights(labels).sum().item() == pytest.approx(1.0)
