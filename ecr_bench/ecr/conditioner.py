"""The conditioner: anchors + projection + control tokens + placement, as one object.

Training, scoring and the on-device bundle all build their prompts here and nowhere else, so a method
cannot be trained on one layout and scored on another. A plain model has a conditioner as well, with no
control tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.ecr.codes import SOURCES, CodeSource
from ecr_bench.ecr.control_tokens import ControlTokens, place
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, read_json, write_json
from ecr_bench.sections import Placement
from ecr_bench.types import Prompt


@dataclass(frozen=True)
class Encoded:
    """One prompt as token ids (BOS first if there is one, control tokens in place) and its control tokens alone."""

    ids: list[int]
    control_tokens: list[int]


@dataclass
class Conditioner:
    """Turn prompts into token ids with control tokens.

    ``source`` None means no control tokens (m = 0). ``drop_cue`` removes the cue from the prompt, so
    that the model sees control tokens and the question but no text (the ``codes-only`` control).
    """

    tokenizer: PreTrainedTokenizerBase
    source: CodeSource | None = None
    tokens: ControlTokens | None = None
    count: int = 0
    placement: Placement = "prefix"
    drop_cue: bool = False

    def __post_init__(self) -> None:
        if self.source is None:
            self.count = 0
        if not self.prefix and self.tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has neither a BOS nor an EOS token to start a prompt with; set one")

    @property
    def prefix(self) -> list[int]:
        """What every prompt starts with: BOS, or nothing where there is none (Qwen reads worse after EOS)."""
        bos = self.tokenizer.bos_token_id
        return [] if bos is None else [bos]

    def control_tokens(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Control token ids of each prompt: a function of ``cue`` (and, for controls, ``lang``) alone."""
        if self.source is None or self.tokens is None or not self.count:
            return [[] for _ in prompts]
        keys = list(dict.fromkeys((p.cue, p.lang) for p in prompts if p.cue and p.cue.strip()))
        known: dict[tuple[str | None, str], list[int]] = {}
        if keys:
            codes = self.source([cue for cue, _ in keys], [lang for _, lang in keys])
            known = dict(zip(keys, self.tokens.ids(codes).tolist(), strict=True))
        null = [self.tokens.null_id] * self.count
        return [known.get((p.cue, p.lang), null) for p in prompts]

    def encode(self, prompts: Sequence[Prompt], max_tokens: int | None = None) -> list[Encoded]:
        """Token ids of each prompt, at most ``max_tokens`` long.

        Truncation drops text from the left, after BOS; control tokens always survive it. UserError
        when the window cannot hold BOS, the control tokens and one token of text.
        """
        if max_tokens is not None and max_tokens < self.count + 2:
            raise UserError(
                f"a window of {max_tokens} tokens has no room for {self.count} control tokens and text; "
                "lower control_tokens.count or raise the model's max_length"
            )
        if not prompts:
            return []  # of which a tokenizer makes an error
        texts = [self._visible(prompt) for prompt in prompts]
        batch = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        control = self.control_tokens(prompts)
        prefix = self.prefix
        result = []
        for text, ids, offsets, tokens in zip(texts, batch["input_ids"], batch["offset_mapping"], control, strict=True):
            room = None if max_tokens is None else max_tokens - len(prefix) - self.count
            cut = 0 if room is None else max(0, len(ids) - room)
            question = max(_question_start(text, offsets) - cut, 0)
            start = len(prefix)
            placed = place([*prefix, *ids[cut:]], tokens, self.placement, start + question, start)
            # without a prefix an empty text is empty: lm-eval starts with EOS then, and so do we
            result.append(Encoded(placed or [self.tokenizer.eos_token_id], tokens))
        return result

    def _visible(self, prompt: Prompt) -> str:
        return prompt.text.replace(prompt.cue, "", 1) if self.drop_cue and prompt.cue else prompt.text

    def attach(self, model: PreTrainedModel) -> None:
        """Prepare ``model`` for ids that stand for vectors; nothing to do unless the source has such (``ecr.soft``)."""
        attach = getattr(self.source, "attach", None)
        if attach is not None and self.tokens is not None:
            attach(model, self.tokens.first_id)

    def save(self, folder: Path) -> None:
        """Write ``conditioner.json`` and the tensors of the code source, atomically."""
        with atomic_dir(folder) as temporary:
            source = None
            if self.source is not None:
                source = {"kind": self.source.kind, **self.source.save(temporary)}
            tokens = self.tokens and {
                "first_id": self.tokens.first_id,
                "k": self.tokens.k,
                "levels": self.tokens.levels,
            }
            meta = {"count": self.count, "placement": self.placement, "drop_cue": self.drop_cue}
            write_json(temporary / "conditioner.json", {**meta, "tokens": tokens, "source": source})

    @classmethod
    def load(cls, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Conditioner:
        """Read what ``save`` wrote. No teacher is loaded, except by the oracle control."""
        meta = read_json(folder / "conditioner.json")
        source = meta["source"]
        if source is not None:
            kind = SOURCES.get(source.pop("kind"))
            source = kind.load(folder, source, tokenizer)
        tokens = meta["tokens"] and ControlTokens(**meta["tokens"])
        return cls(tokenizer, source, tokens, meta["count"], meta["placement"], meta["drop_cue"])


def _question_start(text: str, offsets: Sequence[tuple[int, int]]) -> int:
    """Index of the first token of the last line (the question); the middle token for one-line prompts."""
    newline = text.rfind("\n")
    if newline < 0:
        return (len(offsets) + 1) // 2
    return next((i for i, (_, end) in enumerate(offsets) if end > newline), len(offsets))
