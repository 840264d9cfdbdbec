"""A tokenizer cut to the tokens that some texts need: it reads them as before, and any other text in smaller pieces.

Byte-pair encoding joins neighbours in the order of its merges, so a token is made of the same parts wherever it stands.
Kept are the tokens that the texts give, all parts they are joined from, the letters of ASCII, and all 256 bytes; of the
merges those whose parts and result are kept. On the texts, every merge that was made can still be made and no other
comes before it, so the tokens are the same (``cut_vocabulary`` checks it).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ecr_bench.data.tokenizer import rules_of
from ecr_bench.errors import UserError

FILE = "vocabulary.safetensors"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
BATCH = 4096

Merge = tuple[str, str]


@dataclass(frozen=True)
class CutVocabulary:
    """``kept`` (V,) int64, ascending: id i of ``tokenizer`` is id ``kept[i]`` of the whole one."""

    tokenizer: PreTrainedTokenizerFast
    kept: torch.Tensor

    def save(self, folder: Path) -> None:
        """Write the ids; the tokenizer is saved where tokenizers are."""
        save_file({"kept": self.kept}, folder / FILE)


def load_kept(folder: Path) -> torch.Tensor:
    """The ``kept`` of a ``CutVocabulary`` that was saved in ``folder``."""
    return load_file(folder / FILE)["kept"]


def cut_vocabulary(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], who: str) -> CutVocabulary:
    """``tokenizer`` with the tokens that ``texts`` need, its special tokens and all bytes that it has.

    UserError that begins with ``who`` for a tokenizer that cannot be cut (``check_cuttable``); RuntimeError where
    ``texts`` would be read otherwise than before.
    """
    check_cuttable(tokenizer, who)
    rules = rules_of(tokenizer)
    whole: dict[str, int] = rules["model"]["vocab"]
    merges = [_pair(merge) for merge in rules["model"]["merges"]]
    used: set[int] = set()
    for ids in _ids(tokenizer, texts):
        used.update(ids)
    names = {name for name, index in whole.items() if index in used} | set(_bytes_of(rules) or ()) & whole.keys()
    names |= {chr(code) for code in range(128)} & whole.keys()  # better known to a model than the bytes
    names |= _parts(names, {merge: rank for rank, merge in enumerate(merges)}, whole)
    special = _special(tokenizer, rules)
    added = [one for one in rules["added_tokens"] if one["id"] in used or one["content"] in special]
    kept = sorted({whole[name] for name in names | special & whole.keys()} | {one["id"] for one in added})
    new = {old: index for index, old in enumerate(kept)}
    rules["model"]["vocab"] = {name: new[index] for name, index in whole.items() if index in new}
    left = rules["model"]["vocab"]
    rules["model"]["merges"] = [list(pair) for pair in merges if {*pair, "".join(pair)} <= left.keys()]
    rules["added_tokens"] = [{**one, "id": new[one["id"]]} for one in added]
    rules["post_processor"] = _renumbered(rules["post_processor"], new)
    cut = CutVocabulary(_wrapped(rules, tokenizer), torch.tensor(kept))
    _check_same(cut, tokenizer, texts)
    return cut


def check_cuttable(tokenizer: PreTrainedTokenizerBase, who: str) -> None:
    """UserError that begins with ``who`` where tokens cannot be taken out so that every text can still be read."""
    if reason := _why_not(tokenizer):
        raise UserError(f"{who}: vocabulary: corpus: its tokenizer cannot be cut: {reason}; set vocabulary: whole")


def _why_not(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.is_fast:
        return "it is no fast tokenizer (tokenizer.json)"
    rules = rules_of(tokenizer)
    model = rules["model"]
    if model["type"] != "BPE":
        return f"its model is {model['type']}, not BPE"
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            return f"its {key} is {model[key]!r}"
    alphabet = _bytes_of(rules)
    if alphabet is None:
        return "it is neither byte-level nor has it byte_fallback"
    # a byte-level one that lacks some cannot read them whole either; letters that are cut fall back to bytes
    if (missing := set(alphabet) - model["vocab"].keys()) and model.get("byte_fallback"):
        return f"it has no token for {len(missing)} of 256 bytes"
    return ""


def _pair(merge: Any) -> Merge:
    """Older files write a merge as one text with a space."""
    left, right = merge if not isinstance(merge, str) else merge.split(" ", 1)
    return left, right


def _bytes_of(rules: Mapping[str, Any]) -> list[str] | None:
    """The 256 tokens that any text can be written in; None where there are none."""
    if any(part.get("type") == "ByteLevel" for key in ("pre_tokenizer", "normalizer") for part in _all(rules[key])):
        return pre_tokenizers.ByteLevel.alphabet()
    return BYTES if rules["model"].get("byte_fallback") else None


def _all(part: Any) -> Iterator[dict[str, Any]]:
    """A part of a tokenizer, or those of a sequence of them."""
    if part is None:
        return
    yield part
    for key in ("pretokenizers", "normalizers", "processors"):
        for inner in part.get(key, ()):
            yield from _all(inner)


def _parts(names: Iterable[str], ranks: Mapping[Merge, int], whole: Mapping[str, int]) -> set[str]:
    """All tokens that ``names`` are joined from, letters included."""
    found: set[str] = set()
    for name in names:
        symbols = list(name)
        found.update(symbols)
        while len(symbols) > 1:
            rank, at = min((ranks.get(pair, len(ranks)), at) for at, pair in enumerate(pairwise(symbols)))
            if rank == len(ranks):
                break
            symbols[at : at + 2] = ["".join(symbols[at : at + 2])]
            found.add(symbols[at])
    return found & whole.keys()


def _special(tokenizer: PreTrainedTokenizerBase, rules: Mapping[str, Any]) -> set[str]:
    """Tokens that stand for no text: those with a role, and those that are put around texts."""
    named = {getattr(tokenizer, role) for role in ROLES} | {rules["model"].get("unk_token")}
    for part in _all(rules["post_processor"]):
        named |= set(part.get("special_tokens", ()))
        named |= {part[key][0] for key in ("sep", "cls") if key in part}
    return {name for name in named if name is not None}


def _renumbered(part: Any, new: Mapping[int, int]) -> Any:
    """A post-processor with the new ids."""
    if part is None:
        return None
    part = dict(part)
    if "processors" in part:
        part["processors"] = [_renumbered(inner, new) for inner in part["processors"]]
    for key in ("sep", "cls"):
        if key in part:
            part[key] = [part[key][0], new[part[key][1]]]
    if "special_tokens" in part:
        tokens = part["special_tokens"].items()
        part["special_tokens"] = {name: {**one, "ids": [new[index] for index in one["ids"]]} for name, one in tokens}
    return part


def _wrapped(rules: Mapping[str, Any], like: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    roles = {role: str(name) for role in ROLES if (name := getattr(like, role)) is not None}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(rules)),
        model_max_length=like.model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **roles,
    )


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), BATCH):
        yield from tokenizer(list(texts[start : start + BATCH]))["input_ids"]


def _check_same(cut: CutVocabulary, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
    kept = cut.kept.tolist()
    if sorted(cut.tokenizer.get_vocab().values()) != list(range(len(kept))):
        raise RuntimeError("the cut tokenizer's ids are not 0, 1, 2, ...")
    for text, before, now in zip(texts, _ids(tokenizer, texts), _ids(cut.tokenizer, texts), strict=True):
        if before != [kept[index] for index in now]:
            raise RuntimeError(f"the cut tokenizer reads {text!r:.80} otherwise than the whole one")
