"""lm-eval's interface for the linear probe, so that it is scored on the same tasks by the same code."""

from __future__ import annotations

from typing import Any, NoReturn

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from ecr_bench.errors import UserError
from ecr_bench.evaluation.documents import documents_of
from ecr_bench.evaluation.lm import DocKey
from ecr_bench.methods.probe import Probe


class ProbeLM(LM):
    """Scores options by ``Probe``: log-probabilities over the options of a document instead of over tokens."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self.probe = probe
        self.last_control_tokens: dict[DocKey, list[int]] = {}
        """Always empty: a probe has no control tokens."""
        self.last_cut: set[DocKey] = set()
        """Always empty: a probe reads whole texts."""

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability in nats of each option among those of its document, and whether it is the likeliest."""
        result = [(0.0, False)] * len(requests)
        for document in documents_of(requests):
            scores = self.probe.log_probabilities(document.task, document.text, document.options)
            for place, score in zip(document.members, scores, strict=True):
                result[place] = (score, score == max(scores))
        return result

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        raise UserError("a probe has no language model: it can only choose between the options of an item")

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        raise UserError("a probe has no language model: it can only choose between the options of an item")

    def get_model_info(self) -> dict[str, Any]:
        return {"model_num_parameters": self.probe.parameters, "model_dtype": "float32"}
