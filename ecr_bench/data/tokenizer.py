"""Tokenizers: the byte-level BPE that from-scratch models share, and those that pretrained models bring."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ecr_bench.errors import UserError
from ecr_bench.hub import read_pretrained
from ecr_bench.sections import TokenizerConfig

DEFAULT_WINDOW = 2048
"""Where neither model nor tokenizer says, as in lm-eval."""
UNSET = 10**9
"""Tokenizers say a huge number where they know no limit."""
LEAST_WINDOW = 2
SPECIAL = BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
"""Of a tokenizer that is trained here, in the order of their ids."""


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of ``config.vocab_size`` ids; encoding adds BOS, any UTF-8 text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[*SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read a tokenizer saved with ``save_pretrained``."""
    return PreTrainedTokenizerFast.from_pretrained(str(folder), trust_remote_code=False)


def difference(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> str:
    """What tells two fast tokenizers apart; empty where they give the same ids for the same tokens, made by the same
    rules. How wide the embeddings are padded is no difference, nor what is put around a text: rows are made of ids."""
    if differing := len(ours.get_vocab().items() ^ theirs.get_vocab().items()):
        return f"{differing} (token, id) pairs differ"
    mine, other = rules_of(ours), rules_of(theirs)
    same = all(mine.get(part) == other.get(part) for part in ("model", "normalizer", "pre_tokenizer"))
    return "" if same else "same tokens, other rules"


def rules_of(tokenizer: Any) -> dict[str, Any]:
    """What ``tokenizer.json`` holds of a fast tokenizer."""
    return json.loads(tokenizer.backend_tokenizer.to_str())


PROBE = "Ein Test, 测试 123.\n  проба"


def own_tokenizer(source: str, max_length: int, revision: str = "") -> PreTrainedTokenizerBase:
    """The tokenizer of a pretrained model, made uniform: ``bos_token`` is what it really puts before a text (None
    for one that puts nothing, whatever it declares), padding exists, ``model_max_length`` is ``max_length``.

    UserError for one that cannot be read, is not a fast tokenizer or has no EOS token.
    """
    who = f"model {source!r}"
    tokenizer: PreTrainedTokenizerBase = read_pretrained(
        AutoTokenizer, source, who, revision, model_max_length=max_length
    )
    if not tokenizer.is_fast:
        raise UserError(f"{who}: needs a fast tokenizer (tokenizer.json); convert it with transformers and save it")
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{who}: its tokenizer has no EOS token to end an answer with; set eos_token in its tokenizer_config.json"
        )
    if max(tokenizer.get_vocab().values()) >= len(tokenizer):
        raise UserError(f"{who}: the ids of its tokenizer have holes, control tokens would collide with them")
    if tokenizer.bos_token_id is not None and tokenizer("")["input_ids"] != [tokenizer.bos_token_id]:
        tokenizer.bos_token = None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_own_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> PreTrainedTokenizerFast:
    """Save for ``load_tokenizer``; RuntimeError if what comes back is not the same tokenizer."""
    tokenizer.save_pretrained(folder)
    again = load_tokenizer(folder)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "model_max_length"):
        if getattr(again, name) != getattr(tokenizer, name):
            raise RuntimeError(f"{name} of {type(tokenizer).__name__} does not survive saving")
    if again(PROBE)["input_ids"] != tokenizer(PROBE)["input_ids"] or len(again) != len(tokenizer):
        raise RuntimeError(f"{type(tokenizer).__name__} does not survive saving")
    return again


def context_window(config: Any, tokenizer: PreTrainedTokenizerBase, asked: int | None = None) -> int:
    """Tokens a model is trained and scored with: ``asked``, or what its positions and its tokenizer both allow.

    The same with and without control tokens. UserError where ``asked`` is more than the model has positions for, or too
    little for a prompt and an answer.
    """
    reads = positions_of(config)
    if asked is not None:
        asked = int(asked)  # `--model_args` values of lm-eval may arrive as text
        if reads is not None and asked > reads:
            raise UserError(f"max_length {asked}: the model reads {reads} tokens at most")
        if asked < LEAST_WINDOW:
            raise UserError(f"max_length {asked}: must be {LEAST_WINDOW} or more")
        return asked
    limits = [limit for limit in (reads, tokenizer.model_max_length) if limit and limit < UNSET]
    return int(min(limits, default=DEFAULT_WINDOW))


def positions_of(config: Any) -> int | None:
    """Positions a model has; None where it has no such limit (state-space models, ALiBi)."""
    for part in (config.get_text_config(), config):
        for name in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(found := getattr(part, name, None), int) and found > 0:
                return found
    return None
