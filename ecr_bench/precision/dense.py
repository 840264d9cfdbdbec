"""fp32 and bf16: all weights and all arithmetic in one floating-point type."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from ecr_bench.errors import UserError
from ecr_bench.weight_files import read_folder


def check_folder(folder: Path) -> Path:
    """Return ``folder`` if it holds a saved transformers model; UserError otherwise."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no saved model here (config.json is missing); pass a folder from save_pretrained")
    return folder


def load(folder: Path, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """Read a saved causal LM in ``dtype``, in eval mode, on ``device``; safetensors only (UserError)."""
    model = read_folder(AutoModelForCausalLM, check_folder(folder), dtype=dtype)
    return model.to(torch.device(device)).eval()


def load_fp32(folder: Path, device: str = "cpu") -> PreTrainedModel:
    """The reference precision."""
    return load(folder, device, torch.float32)


def load_bf16(folder: Path, device: str = "cpu") -> PreTrainedModel:
    """Brain floating point, 8 bits of mantissa; log-softmax is still taken in fp32 by the scorer."""
    return load(folder, device, torch.bfloat16)
