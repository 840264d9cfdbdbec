"""Distillation math against a plain NumPy reference in float64, and the settings it takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

from ecr_bench import config
from ecr_bench.errors import UserError
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.losses import distillation_losses, thin

N, V = 7, 23
KINDS = [("forward-kl", 0.5), ("reverse-kl", 0.5), ("jsd", 0.1), ("jsd", 0.5), ("jsd", 0.9)]


def logits(seed: int, rows: int = N, columns: int = V) -> torch.Tensor:
    return 3 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_loss(*given, **named) -> torch.Tensor:
    return distillation_losses(*given, **named).mean()


def reference(student: np.ndarray, teacher: np.ndarray, kind: str, beta: float, tau: float) -> float:
    """The definitions, in NumPy float64, from probabilities instead of logarithms."""
    p, q = (np.exp(log_softmax(x / tau, axis=1)) for x in (teacher, student))
    m = beta * p + (1 - beta) * q
    each = {
        "forward-kl": rel_entr(p, q).sum(1),
        "reverse-kl": rel_entr(q, p).sum(1),
        "jsd": beta * rel_entr(p, m).sum(1) + (1 - beta) * rel_entr(q, m).sum(1),
    }[kind]
    return float(tau**2 * each.mean())


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_loss_and_gradient_equal_the_reference(kind, beta, tau):
    settings = Distill.Options(divergence=kind, beta=beta, temperature=tau)
    student, teacher = logits(0).requires_grad_(), logits(1)
    loss = mean_loss(student, teacher, settings)
    assert loss.item() == pytest.approx(
        reference(student.detach().numpy(), teacher.numpy(), kind, beta, tau), rel=1e-12
    )
    loss.backward()
    step, numeric = 1e-6, np.zeros((N, V))
    for at in np.ndindex(N, V):
        up, down = student.detach().numpy().copy(), student.detach().numpy().copy()
        up[at] += step
        down[at] -= step
        high, low = (reference(x, teacher.numpy(), kind, beta, tau) for x in (up, down))
        numeric[at] = (high - low) / (2 * step)
    np.testing.assert_allclose(student.grad.numpy(), numeric, atol=1e-8)


def test_jsd_tends_to_both_kl_and_is_symmetric_in_the_middle():
    def at(kind: str, beta: float = 0.5, swap: bool = False) -> float:
        pair = (logits(1), logits(0)) if swap else (logits(0), logits(1))
        return mean_loss(*pair, Distill.Options(divergence=kind, beta=beta, temperature=1.0)).item()

    assert at("jsd", 1e-7) / 1e-7 == pytest.approx(at("forward-kl"), rel=1e-3)
    assert at("jsd", 1 - 1e-7) / 1e-7 == pytest.approx(at("reverse-kl"), rel=1e-3)
    assert at("jsd") == pytest.approx(at("jsd", swap=True), rel=1e-12)
    assert 0 < at("jsd") < np.log(2)


def test_temperature_squared_keeps_the_size_of_the_gradient():
    """For large τ the gradient of τ² KL tends to (student - teacher) / V of centred logits (1503.02531, eq. 4)."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    mean_loss(student, teacher, Distill.Options(temperature=100.0)).backward()
    centred = [x.detach() - x.detach().mean(1, keepdim=True) for x in (student, teacher)]
    limit = (centred[0] - centred[1]) / V / N
    assert torch.nn.functional.cosine_similarity(student.grad.flatten(), limit.flatten(), dim=0) > 0.999
    assert student.grad.norm() == pytest.approx(limit.norm().item(), rel=0.05)


@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_no_loss_when_both_agree_and_float32_stays_finite(kind, beta):
    settings = Distill.Options(divergence=kind, beta=beta, temperature=1.0)
    assert mean_loss(logits(0), logits(0), settings).item() == pytest.approx(0, abs=1e-12)
    sure = torch.zeros(1, V)
    sure[0, 0] = 200.0
    student = sure.roll(1, 1).requires_grad_()
    loss = mean_loss(student, sure, settings)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def test_padding_of_either_vocabulary_is_ignored():
    settings = Distill.Options()
    plain = mean_loss(logits(0), logits(1), settings)
    padded = [torch.cat([logits(i), logits(i + 5, N, 4 + 3 * i)], 1) for i in (0, 1)]
    assert torch.equal(mean_loss(*padded, settings, vocabulary=V), plain)
    assert torch.equal(mean_loss(padded[0], logits(1), settings), plain)
    assert torch.equal(mean_loss(logits(0), padded[1], settings), plain)


