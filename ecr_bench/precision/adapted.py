"""A quantised base with a trained adapter beside it (the LoRA arms)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetensors import safe_open
from transformers import PreTrainedModel

from ecr_bench.errors import UserError
from ecr_bench.methods.lora import ADAPTER, check_peft
from ecr_bench.precision import PRECISIONS
from ecr_bench.precision.quantised import load_quantised
from ecr_bench.weight_files import ADAPTER as ADAPTER_FILE
from ecr_bench.weight_files import check_adapter

if TYPE_CHECKING:
    import peft


def has_adapter(folder: Path) -> bool:
    return (folder / ADAPTER).is_dir()


def quantise_into(folder: Path, model: PreTrainedModel, precision: str, device: str) -> PreTrainedModel:
    """Save ``model`` quantised (``int8`` or ``nf4``) in ``folder`` and return it loaded from there."""
    dense = folder.with_name(f"{folder.name}-dense")
    model.save_pretrained(dense)
    quantised: PreTrainedModel = PRECISIONS.get(precision)(dense, device)
    shutil.rmtree(dense)
    quantised.save_pretrained(folder)
    return quantised


def load_adapted(folder: Path, device: str = "cpu") -> PreTrainedModel:
    """Read base and adapter: quantised linear layers, adapters in float32, the rest bfloat16; eval mode."""
    check_peft(f"model {folder}")
    import peft

    adapter = check_adapter(folder / ADAPTER)
    adapted = peft.PeftModel.from_pretrained(load_quantised(folder, device), adapter)
    _check_whole(adapted, adapter / ADAPTER_FILE)
    model = cast(PreTrainedModel, adapted.get_base_model())
    _put_rows_in_place(model)
    return model.eval()


def _check_whole(adapted: peft.PeftModel, path: Path) -> None:
    """UserError where the file lacks a weight: peft then keeps the one it started with, which changes nothing."""
    import peft

    with safe_open(path, "pt") as file:
        lost = sorted(set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)) - set(file.keys()))
    if lost:
        raise UserError(f"{path}: lacks {lost[0]}" + (f" and {len(lost) - 1} more weights" if len(lost) > 1 else ""))


def _put_rows_in_place(model: PreTrainedModel) -> None:
    """Write trained token rows into the embedding, in its own dtype, as peft does in each forward; drop the wrapper.

    ``tie_weights``, which lm-eval calls, cannot see through the wrapper.
    """
    from peft.utils.other import TrainableTokensWrapper

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(embedding, TrainableTokensWrapper):
        embedding.token_adapter.merge()
        model.set_input_embeddings(embedding.token_adapter.base_layer)
    if isinstance(head, TrainableTokensWrapper):
        if not model.config.tie_word_embeddings:
            head.token_adapter.merge()
        model.set_output_embeddings(head.token_adapter.base_layer)
