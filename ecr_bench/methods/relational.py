"""Geometry as a loss instead of a cue."""

from __future__ import annotations

import torch
from torch.nn.functional import kl_div, normalize

from ecr_bench.config import RelationalConfig
from ecr_bench.data.joint import move_spaces
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.methods.base import Training, hidden_states, labelled_logits
from ecr_bench.methods.finetune import Finetune
from ecr_bench.methods.teacher_logits import plain_rows


class Relational(Finetune):
    """Plain prompts, but a loss keeps each text's similarities to ECR's semantic anchors; none at test time."""

    # Choice: relations of each text to the fixed anchors, not among the texts of a batch (RKD,
    # arXiv 1904.05068), so that the arm is given just what ECR is given. The target is the projection
    # (not the teacher), for the same reason:
    #   t = softmax(cos(projection(cue), anchors) / τ),   s = softmax(cos(W h, anchors) / τ),
    # with h the mean last hidden state over the cue's tokens and W learned and thrown away; the loss is
    # CE + weight · KL(t ‖ s), averaged over the rows that have a cue. Residual anchors: the first level.
    uses_anchors = True
    anchors: torch.Tensor
    targets: torch.Tensor
    ends: torch.Tensor
    sections = ("relational",)

    def prepare(self, training: Training) -> None:
        given, tokenizer = training.given, training.given.tokenizer
        assert given.anchors is not None and given.projection is not None
        self.settings = RelationalConfig(**training.settings["relational"])
        cues = [item.text for item in training.items] + [row.text[: row.cut] for row in training.texts]
        prompts = [move_spaces(item.prompt, "")[0] for item in training.items] + cues[len(training.items) :]
        ids = tokenizer(cues, add_special_tokens=False)["input_ids"]
        projected = given.projection(ids)
        self.register_buffer("anchors", normalize(given.anchors.centroids[0], dim=-1), persistent=False)
        self.register_buffer("targets", normalize(projected, dim=-1), persistent=False)
        self.start = len(Conditioner(tokenizer).prefix)
        rows = plain_rows(tokenizer, training.items, training.texts, training.window)
        offsets = tokenizer(prompts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        after = [sum(end > len(cue) for _, end in spans) for cue, spans in zip(cues, offsets, strict=True)]
        ends = torch.tensor([row.loss_from - count for row, count in zip(rows, after, strict=True)])
        # a cue of no known token projects to zero: nothing to keep
        self.register_buffer("ends", ends * (projected.norm(dim=-1) > 0), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.head = torch.nn.Linear(self.model.config.hidden_size, projected.shape[1])

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        states = hidden_states(self.model, batch["input_ids"])
        plain = self.cross_entropy(batch, labelled_logits(self.model, batch, states))
        kept = self.relation(states, batch["rows"])
        self.log("train/ce", plain.detach())
        self.log("train/relational", kept.detach())
        return plain + self.settings.weight * kept

    def relation(self, states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """KL(t ‖ s) in nats of hidden states (B, T, d) of training rows (B,), averaged over rows with a cue."""
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
        return torch.log_softmax(unit @ self.anchors.T / self.settings.temperature, dim=-1)
