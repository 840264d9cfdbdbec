"""Distillation losses: the one copy of the math, for full and for sparse teacher distributions.

P is the teacher, Q the student, both at temperature τ: softmax(logits / τ). The divergences are

- ``forward-kl``: KL(P ‖ Q) (Hinton et al., arXiv 1503.02531);
- ``reverse-kl``: KL(Q ‖ P) (MiniLLM, arXiv 2306.08543, on fixed rather than sampled text);
- ``jsd``: β KL(P ‖ M) + (1 - β) KL(Q ‖ M) with M = β P + (1 - β) Q, the generalized Jensen-Shannon
  divergence of GKD (arXiv 2306.13649, equation 1). Divided by β it tends to forward KL for β → 0;
  divided by 1 - β it tends to reverse KL for β → 1.

Each is multiplied by τ², which keeps the size of the gradient about the same for all τ (1503.02531, 2.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import kl_div

from ecr_bench.methods.distill import Distill


@dataclass(frozen=True)
class Sparse:
    """A few teacher probabilities at each of N positions, taken at the temperature of the loss.

    Attributes:
        ids: (N, k) int64 token ids. With ``tail: sample`` they are k draws from P, repeats included.
        log_p: (N, k) log P of ``ids``, summing to less than one; None for ``sample``.
        log_rest: (N,) log of the mass outside ``ids``; None unless ``tail: rest`` (and k < V).
        entropy: (N,) entropy of P in nats; None unless ``tail: sample``.
    """

    ids: torch.Tensor
    log_p: torch.Tensor | None = None
    log_rest: torch.Tensor | None = None
    entropy: torch.Tensor | None = None


def divergence(log_p: torch.Tensor, log_q: torch.Tensor, settings: Distill.Options) -> torch.Tensor:
    """Divergence (N,) in nats of log-distributions (N, V), each normalised over the last axis."""
    if settings.divergence == "forward-kl":
        return _kl(log_p, log_q)
    if settings.divergence == "reverse-kl":
        return _kl(log_q, log_p)
    beta = settings.beta
    mixed = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return beta * _kl(log_p, mixed) + (1 - beta) * _kl(log_q, mixed)


def distillation_losses(
    student: torch.Tensor, teacher: torch.Tensor | Sparse, settings: Distill.Options, vocabulary: int | None = None
) -> torch.Tensor:
    """τ² D (N,) of N positions. How they are averaged is not decided here (``methods.base.position_weights``).

    Args:
        student: logits (N, V).
        teacher: logits (N, V'), or ``Sparse`` probabilities taken at ``settings.temperature``.
        settings: divergence, β and τ, and for ``Sparse`` what happens to the mass outside its ids.
        vocabulary: compare over ids below this only (default: all that both have). Rows beyond it, such
            as padding of the embedding matrix or control tokens, are dropped on both sides and the rest
            is renormalised; only cross-entropy tells the student to leave them alone.

    A ``Sparse`` teacher is treated as ``settings.tail`` says:

    - ``rest``: all ids outside the k are one outcome, with the teacher's and the student's whole
      remaining mass. Nothing is lost but the shape of the tail: a lower bound of the full divergence.
    - ``drop``: both are renormalised over the k ids; how much mass lies outside is ignored (biased).
    - ``sample``: cross-entropy at k draws from P, minus the exact entropy: value and gradient are
      unbiased estimates of forward KL (arXiv 2503.16870), the only divergence that is linear in P.
    """
    tau = settings.temperature
    sizes = [student.shape[1], vocabulary or student.shape[1]]
    if isinstance(teacher, Sparse):
        log_q = torch.log_softmax(student[:, : min(sizes)] / tau, dim=-1)
        each = _sparse(log_q, teacher, settings)
    else:
        common = min(*sizes, teacher.shape[1])
        log_p, log_q = (torch.log_softmax(logits[:, :common] / tau, dim=-1) for logits in (teacher, student))
        each = divergence(log_p, log_q, settings)
    return tau**2 * each


def _sparse(log_q: torch.Tensor, teacher: Sparse, settings: Distill.Options) -> torch.Tensor:
    picked = log_q.gather(1, teacher.ids)
    if teacher.log_p is None:
        assert teacher.entropy is not None
        return -picked.mean(1) - teacher.entropy
    if settings.tail == "drop":
        return divergence(torch.log_softmax(teacher.log_p, -1), torch.log_softmax(picked, -1), settings)
    if teacher.log_rest is None:
        return divergence(teacher.log_p, picked, settings)
    # summing the others is exact where 1 - sum(picked) would cancel to zero
    rest = log_q.scatter(1, teacher.ids, -torch.inf).logsumexp(1, keepdim=True)
    log_p = torch.cat([teacher.log_p, teacher.log_rest[:, None]], dim=1)
    return divergence(log_p, torch.cat([picked, rest], dim=1), settings)


def thin(logits: torch.Tensor, settings: Distill.Options, generator: torch.Generator) -> Sparse:
    """Reduce teacher logits (N, V) to ``settings.cache_top_k`` ids a position, at ``settings.temperature``."""
    log_p = torch.log_softmax(logits / settings.temperature, dim=-1)
    assert settings.cache_top_k is not None
    if settings.tail == "sample":
        ids = torch.multinomial(log_p.exp(), settings.cache_top_k, replacement=True, generator=generator)
        return Sparse(ids, entropy=-(log_p.exp() * log_p).sum(1))
    top = log_p.topk(min(settings.cache_top_k, log_p.shape[1]), dim=1)
    if settings.tail == "drop" or top.indices.shape[1] == log_p.shape[1]:
        return Sparse(top.indices, top.values)
    rest = log_p.scatter(1, top.indices, -torch.inf).logsumexp(1)
    return Sparse(top.indices, top.values, log_rest=rest)


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(P ‖ Q) of each row, (N,)."""
    return kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
