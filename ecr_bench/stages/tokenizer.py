"""Stage ``tokenizer``: the byte-level BPE that sizes from scratch share, or the one a pretrained model brings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import FieldSerializationInfo, field_serializer

from ecr_bench.items.registry import TASKS
from ecr_bench.outside import as_identity, model_counts
from ecr_bench.section import Section
from ecr_bench.sections import TokenizerConfig
from ecr_bench.stages.work import Chosen, Report, Work

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class OwnTokenizer(Section):
    """That of a pretrained model."""

    model: str
    revision: str = ""
    max_length: int
    vocabulary: Literal["whole", "corpus"] = "whole"
    """``corpus``: cut to what the training text and the training and validation items need."""

    @field_serializer("model", "revision")
    def _by_content(self, value: str, info: FieldSerializationInfo) -> str:
        if not as_identity(info):
            return value
        return model_counts(self.model, self.revision) if info.field_name == "model" else ""


class TokenizerSettings(Section):
    trained: TokenizerConfig | None = None
    own: OwnTokenizer | None = None


@dataclass(frozen=True)
class TokenizerInputs:
    corpus: Path | None = None
    """For a tokenizer that is trained or cut here."""
    items: Path | None = None
    """For one that is cut."""


class TokenizerMade(Section):
    vocab_size: int


class TokenizerStage(Work[TokenizerSettings, TokenizerInputs, TokenizerMade]):
    """Train the BPE on the training split, or make a pretrained model's own uniform and cut it; into ``tokenizer/``.

    Of one that is cut, ``vocabulary.safetensors`` says which ids were kept (``data.vocabulary``).
    """

    kind = "tokenizer"
    Settings, Inputs, Result = TokenizerSettings, TokenizerInputs, TokenizerMade

    @staticmethod
    def run(settings: TokenizerSettings, inputs: TokenizerInputs, folder: Path, report: Report) -> TokenizerMade:
        from ecr_bench.corpora.base import Corpus
        from ecr_bench.data.texts import WholeTexts
        from ecr_bench.data.tokenizer import own_tokenizer, save_own_tokenizer, train_tokenizer
        from ecr_bench.methods.packaged import local_source

        if settings.own is not None:
            own = own_tokenizer(local_source(settings.own.model), settings.own.max_length, settings.own.revision)
            if settings.own.vocabulary == "corpus":
                own = _cut(own, settings.own.model, inputs, folder)
            return TokenizerMade(vocab_size=len(save_own_tokenizer(own, folder / "tokenizer")))
        assert settings.trained is not None and inputs.corpus is not None
        texts = WholeTexts.of(Corpus.load(inputs.corpus / "corpus"))
        tokenizer = train_tokenizer((row.text for row in texts), settings.trained)
        tokenizer.save_pretrained(folder / "tokenizer")
        return TokenizerMade(vocab_size=len(tokenizer))

    @classmethod
    def chosen(cls, settings: TokenizerSettings) -> Iterable[Chosen]:
        return [(TASKS, ())]  # within reach of the code that reads items; none is asked


def _cut(
    tokenizer: PreTrainedTokenizerBase, model: str, inputs: TokenizerInputs, folder: Path
) -> PreTrainedTokenizerBase:
    """``tokenizer`` with what a model is trained on here. No test text: what it needs beyond that costs more tokens."""
    from ecr_bench.corpora.base import Corpus
    from ecr_bench.data.vocabulary import cut_vocabulary
    from ecr_bench.items.files import read_items

    assert inputs.corpus is not None and inputs.items is not None
    texts = Corpus.load(inputs.corpus / "corpus").frame("text", splits=["train"]).text.tolist()
    for split in ("train", "validation"):
        items = read_items(inputs.items / split)
        texts += [f"{item.prompt} {choice}" for item in items for choice in item.choices]
    cut = cut_vocabulary(tokenizer, texts, f"model {model!r}")
    cut.save(folder)
    return cut.tokenizer
