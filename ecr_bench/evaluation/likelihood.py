"""How likely whole texts are to a finished cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lm_eval.api.instance import Instance
from transformers import PreTrainedModel

from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.evaluation.lm import EcrLM


def negative_loglikelihoods(
    model: PreTrainedModel, conditioner: Conditioner, texts: Sequence[str], batch_tokens: int
) -> torch.Tensor:
    """(N,) float64: nats of each text, every token predicted once.

    Texts stand after BOS and, where the model has control tokens, after null ones: codes of a text that is itself
    predicted would tell of it. A text longer than the window is read in disjoint windows.
    """
    lm = EcrLM(model, tokenizer=conditioner.tokenizer, conditioner=conditioner, batch_tokens=batch_tokens)
    requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    return -torch.tensor(lm.loglikelihood_rolling(requests, disable_tqdm=True), dtype=torch.float64)


def without_text(lm: EcrLM, options: Sequence[str]) -> dict[str, float]:
    """Log-likelihood of each option as the answer to nothing: after BOS and null control tokens, in nats."""
    requests = [Instance("loglikelihood", {}, ("", f" {option}"), i) for i, option in enumerate(options)]
    scores = lm.loglikelihood(requests, disable_tqdm=True)
    return {option: score for option, (score, _) in zip(options, scores, strict=True)}
