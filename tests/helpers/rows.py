"""Training rows of made-up sentences."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from ecr_bench.data.cutting import whole_texts
from ecr_bench.data.encode import Example, encode_texts
from ecr_bench.ecr.conditioner import Conditioner


def whole_rows(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[Example]:
    """As a plain base model is pre-trained on them."""
    return encode_texts(Conditioner(tokenizer), whole_texts((text, "en") for text in texts), max_length)
