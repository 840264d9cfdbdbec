"""How far a text's hidden states are from the teacher's embedding: the loss of ``embedding-distillation``."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from ecr_bench.ecr.centring import centred, language_means
from ecr_bench.methods.cue_states import CueStates, cues_of, mean_of_present
from ecr_bench.methods.method import Training
from ecr_bench.teachers.cache import embed_cached
from ecr_bench.teachers.registry import create


class EmbeddingLoss(torch.nn.Module):
    """1 - cos(W h + b, t): h the mean last hidden state over a text's tokens, t the teacher's embedding of the text.

    W is learned and thrown away, so that the student keeps its own width (Reimers and Gurevych, arXiv 2004.09813, use
    the squared error between embeddings of one width).
    """

    targets: torch.Tensor
    """(N, d) of unit length: the teacher's embedding of each training text."""

    def __init__(self, targets: torch.Tensor, cues: CueStates, width: int):
        super().__init__()
        self.cues = cues
        self.register_buffer("targets", targets, persistent=False)
        self.head = torch.nn.Linear(width, targets.shape[1])

    @classmethod
    def of(cls, training: Training, width: int, centre: bool) -> EmbeddingLoss:
        """Ask the teacher for every training text; ``width`` is that of the model's hidden states."""
        given = training.given
        assert given.teacher is not None
        vectors = torch.from_numpy(embed_cached(create(given.teacher), cues_of((), training.texts)).copy())
        if centre:
            langs = [row.lang for row in training.texts]
            vectors = centred(vectors, langs, language_means(vectors, langs))
        known = torch.ones(len(vectors), dtype=torch.bool)
        cues = CueStates(given.tokenizer, (), training.texts, training.window, known)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            return cls(normalize(vectors, dim=-1), cues, width)

    def forward(self, states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Mean over the texts ``rows`` (B,) of the loss of their hidden states (B, T, d)."""
        pooled, present = self.cues(states, rows)
        ours = normalize(self.head(pooled).float(), dim=-1)
        return mean_of_present(1 - (ours * self.targets[rows]).sum(-1), present)
