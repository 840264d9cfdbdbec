"""A weight that is not in the file is drawn at random by transformers: every way in refuses such a model in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertModel, PreTrainedTokenizerFast

from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.methods.lora import ADAPTER
from ecr_bench.precision import PRECISIONS
from ecr_bench.precision.adapted import load_adapted
from ecr_bench.weight_files import read_folder
from tests.methods.test_lora import train
from tests.test_safetensors_only import WAYS as OPENED

WAYS = {**OPENED, "lm-eval": lambda folder, _: EcrLM(str(folder), device="cpu")}
LOST = "layers.1.mlp.down_proj.weight"


def drop(path: Path, ending: str) -> None:
    """Take the tensors whose names end so out of a file."""
    tensors = load_file(path)
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(ending)}
    assert len(kept) < len(tensors)
    save_file(kept, path, metadata={"format": "pt"})


@pytest.fixture
def torn(tmp_path: Path, model: Any, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path / "torn"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    drop(folder / "model.safetensors", LOST)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_refuses_a_model_that_lacks_a_weight(
    way: str, torn: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(UserError, match=rf"{LOST.replace('.', '[.]')} of \w+ not among its weights") as caught:
        WAYS[way](torn, tokenizer)
    assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_refused(model: Any, tmp_path: Path) -> None:
    """config.json names more layers than there are weights for."""
    model.save_pretrained(tmp_path)
    model.config.num_hidden_layers += 1
    model.config.save_pretrained(tmp_path)
    model.config.num_hidden_layers -= 1
    with pytest.raises(UserError, match=r"and \d+ more weights of \w+ not among its weights"):
        PRECISIONS.get("fp32")(tmp_path, "cpu")


def test_an_adapter_that_lacks_a_weight_is_refused(
    model: Any, tokenizer: Any, sentences: Any, anchors_and_projection: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    train(("finetune", "nf4"), model, tokenizer, sentences, anchors_and_projection, folder)
    load_adapted(folder)
    drop(folder / ADAPTER / "adapter_model.safetensors", "layers.0.self_attn.q_proj.lora_B.weight")
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: lacks .*lora_B"):
        load_adapted(folder)


def test_a_pooler_that_nobody_asks_may_be_missing(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    read_folder(AutoModel, tmp_path)
    drop(tmp_path / "model.safetensors", "layer.0.output.dense.weight")
    with pytest.raises(UserError, match="not among its weights"):
        read_folder(AutoModel, tmp_path)