@pytest.mark.parametrize(("kind", "beta"), KINDS)
@pytest.mark.parametrize("tail", ["rest", "drop"])
def test_all_ids_kept_is_the_full_loss(kind, beta, tail):
    settings = Distill.Options(divergence=kind, beta=beta, cache_top_k=V + 5, tail=tail)
    sparse = thin(logits(1), settings, torch.Generator())
    full = mean_loss(logits(0), logits(1), settings)
    assert mean_loss(logits(0), sparse, settings).item() == pytest.approx(full.item(), rel=1e-12)


@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_rest_is_one_outcome_and_bounds_the_full_loss_from_below(kind, beta):
    full = mean_loss(logits(0), logits(1), Distill.Options(divergence=kind, beta=beta)).item()
    values = []
    for k in (1, 3, 8, 16):
        settings = Distill.Options(divergence=kind, beta=beta, cache_top_k=k)
        student, teacher = logits(0), logits(1)
        values.append(mean_loss(student, thin(teacher, settings, torch.Generator()), settings).item())
        top = teacher.topk(k).indices
        merged = [  # the same thing said with logits: one column for all that is not in the top k
            torch.cat([x.gather(1, top), 2 * (x / 2).scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)], 1)
            for x in (student, teacher)
        ]
        expected = reference(merged[0].numpy(), merged[1].numpy(), kind, beta, 2.0)
        assert values[-1] == pytest.approx(expected, rel=1e-10)
    assert values == sorted(values) and values[-1] < full


def test_drop_renormalises_over_the_kept_ids():
    settings = Distill.Options(divergence="jsd", cache_top_k=4, tail="drop")
    top = logits(1).topk(4).indices
    pair = [x.gather(1, top).numpy() for x in (logits(0), logits(1))]
    loss = mean_loss(logits(0), thin(logits(1), settings, torch.Generator()), settings)
    assert loss.item() == pytest.approx(reference(*pair, "jsd", 0.5, 2.0), rel=1e-12)


def test_sampling_is_unbiased_in_value_and_gradient_where_dropping_is_not():
    draws = 20_000
    student, teacher = logits(0, 1).requires_grad_(), logits(1, 1)
    exact = mean_loss(student, teacher, Distill.Options(temperature=1.0))
    (gradient,) = torch.autograd.grad(exact, student)

    def estimate(**options) -> tuple[float, float]:
        settings = Distill.Options(temperature=1.0, cache_top_k=3, **options)
        sparse = thin(teacher.expand(draws, V), settings, torch.Generator().manual_seed(0))
        loss = mean_loss(student.expand(draws, V), sparse, settings)
        (found,) = torch.autograd.grad(loss, student)
        return abs(loss.item() - exact.item()), (found - gradient).abs().max().item()

    noise = 4 * teacher.std().item() / np.sqrt(3 * draws)
    assert max(estimate(tail="sample")) < noise
    assert max(estimate(tail="drop")) > 5 * noise


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"options.distill.beta": 0}, "options.distill.beta: .*greater than 0"),
        ({"options.distill.beta": 1}, "options.distill.beta: .*less than 1"),
        ({"options.distill.temperature": 0}, "options.distill.temperature: .*greater than 0"),
        ({"options.distill.temperature": 101.0}, "options.distill.temperature: .*100"),
        ({"options.distill.temperature": float("inf")}, "options: numbers must be finite"),
        ({"options.distill.divergence": "l2"}, "'forward-kl', 'reverse-kl' or 'jsd'"),
        ({"options.distill.weight": 1.5}, "options.distill.weight"),
        ({"options.distill.cache_top_k": 0}, "options.distill.cache_top_k"),
        ({"options.distill.tail": "sample"}, "needs cache_top_k"),
        (
            {"options.distill.tail": "sample", "options.distill.divergence": "jsd"},
            "unbiased for forward-kl only, not for jsd",
        ),
        ({"options.relational.temperature": -1}, "options.relational.temperature"),
    ],
)
def test_bad_settings_name_key_and_allowed(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        config.load("tiny").with_overrides(overrides)
    assert "\n" not in str(caught.value)
