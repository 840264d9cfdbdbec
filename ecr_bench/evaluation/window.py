"""How many tokens a model is asked to read at once: one rule, with and without control tokens."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from ecr_bench.errors import UserError

DEFAULT = 2048
"""Where neither model nor tokenizer says, as in lm-eval."""
UNSET = 10**9
"""Tokenizers say a huge number where they know no limit."""
LEAST = 2


def window_of(config: Any, tokenizer: PreTrainedTokenizerBase, asked: int | None = None) -> int:
    """``asked`` tokens, or what positions and tokenizer both allow.

    UserError where ``asked`` is more than the model has positions for, or too little for a prompt and an answer.
    """
    reads = positions_of(config)
    if asked is not None:
        asked = int(asked)  # `--model_args` values of lm-eval may arrive as text
        if reads is not None and asked > reads:
            raise UserError(f"max_length {asked}: the model reads {reads} tokens at most")
        if asked < LEAST:
            raise UserError(f"max_length {asked}: must be {LEAST} or more")
        return asked
    limits = [limit for limit in (reads, tokenizer.model_max_length) if limit and limit < UNSET]
    return int(min(limits, default=DEFAULT))


def positions_of(config: Any) -> int | None:
    """Positions a model has; None where it has no such limit (state-space models, ALiBi)."""
    for part in (config.get_text_config(), config):
        for name in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(found := getattr(part, name, None), int) and found > 0:
                return found
    return None
