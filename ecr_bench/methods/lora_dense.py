"""LoRA (arXiv 2106.09685) over the full-precision base: few trained numbers, merged into the model when it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from transformers import PreTrainedModel

from ecr_bench.methods.ecr import Ecr
from ecr_bench.methods.finetune import Finetune
from ecr_bench.methods.lora import Lora


class DenseLora(Lora):
    """Adapters as in ``Lora``; what is saved is an ordinary model, so it is scored at every precision."""

    @property
    def adapter_parameters(self) -> int:
        """None: after merging there is nothing beside the model."""
        return 0

    def save_model(self, folder: Path) -> None:
        """Add the adapters to the weights they belong to and write the model."""
        merged = cast(PreTrainedModel, self.adapted.merge_and_unload())
        merged.save_pretrained(folder)


class FinetuneLora(DenseLora, Finetune):
    """Plain fine-tuning of low-rank adapters over the full-precision base, merged when saved."""


class EcrLora(DenseLora, Ecr):
    """ECR trained as low-rank adapters and control-token rows over the full-precision base, merged when saved."""
