"""Reading pretrained weights and tokenizers by hub id or folder, with one clear line when that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.weight_files import CONVERT, SUFFIX, check_weights


def read_model(kind: Any, source: str, who: str, **options: Any) -> Any:
    """``read_pretrained`` for weights: of safetensors alone, whether ``source`` is a folder or on the hub."""
    if Path(source).is_dir():
        check_weights(Path(source))
    return read_pretrained(kind, source, who, use_safetensors=True, **options)


def read_pretrained(kind: Any, source: str, who: str, **options: Any) -> Any:
    """``kind.from_pretrained(source, **options)``; UserError names ``who``, the source and the remedy."""
    try:
        return kind.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if Path(source).is_dir():
            raise UserError(
                f"{who}: cannot read {source}: {reason:.160}; it must be a transformers folder with config.json, "
                "a tokenizer and model.safetensors"
            ) from error
        if SUFFIX in reason or "safetensors" in reason:
            raise UserError(f"{who}: {source!r} has no {SUFFIX} weights, and others are not read; {CONVERT}") from error
        if "gated repo" in reason or "403" in reason:
            raise UserError(
                f"{who}: {source!r} is gated: accept its licence at https://huggingface.co/{source}, "
                "then run 'hf auth login'"
            ) from error
        raise UserError(
            f"{who}: {source!r} is neither a folder here nor reachable on the hub; run 'hf download {source}' "
            "where there is a network, or give the path of a folder"
        ) from error
