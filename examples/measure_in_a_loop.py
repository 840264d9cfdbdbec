"""Our measures as a torchmetrics metric in a loop of one's own.  python examples/measure_in_a_loop.py BUNDLE"""

import sys
from pathlib import Path

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

import ecr_bench as eb
from ecr_bench.metrics.functional.drift import linear_cka


class Drift(Metric):
    """Linear CKA of the states of the same texts before and after training: 1 where nothing moved."""

    def __init__(self):
        super().__init__()
        self.add_state("before", default=[], dist_reduce_fx="cat")
        self.add_state("after", default=[], dist_reduce_fx="cat")

    def update(self, before, after):
        self.before.append(before)
        self.after.append(after)

    def compute(self):
        return linear_cka(dim_zero_cat(self.before), dim_zero_cat(self.after))


bundle = eb.open_bundle(Path(sys.argv[1]))
texts = [f"{verb} the {thing}" for verb in ("open", "close", "find") for thing in ("door", "window", "box", "book")]
batch = bundle.tokenizer(texts, return_tensors="pt", padding=True)  # with the control tokens of each text
labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)


def states():
    """(texts, hidden size): the mean state of each."""
    with torch.no_grad():
        last = bundle.model(**batch, output_hidden_states=True).hidden_states[-1]
    mask = batch["attention_mask"][..., None]
    return (last * mask).sum(1) / mask.sum(1)


before, drift = states(), Drift()
optimiser = torch.optim.AdamW(bundle.model.parameters(), lr=1e-3)
for step in range(6):
    loss = bundle.model(**batch, labels=labels).loss
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    drift.reset()
    drift.update(before, states())
    print(f"step {step}: loss {loss.item():.2f}, linear CKA with the first states {drift.compute():.3f}")
