"""int8 and nf4 through bitsandbytes, on CPU as well as on CUDA."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from ecr_bench.precision.dense import check_folder
from ecr_bench.weight_files import read_folder


def _load(folder: Path, device: str, config: BitsAndBytesConfig) -> PreTrainedModel:
    options = {"dtype": torch.bfloat16, "device_map": {"": device}}
    model = read_folder(AutoModelForCausalLM, check_folder(folder), quantization_config=config, **options)
    return model.eval()


def load_int8(folder: Path, device: str = "cpu") -> PreTrainedModel:
    """LLM.int8 (arXiv 2208.07339): int8 weights and activations, outlier columns in 16 bits.

    Embeddings, norms and lm_head stay dense, in bfloat16. Which columns are outliers is decided per
    forward over all its tokens, so int8 scores can move a little with the batch; the other precisions' do not.
    """
    return _load(folder, device, BitsAndBytesConfig(load_in_8bit=True))


def load_nf4(folder: Path, device: str = "cpu") -> PreTrainedModel:
    """NormalFloat4 with block size 64 (QLoRA, arXiv 2305.14314, section 3), computing in bfloat16.

    Embeddings, norms and lm_head stay dense, in bfloat16; block maxima are not quantised again.
    """
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return same_everywhere(_load(folder, device, config))


def load_quantised(folder: Path, device: str = "cpu") -> PreTrainedModel:
    """Read a model that was saved quantised (int8 or nf4), as it was."""
    options = {"dtype": torch.bfloat16, "device_map": {"": device}}
    model = read_folder(AutoModelForCausalLM, check_folder(folder), **options)
    return same_everywhere(model.eval())


def same_everywhere(model: PreTrainedModel) -> PreTrainedModel:
    """Keep 4-bit layers off a path that only some CPUs have; other layers are left alone."""
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            # bitsandbytes 0.50 repacks weights for CPUs with AVX512-BF16, which fails unless in_features is
            # a multiple of 64 and out_features of 32, and rounds block maxima to bfloat16 on such machines
            # only. Its generic path (dequantise, then multiply) gives the same result everywhere.
            module.support_avx512bf16_for_cpu = False
    return model
