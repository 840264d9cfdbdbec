"""Low-rank adapters (arXiv 2106.09685), over the base as it is or over a quantised one (QLoRA, arXiv 2305.14314)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field

from ecr_bench.errors import UserError
from ecr_bench.methods.method import Modifier, Training
from ecr_bench.section import Section

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from ecr_bench.methods.module import ArmModule
    from ecr_bench.methods.recipe import Recipe

ADAPTER = "adapter"
"""Folder of the adapter inside the model's. (In the same folder, transformers would read the base through it.)"""


def check_peft(who: str) -> None:
    """UserError where the package that makes adapters is not installed: it comes with an extra of this one."""
    if find_spec("peft") is None:
        raise UserError(f"{who} needs the package peft: pip install 'ecr-bench[lora]'")


class Lora(Modifier):
    """Trains low-rank adapters instead of the weights: merged when saved, or beside a quantised base.

    Adapters, in float32, on every linear layer but the head. The rows of the control tokens are trained as well (peft's
    ``trainable_token_indices``), in the embedding and in the head that is tied to it. Over a dense base, what is saved
    is an ordinary model and is scored at every precision; over a quantised one, which is not changed, only at that one.
    """

    class Options(Section):
        """The adapters and what they stand on."""

        base: Literal["dense", "int8", "nf4"] = "dense"
        """The base model as it is, or quantised before training."""
        rank: int = Field(default=16, ge=1, le=65_536)
        """Rank of the two factors."""
        alpha: float = Field(default=32.0, gt=0, le=1e9)
        """The adapters' output is scaled by ``alpha / rank``."""
        embeddings: bool = False
        """Train all token rows (embedding and tied head), not the control tokens' alone: what a young base needs."""

    options: Options
    trains_weights = False

    def misfit(self, recipe: Recipe) -> str:
        check_peft(f"modifier {self.name!r}")
        return f"it wraps the embedding into which {recipe.method.name} puts vectors" if recipe.method.embeds else ""

    @property
    def base_precision(self) -> str | None:
        return None if self.options.base == "dense" else self.options.base

    @property
    def precisions(self) -> tuple[str, ...]:
        return () if self.base_precision is None else (self.base_precision,)

    def prepare(self, module: ArmModule, training: Training) -> None:
        import peft  # imports bitsandbytes: slow, and only these arms need it
        import torch

        tokens = training.conditioner.tokens
        trained = range(tokens.first_id, tokens.first_id + tokens.size) if tokens else range(0)
        if self.options.embeddings:
            embedding = cast("torch.nn.Embedding", module.model.get_input_embeddings())
            trained = range(embedding.num_embeddings)
        config = peft.LoraConfig(
            r=self.options.rank,
            lora_alpha=self.options.alpha,  # type: ignore[arg-type]  # annotated int; any number works
            target_modules="all-linear",
            trainable_token_indices=list(trained) or None,
            task_type="CAUSAL_LM",
        )
        # the factors are drawn from the seed, whatever this process has drawn before
        with torch.random.fork_rng():
            torch.manual_seed(training.seed)
            self.adapted = peft.get_peft_model(module.model, config)
        # the same model, its layers now wrapped
        module.model = cast("PreTrainedModel", self.adapted.get_base_model())

    def adapter_parameters(self, module: ArmModule) -> int:
        """Low-rank factors, unless they are merged. Trained token rows take the place of the base's when loaded."""
        if self.base_precision is None:
            return 0
        return sum(p.numel() for name, p in module.model.named_parameters() if "lora_" in name)

    def save_model(self, module: ArmModule, folder: Path) -> None:
        """Over a dense base: the model with the adapters added to its weights. Else the adapter, into ``folder``, which
        holds the quantised base already."""
        if self.base_precision is None:
            cast("PreTrainedModel", self.adapted.merge_and_unload()).save_pretrained(folder)
            return
        # the folder the base was loaded from was a temporary one
        self.adapted.active_peft_config.base_model_name_or_path = ".."
        # the embedding rows that are trained are part of the adapter
        self.adapted.save_pretrained(str(folder / ADAPTER), save_embedding_layers=False)
