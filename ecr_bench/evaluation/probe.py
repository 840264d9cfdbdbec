"""lm-eval's interface for the linear probe, so that it is scored on the same tasks by the same code."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NoReturn

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import DocKey, doc_key, prompts_of
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
        """Log-probability in nats of each option among those of its document, and whether it is the likeliest.

        The probe sees the text that control tokens would see (``ecr.cue``), and no question.
        """
        documents: dict[DocKey, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            documents[doc_key(request)].append(index)
        prompts = prompts_of(requests)
        result = [(0.0, False)] * len(requests)
        for members in documents.values():
            task = str((requests[members[0]].doc or {}).get("task", ""))
            options = [requests[i].args[1].strip() for i in members]
            scores = self.probe.log_probabilities(task, prompts[members[0]].cue or "", options)
            for i, score in zip(members, scores, strict=True):
                result[i] = (score, score == max(scores))
        return result

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        raise UserError("a probe has no language model: it can only choose between the options of an item")

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        raise UserError("a probe has no language model: it can only choose between the options of an item")

    def get_model_info(self) -> dict[str, Any]:
        return {"model_num_parameters": self.probe.parameters, "model_dtype": "float32"}
