"""A language model whose options are scored together with a probe (``methods.fusion``)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance

from ecr_bench.evaluation.lm import DocKey, EcrLM, doc_key, prompts_of
from ecr_bench.methods.fused import Fused


class FusedLM(EcrLM):
    """``EcrLM`` for all but the options of an item, which the probe in ``fusion`` helps to score."""

    def __init__(self, *args: Any, fusion: Path, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fused = Fused.load(fusion, self.tokenizer)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Pooled score of each option, and whether it is the best of its item. The scores are no log-probabilities."""
        by_model = [score for score, _ in super().loglikelihood(requests, disable_tqdm=disable_tqdm)]
        documents: dict[DocKey, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            documents[doc_key(request)].append(index)
        prompts = prompts_of(requests)
        result = [(0.0, False)] * len(requests)
        for members in documents.values():
            task = str((requests[members[0]].doc or {}).get("task", ""))
            options = [requests[i].args[1].strip() for i in members]
            ours = [by_model[i] for i in members]
            scores = self.fused.scores(task, prompts[members[0]].cue or "", options, ours)
            for i, score in zip(members, scores, strict=True):
                result[i] = (score, score == max(scores))
        return result
