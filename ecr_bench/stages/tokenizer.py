"""Stage ``tokenizer``: the byte-level BPE that sizes from scratch share, or the one a pretrained model brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import FieldSerializationInfo, field_serializer

from ecr_bench.outside import as_identity, model_counts
from ecr_bench.section import Section
from ecr_bench.sections import TokenizerConfig
from ecr_bench.stages.work import Report, Work


class OwnTokenizer(Section):
    """That of a pretrained model."""

    model: str
    revision: str = ""
    max_length: int

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
    """For a tokenizer that is trained here."""


class TokenizerMade(Section):
    vocab_size: int


class TokenizerStage(Work[TokenizerSettings, TokenizerInputs, TokenizerMade]):
    """Train the BPE on the training split, or make a pretrained model's own uniform; into ``tokenizer/``."""

    kind = "tokenizer"
    Settings, Inputs, Result = TokenizerSettings, TokenizerInputs, TokenizerMade

    @staticmethod
    def run(settings: TokenizerSettings, inputs: TokenizerInputs, folder: Path, report: Report) -> TokenizerMade:
        from ecr_bench.corpora.base import Corpus
        from ecr_bench.data.tokenizer import own_tokenizer, save_own_tokenizer, train_tokenizer
        from ecr_bench.methods.packaged import local_source

        if settings.own is not None:
            own = own_tokenizer(local_source(settings.own.model), settings.own.max_length, settings.own.revision)
            return TokenizerMade(vocab_size=len(save_own_tokenizer(own, folder / "tokenizer")))
        assert settings.trained is not None and inputs.corpus is not None
        rows = Corpus.load(inputs.corpus / "corpus").dataset.to_pandas()
        tokenizer = train_tokenizer(rows[rows.split == "train"].text, settings.trained)
        tokenizer.save_pretrained(folder / "tokenizer")
        return TokenizerMade(vocab_size=len(tokenizer))
