"""Quantised variants as training arms: low-rank adapters over an int8 or nf4 base (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel

from ecr_bench.config import LoraConfig
from ecr_bench.methods.base import Method, Training
from ecr_bench.methods.ecr import Ecr
from ecr_bench.methods.finetune import Finetune

ADAPTER = "adapter"
"""Folder of the adapter inside the model's. (In the same folder, transformers would read the base through it.)"""


class Lora(Method):
    """Adapters, in float32, on every linear layer but the head; the quantised base is not changed.

    The rows of the control tokens are trained as well (peft's ``trainable_token_indices``), in the
    embedding and in the head that is tied to it; with ``lora.embeddings`` those of all tokens. A base that
    was pre-trained for a few hundred steps needs that: on the quick task mix (1x, 330 steps, validation loss)
    full fine-tuning reaches 1.26, with frozen embeddings 1.78, adapters alone 2.21 and adapters with
    embeddings 1.35, whatever the learning rate, the optimiser or the rank (64: 2.00).
    """

    sections = ("lora",)

    def prepare(self, training: Training) -> None:
        import peft  # imports bitsandbytes: slow, and only these arms need it

        lora, tokens = LoraConfig(**training.settings["lora"]), training.conditioner.tokens
        trained = range(tokens.first_id, tokens.first_id + tokens.size) if tokens else range(0)
        if lora.embeddings:
            trained = range(cast(torch.nn.Embedding, self.model.get_input_embeddings()).num_embeddings)
        config = peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # annotated int; any number works
            target_modules="all-linear",
            trainable_token_indices=list(trained) or None,
            task_type="CAUSAL_LM",
        )
        self.adapted = peft.get_peft_model(self.model, config)
        self.model = cast(PreTrainedModel, self.adapted.get_base_model())  # the same model, its layers now wrapped

    @property
    def adapter_parameters(self) -> int:
        """Low-rank factors. Trained token rows take the place of the base's when the cell is loaded."""
        return sum(p.numel() for name, p in self.model.named_parameters() if "lora_" in name)

    def save_model(self, folder: Path) -> None:
        """Add the adapter to ``folder``, which holds the quantised base already."""
        # the folder the base was loaded from was a temporary one
        self.adapted.active_peft_config.base_model_name_or_path = ".."
        # the embedding rows that are trained are part of the adapter
        self.adapted.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)


class FinetuneLoraInt8(Lora, Finetune):
    """Plain fine-tuning of low-rank adapters over an int8 base; scored as int8."""

    base_precision = "int8"
    precisions = ("int8",)


class FinetuneLoraNf4(Lora, Finetune):
    """Plain fine-tuning of low-rank adapters over an nf4 base; scored as nf4."""

    base_precision = "nf4"
    precisions = ("nf4",)


class EcrLoraInt8(Lora, Ecr):
    """ECR trained as low-rank adapters and control-token rows over an int8 base; scored as int8."""

    base_precision = "int8"
    precisions = ("int8",)


class EcrLoraNf4(Lora, Ecr):
    """ECR trained as low-rank adapters and control-token rows over an nf4 base; scored as nf4."""

    base_precision = "nf4"
    precisions = ("nf4",)
