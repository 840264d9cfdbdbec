"""How well a text's hidden state keeps the text's similarities to the semantic anchors: the loss of ``relational``."""

from __future__ import annotations

import torch
from torch.nn.functional import kl_div, normalize

from ecr_bench.data.joint import move_spaces
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.methods.method import Training
from ecr_bench.methods.teacher_logits import plain_rows


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
    ends: torch.Tensor
    """(N,) int64: where each row's cue ends, BOS counted; 0 for rows with nothing to keep."""

    def __init__(
        self,
        anchors: torch.Tensor,
        targets: torch.Tensor,
        ends: torch.Tensor,
        start: int,
        width: int,
        temperature: float,
    ):
        super().__init__()
        self.start, self.temperature = start, temperature
        self.register_buffer("anchors", anchors, persistent=False)
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("ends", ends, persistent=False)
        self.head = torch.nn.Linear(width, targets.shape[1])

    @classmethod
    def of(cls, training: Training, width: int, temperature: float) -> Relation:
        """For the training rows; ``width`` is that of the model's hidden states."""
        given, tokenizer = training.given, training.given.tokenizer
        assert given.anchors is not None and given.projection is not None
        cues = [item.text for item in training.items] + [row.text[: row.cut] for row in training.texts]
        prompts = [move_spaces(item.prompt, "")[0] for item in training.items] + cues[len(training.items) :]
        projected = given.projection(tokenizer(cues, add_special_tokens=False)["input_ids"])
        rows = plain_rows(tokenizer, training.items, training.texts, training.window)
        offsets = tokenizer(prompts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        after = [sum(end > len(cue) for _, end in spans) for cue, spans in zip(cues, offsets, strict=True)]
        ends = torch.tensor([row.loss_from - count for row, count in zip(rows, after, strict=True)])
        # a cue of no known token projects to zero: nothing to keep
        ends = ends * (projected.norm(dim=-1) > 0)
        anchors, targets = normalize(given.anchors.centroids[0], dim=-1), normalize(projected, dim=-1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            return cls(anchors, targets, ends, len(Conditioner(tokenizer).prefix), width, temperature)

    def forward(self, states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """KL in nats of hidden states (B, T, d) of training rows (B,), averaged over the rows that have a cue."""
        at = torch.arange(states.shape[1], device=states.device)
        inside = ((at >= self.start) & (at < self.ends[rows][:, None])).to(states.dtype)
        count = inside.sum(1)
        pooled = (states * inside[..., None]).sum(1) / count.clamp(min=1)[:, None]
        theirs, ours = (self._pattern(v) for v in (self.targets[rows], normalize(self.head(pooled).float(), dim=-1)))
        each = kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
        present = count > 0
        return (each * present).sum() / present.sum().clamp(min=1)

    def _pattern(self, unit: torch.Tensor) -> torch.Tensor:
        """Log-softmax over anchors (B, K) of the cosines of unit vectors (B, d)."""
        return torch.log_softmax(unit @ self.anchors.T / self.temperature, dim=-1)
