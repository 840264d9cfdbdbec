"""Stage ``corpus``: rows with splits, and their card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SerializationInfo, field_serializer

from ecr_bench.corpora.registry import CORPORA, build, options_identity
from ecr_bench.outside import as_identity
from ecr_bench.section import Section
from ecr_bench.sections import CorpusConfig
from ecr_bench.stages.work import Chosen, Report, Work


class CorpusSettings(CorpusConfig):
    """The corpus an experiment names."""

    @field_serializer("options")
    def _by_content(self, options: dict[str, Any], info: SerializationInfo) -> dict[str, Any]:
        return options_identity(self) if as_identity(info) else options


@dataclass(frozen=True)
class CorpusInputs:
    """It reads no other stage."""


class CorpusBuilt(Section):
    rows: int
    fingerprint: str


class CorpusStage(Work[CorpusSettings, CorpusInputs, CorpusBuilt]):
    """Build the corpus into ``corpus/``."""

    kind = "corpus"
    Settings, Inputs, Result = CorpusSettings, CorpusInputs, CorpusBuilt

    @staticmethod
    def run(settings: CorpusSettings, inputs: CorpusInputs, folder: Path, report: Report) -> CorpusBuilt:
        corpus = build(settings)
        corpus.save(folder / "corpus")
        return CorpusBuilt(rows=corpus.card.rows, fingerprint=corpus.card.fingerprint)

    @classmethod
    def chosen(cls, settings: CorpusSettings) -> Iterable[Chosen]:
        return [(CORPORA, (settings.name,))]
