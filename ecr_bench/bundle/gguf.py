"""A Llama bundle as a GGUF file for llama.cpp, with what makes its prompts beside it.

Control tokens are rows of the vocabulary, so that the file holds them as any other token. Which of them stand in a
prompt the conditioner says, and that is Python: ``open_prompts`` gives token ids, which llama.cpp takes in the place of
text.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ecr_bench.bundle.files import read_meta
from ecr_bench.bundle.prompts import conditioned
from ecr_bench.data.tokenizer import context_window, load_tokenizer
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, check_folder
from ecr_bench.weight_files import read_folder

FILE = "model.gguf"
PRE_TOKENIZERS = {"ByteLevel": "gpt-2"}
"""Kind of pre-tokenizer -> llama.cpp's name for the rule by which it parts a text."""


def write_gguf(bundle: Path, folder: Path) -> Path:
    """Write ``model.gguf`` (float32), tokenizer and conditioner of a bundle to ``folder``, which appears whole or not
    at all; returns the path of the model.

    UserError for a model that is no plain Llama, one in int8 or nf4 (llama.cpp quantises by itself), control tokens
    that are vectors and no rows of the vocabulary, a folder that is there already, and without the package ``gguf``.
    """
    if find_spec("gguf") is None:
        raise UserError("a GGUF file needs the package gguf: pip install 'ecr-bench[small]'")
    meta = read_meta(bundle)
    if meta.precision in ("int8", "nf4"):
        raise UserError(f"{bundle}: holds {meta.precision} weights; export it in fp32 or bf16, llama.cpp quantises")
    check_folder(folder.parent, "gguf to")
    if folder.exists():
        raise UserError(f"{folder}: is there already; choose a new folder")
    tokenizer = load_tokenizer(bundle)
    conditioner = Conditioner.load(bundle / "conditioner", tokenizer)
    if hasattr(conditioner.source, "attach"):
        raise UserError(f"{bundle}: its control tokens are vectors made for each text, which no vocabulary holds")
    model = read_folder(AutoModelForCausalLM, bundle, dtype=torch.float32)
    _check_plain_llama(bundle, model)
    tokenizer.model_max_length = context_window(model.config, tokenizer)
    with atomic_dir(folder) as temporary:
        _write(temporary / FILE, model, tokenizer, meta.cell)
        tokenizer.save_pretrained(temporary)
        shutil.copytree(bundle / "conditioner", temporary / "conditioner")
    return folder / FILE


def open_prompts(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside a GGUF file: called with texts it gives token ids with their control tokens in place."""
    folder = Path(folder)
    tokenizer = load_tokenizer(folder)
    conditioner = Conditioner.load(folder / "conditioner", tokenizer)
    return conditioned(tokenizer, conditioner, tokenizer.model_max_length)


def _check_plain_llama(bundle: Path, model: PreTrainedModel) -> None:
    """UserError naming the first thing that the layout written here does not say."""
    config: Any = model.config
    odd = {
        "model_type": (config.model_type, "llama"),
        "hidden_act": (getattr(config, "hidden_act", None), "silu"),
        "attention_bias": (getattr(config, "attention_bias", False), False),
        "mlp_bias": (getattr(config, "mlp_bias", False), False),
        "rope_type": ((getattr(config, "rope_parameters", None) or {}).get("rope_type", "default"), "default"),
    }
    for key, (found, needed) in odd.items():
        if found != needed:
            raise UserError(f"{bundle}: {key} is {found}: only Llama models with {key} {needed} can be written as GGUF")


def _write(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    import gguf

    config: Any = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    _add_vocabulary(writer, tokenizer, config.vocab_size)
    for tensor_name, tensor in _tensors(model):
        writer.add_tensor(tensor_name, tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any, tokenizer: PreTrainedTokenizerFast, rows: int) -> None:
    """Tokens in the order of their ids; rows that the tokenizer has no text for are control tokens and padding."""
    import json

    import gguf

    kinds, rules = gguf.TokenType, json.loads(tokenizer.backend_tokenizer.to_str())
    texts = {index: text for text, index in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZERS.get(str((rules["pre_tokenizer"] or {}).get("type")), "default"))
    writer.add_token_list([texts.get(i, f"<ecr_{i}>") for i in range(rows)])
    writer.add_token_types([kinds.NORMAL if i in texts and i not in special else kinds.CONTROL for i in range(rows)])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in rules["model"]["merges"]])
    for name in ("bos", "eos", "pad"):
        if (index := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(index)
    writer.add_add_bos_token(tokenizer.bos_token_id is not None)


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights under llama.cpp's names, in its order of rotary dimensions; a head that is tied to the embedding once."""
    import gguf

    config: Any = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        kind = name.split(".")[-2]
        if kind in heads:
            tensor = interleaved(tensor, heads[kind])
        yield str(names.get_name(name, try_suffixes=(".weight",))), tensor.detach().float()


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """(heads * d, n) with the halves of each head's rotary pairs side by side, as llama.cpp turns them, in place of one
    after the other, as transformers does."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
