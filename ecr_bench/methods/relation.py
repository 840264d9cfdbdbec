"""How well a text's hidden state keeps the text's similarities to the semantic anchors: the loss of ``relational``."""

from __future__ import annotations

import torch
from torch.nn.functional import kl_div, normalize

from ecr_bench.ecr.projection import project
from ecr_bench.methods.cue_states import CueStates, cues_of, mean_of_present
from ecr_bench.methods.method import Training


class Relation(torch.nn.Module):
    """KL(t ‖ s) with t = softmax(cos(projection(cue), anchors) / τ) and s = softmax(cos(W h, anchors) / τ).

    h is the mean last hidden state over the cue's tokens; W is learned and thrown away. Choice: relations of each text
    to the fixed anchors, not among the texts of a batch (RKD, arXiv 1904.05068), so that the arm is given just what ECR
    is given; the target is the projection, not the teacher, for the same reason. Residual anchors: the first level.
    """

    anchors: torch.Tensor
    """(K, d) of unit length."""
    targets: torch.Tensor
    """(N, d): each training row's projection, of unit length."""

    def __init__(self, anchors: torch.Tensor, targets: torch.Tensor, cues: CueStates, width: int, temperature: float):
        super().__init__()
        self.cues, self.temperature = cues, temperature
        self.register_buffer("anchors", anchors, persistent=False)
        self.register_buffer("targets", targets, persistent=False)
        self.head = torch.nn.Linear(width, targets.shape[1])

    @classmethod
    def of(cls, training: Training, width: int, temperature: float) -> Relation:
        """For the training rows; ``width`` is that of the model's hidden states."""
        given, tokenizer = training.given, training.given.tokenizer
        assert given.anchors is not None and given.projection is not None
        texts = cues_of(training.items, training.texts)
        projected = project(given.projection, tokenizer, texts)
        # a cue of no known token projects to zero: nothing to keep
        known = projected.norm(dim=-1) > 0
        cues = CueStates(tokenizer, training.items, training.texts, training.window, known)
        anchors, targets = normalize(given.anchors.centroids[0], dim=-1), normalize(projected, dim=-1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            return cls(anchors, targets, cues, width, temperature)

    def forward(self, states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """KL in nats of hidden states (B, T, d) of training rows (B,), averaged over the rows that have a cue."""
        pooled, present = self.cues(states, rows)
        theirs, ours = (self._pattern(v) for v in (self.targets[rows], normalize(self.head(pooled).float(), dim=-1)))
        return mean_of_present(kl_div(ours, theirs, reduction="none", log_target=True).sum(-1), present)

    def _pattern(self, unit: torch.Tensor) -> torch.Tensor:
        """Log-softmax over anchors (B, K) of the cosines of unit vectors (B, d)."""
        return torch.log_softmax(unit @ self.anchors.T / self.temperature, dim=-1)
