"""A language model whose options are scored together with a probe (``methods.fusion``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance

from ecr_bench.evaluation.documents import documents_of
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.methods.fused import Fused


class FusedLM(EcrLM):
    """``EcrLM`` for all but the options of an item, which the probe in ``fusion`` helps to score."""

    def __init__(self, *args: Any, fusion: Path, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fused = Fused.load(fusion, self.tokenizer)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Pooled score of each option, and whether it is the best of its item. The scores are no log-probabilities."""
        by_model = [score for score, _ in super().loglikelihood(requests, disable_tqdm=disable_tqdm)]
        result = [(0.0, False)] * len(requests)
        for document in documents_of(requests):
            ours = [by_model[place] for place in document.members]
            scores = self.fused.scores(document.task, document.text, document.options, ours)
            for place, score in zip(document.members, scores, strict=True):
                result[place] = (score, score == max(scores))
        return result
