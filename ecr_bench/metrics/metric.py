"""The metrics: a function of rows each, and what it gives by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ecr_bench.metrics.functional import (
    bitext,
    choice,
    consistency,
    drift,
    manifold,
    neighbours,
    probe,
    similarity,
    stability,
    strata,
    text,
)
from ecr_bench.metrics.functional.permutation import Null


@dataclass(frozen=True)
class Metric:
    """Both take the same rows and options; ``null`` takes ``permutations`` and ``seed`` as well."""

    value: Callable[..., torch.Tensor]
    """Rows -> scalar; NotMeasurable where it is not defined for them."""
    null: Callable[..., Null] | None = None
    """Under the permutation that the function names; None where the order of the rows is the point."""


def _of_pairs(score: Any, draws: Any) -> Metric:
    """Of source and target (N, d), row i of both translates each other, and language pairs (N,): mean over these."""
    return Metric(partial(strata.mean_over_strata, score), partial(strata.mean_over_strata_null, draws))


CKA = Metric(drift.linear_cka, drift.linear_cka_null)
PROCRUSTES = Metric(drift.procrustes_distance, drift.procrustes_distance_null)
CODES = Metric(drift.code_agreement, drift.code_agreement_null)

TWO_NN = Metric(manifold.two_nn, manifold.two_nn_null)
ISO_SCORE = Metric(manifold.iso_score, manifold.iso_score_null)
TRUSTWORTHINESS = Metric(neighbours.trustworthiness, neighbours.trustworthiness_null)
CONTINUITY = Metric(neighbours.continuity, neighbours.continuity_null)
MUTUAL_NEIGHBOURS = Metric(neighbours.mutual_neighbours, neighbours.mutual_neighbours_null)

MEXA = _of_pairs(bitext.mexa, bitext.mexa_draws)
RETRIEVAL = _of_pairs(bitext.retrieval_accuracy, bitext.retrieval_accuracy_draws)
BOTH_WAYS = _of_pairs(bitext.both_ways_accuracy, bitext.both_ways_accuracy_draws)
RANK_CONSISTENCY = Metric(consistency.rank_consistency, consistency.rank_consistency_null)
HUBNESS = Metric(neighbours.hubness, neighbours.hubness_null)
LANGUAGE_PROBE = Metric(probe.probe_accuracy, probe.probe_accuracy_null)

ACCURACY = Metric(choice.macro_accuracy)
BITS_PER_BYTE = Metric(partial(strata.mean_over_strata, text.bits_per_byte))

SIMILARITY = Metric(similarity.correlation_with_people, similarity.correlation_with_people_null)

GRAD_NORM_MEDIAN = Metric(partial(stability.grad_norm_quantile, share=0.5))
GRAD_NORM_P95 = Metric(partial(stability.grad_norm_quantile, share=0.95))
GRAD_NORM_MAX = Metric(partial(stability.grad_norm_quantile, share=1.0))
SPIKE_SCORE = Metric(stability.spike_score)
LOSS_SPIKES = Metric(lambda loss, grad_norm: stability.count_spikes(loss))
DIVERGED = Metric(stability.diverged)
