"""Losses in chunks against the same losses over all logits at once, in float64: values and every gradient."""

from __future__ import annotations

import pytest
import torch

from ecr_bench.fast.chunked import chunked_loss
from ecr_bench.methods.base import plain_loss, position_weights
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.losses import distillation_losses, thin

B, T, D, V = 5, 7, 6, 31
KINDS = [("forward-kl", 0.5), ("reverse-kl", 0.5), ("jsd", 0.3)]


@pytest.fixture
def parts():
    torch.manual_seed(0)
    head = torch.nn.Linear(D, V).double()
    labels = torch.randint(V, (B, T)).where(torch.rand(B, T) < 0.6, -100)
    states = torch.randn(int((labels != -100).sum()), D, dtype=torch.float64)
    return head, states, labels


def gradients(total, head, states) -> list[torch.Tensor]:
    return list(torch.autograd.grad(total, [states, head.weight, head.bias]))


def check(parts, terms, expected, monkeypatch) -> None:
    """``expected``: the loss of all logits at once. Logits are float32 in training; here nothing may be rounded."""
    head, states, _ = parts
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    states = states.requires_grad_()
    whole = expected(head(states))
    for rows in (1, 3, len(states)):
        total, found = chunked_loss(head, states, terms, elements=rows * V)
        assert total.item() == pytest.approx(whole.item(), rel=1e-12) and found[0].item() == total.item()
        wanted = gradients(3 * expected(head(states)), head, states)
        for ours, theirs in zip(gradients(3 * total, head, states), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("per_row", [False, True])
def test_cross_entropy(parts, per_row, monkeypatch):
    labels = parts[2]
    row, _ = (labels != -100).nonzero().T
    chosen, counts = labels[labels != -100], torch.bincount(row).double()
    each_row = 1 / (counts[row] * (counts > 0).sum())
    weights = each_row if per_row else torch.full((len(row),), 1 / len(row), dtype=torch.float64)
    torch.testing.assert_close(position_weights(labels, per_row).double(), weights, rtol=1e-6, atol=0)

    def expected(logits):
        losses = torch.nn.functional.cross_entropy(logits, chosen, reduction="none")
        rows = [losses[row == i].mean() for i in range(B) if (row == i).any()]
        return torch.stack(rows).mean() if per_row else losses.mean()

    check(parts, lambda logits, at: plain_loss(logits, chosen[at], weights[at]), expected, monkeypatch)


@pytest.mark.parametrize(
    ("kind", "beta", "tail"),
    [*((*kind, tail) for kind in KINDS for tail in (None, "rest", "drop")), ("forward-kl", 0.5, "sample")],
)
def test_divergences(parts, kind, beta, tail, monkeypatch):
    settings = Distill.Options(divergence=kind, beta=beta, **({"tail": tail, "cache_top_k": 4} if tail else {}))
    count = len(parts[1])
    logits = torch.randn(count, V + 3, dtype=torch.float64)
    sparse = thin(logits[:, :V], settings, torch.Generator()) if tail else None

    def teacher(at):
        return (
            logits[at] if sparse is None else type(sparse)(*(x if x is None else x[at] for x in vars(sparse).values()))
        )

    def terms(scores, at):
        return (distillation_losses(scores, teacher(at), settings, V).sum() / count)[None]

    def whole(scores):
        return distillation_losses(scores, teacher(slice(None)), settings, V).mean()

    check(parts, terms, whole, monkeypatch)


def test_a_frozen_head_and_other_layers(parts):
    head, states, labels = parts
    head, chosen = head.float().requires_grad_(False), labels[labels != -100]
    states = states.float().requires_grad_()
    weights = position_weights(labels, False)
    found = []
    for layer in (head, torch.nn.Sequential(head)):
        layer.weight = head.weight
        total, _ = chunked_loss(layer, states, lambda x, at: plain_loss(x, chosen[at], weights[at]), elements=2 * V)
        found.append((total.item(), torch.autograd.grad(total, states)[0]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1])
    with torch.no_grad():
        total, _ = chunked_loss(head, states, lambda x, at: plain_loss(x, chosen[at], weights[at]), elements=2 * V)
    assert total.item() == pytest.approx(found[1][0], rel=1e-6) and not total.requires_grad
