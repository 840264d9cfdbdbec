"""How well a language model predicts text."""

from __future__ import annotations

import math

import torch


def bits_per_byte(nats: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Bits that a model needs for a byte of text: comparable between tokenizers, as perplexity is not.

    Args:
        nats: (N,) negative log-likelihood of each text.
        size: (N,) its length in UTF-8 bytes.

    Returns:
        Scalar float64: all bits by all bytes (Gao et al. 2020, arXiv 2101.00027, section 3.1). ValueError for texts
        without a byte.
    """
    if nats.shape != size.shape or nats.ndim != 1:
        raise ValueError(f"expected two (N,) tensors, got {tuple(nats.shape)} and {tuple(size.shape)}")
    if not bool((size > 0).all()):
        raise ValueError("a text has no byte")
    return nats.double().sum() / math.log(2) / size.double().sum()
