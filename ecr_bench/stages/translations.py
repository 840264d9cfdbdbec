"""Stage ``translations``: which languages the teacher knows, and which test rows have a translation in training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecr_bench.section import Section
from ecr_bench.stages.teacher import TeacherSettings, open_teacher
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.teachers.registry import TEACHERS

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from ecr_bench.teachers.base import Teacher

KNOWN = 0.5
"""Share of translations a teacher must find, of a language that it is said to know."""
MOST_PAIRS = 200
"""Translation pairs of a language with the pivot: the more there are, the harder each is to find."""
LEAST_PAIRS = 20
"""Below these a language is not measured."""


MOST_ROWS = 20_000
"""Training rows looked at, if there are as many, where no `meaning` keeps translations apart."""


class Retrieval(Section):
    lang: str
    pairs: int
    accuracy: float
    """Mean of both directions (``metrics.functional.bitext.both_ways_accuracy``)."""


class TranslationsFound(Section):
    """What a teacher says of a corpus."""

    teacher: str
    """Its registered name."""
    fingerprint: str
    pivot: str
    """The language that the others are paired with: English where there is any."""
    retrieval: tuple[Retrieval, ...]
    """Of training and validation rows, by language."""
    not_measured: tuple[str, ...]
    """Languages with too few translation pairs."""
    rows: int
    aligned: int
    """Rows whose meaning a row of another language has as well (``CorpusCard.aligned``)."""
    test_rows: int
    by_meaning: int
    """Test rows whose meaning a training row of another language has."""
    looked_at: int
    """Test rows for which near translations were looked for."""
    training_looked_at: int
    near: int
    """Of these, test rows that have a near translation in training (``metrics.functional.near_translations``)."""
    near_of_another_meaning: int
    """Of these, with another ``meaning`` than the training row."""

    @property
    def unknown(self) -> tuple[Retrieval, ...]:
        """Languages the teacher does not know."""
        return tuple(found for found in self.retrieval if found.accuracy < KNOWN)

    def notes(self) -> list[str]:
        """What a reader of results must know, a sentence or two each."""
        return [*self._splits(), *self._languages()]

    def _splits(self) -> list[str]:
        """What the split cannot keep apart."""
        if not self.looked_at:
            return []
        near, other = self.near / self.looked_at, self.near_of_another_meaning / self.looked_at
        where = f"of {self.looked_at:,} test rows looked at (teacher {self.teacher}, {self.training_looked_at:,} rows)"
        if not self.aligned:
            return [
                "No row has a translation by `meaning`, so the split cannot keep translations apart: at least "
                f"{near:.1%} {where} have a near translation in training."
            ]
        told = self.by_meaning / max(1, self.test_rows)
        said = (
            f"Translations in training: {told:.1%} of {self.test_rows:,} test rows have one by `meaning`, {other:.1%} "
            f"{where} a near one of another meaning."
        )
        if 2 * self.aligned < self.rows:
            alone = 1 - self.aligned / self.rows
            said += f" {alone:.0%} of all rows have none by `meaning`, and the split cannot keep theirs apart."
        return [said]

    def _languages(self) -> list[str]:
        """Where control tokens can say little."""
        found = []
        if self.unknown:
            listed = ", ".join(f"{one.lang} ({one.accuracy:.0%} of {one.pairs})" for one in self.unknown)
            found.append(
                f"Teacher {self.teacher} finds fewer than half of the translations with {self.pivot} in {listed}: it "
                "hardly knows these languages, and control tokens can say little there."
            )
        if self.not_measured:
            names = ", ".join(self.not_measured) if self.retrieval else "the languages"
            found.append(
                f"Whether teacher {self.teacher} knows {names} could not be measured: fewer than {LEAST_PAIRS} "
                f"translations with {self.pivot} by `meaning` among the rows looked at."
            )
        return found


class TranslationsSettings(Section):
    teacher: TeacherSettings
    rows: int
    """Training texts looked at: those the anchors are made from."""
    seed: int
    """Of their draw."""


@dataclass(frozen=True)
class TranslationsInputs:
    corpus: Path
    teacher: Path | None = None
    """The experiment's own model in the place of a teacher."""
    layer: Path | None = None
    """The choice of its layer."""


class TranslationsStage(Work[TranslationsSettings, TranslationsInputs, TranslationsFound]):
    """Embeds the texts the anchors are made from, which are embedded once for both, and writes no file."""

    kind = "translations"
    urgent = True
    Settings, Inputs, Result = TranslationsSettings, TranslationsInputs, TranslationsFound

    @staticmethod
    def run(
        settings: TranslationsSettings, inputs: TranslationsInputs, folder: Path, report: Report
    ) -> TranslationsFound:
        from ecr_bench.corpora.base import Corpus

        frame = Corpus.load(inputs.corpus / "corpus").frame("text", "lang", "meaning", "split")
        teacher = open_teacher(settings.teacher, inputs.teacher, inputs.layer)
        return find_translations(frame, teacher, settings.rows, settings.seed, report)

    @classmethod
    def chosen(cls, settings: TranslationsSettings) -> Iterable[Chosen]:
        return [(TEACHERS, (settings.teacher.name,))]

    @classmethod
    def summary(cls, result: TranslationsFound) -> str:
        return " ".join(result.notes())


def find_translations(frame: pd.DataFrame, teacher: Teacher, rows: int, seed: int, report: Report) -> TranslationsFound:
    """Ask ``teacher`` about a corpus.

    Args:
        frame: its rows (``types.CORPUS_COLUMNS``).
        teacher: see ``teachers.registry.create``.
        rows: training rows to look at; ``MOST_ROWS`` where that is more and no row has a translation by ``meaning``.
        seed: of their draw.
        report: called with (texts embedded, texts).
    """
    import pandas as pd
    import torch

    from ecr_bench.data.parallel import pivot_of
    from ecr_bench.data.sampling import teacher_texts
    from ecr_bench.metrics.functional.near_translations import near_translations
    from ecr_bench.teachers.cache import embed_cached

    languages = frame.groupby("meaning")["lang"].nunique()
    aligned = int((languages[frame["meaning"]] > 1).sum())
    wanted = rows if aligned else max(rows, MOST_ROWS)
    looked_at = pd.concat(teacher_texts(frame, wanted, seed)).reset_index(drop=True)
    texts = looked_at["text"].tolist()
    vectors = torch.from_numpy(embed_cached(teacher, texts, on_progress=lambda done: report(done, len(texts))).copy())
    pivot = pivot_of(looked_at)
    retrieval, few = _retrieval(looked_at, vectors, pivot)

    kept = looked_at[looked_at["split"] != "validation"]
    training = torch.tensor((kept["split"] == "train").tolist())
    partner = near_translations(vectors[kept.index.tolist()], kept["lang"].tolist(), training)
    meaning = kept["meaning"].to_numpy()
    hits = (partner >= 0).nonzero()[:, 0].numpy()
    test = frame[frame["split"] == "test"]
    return TranslationsFound(
        teacher=teacher.name,
        fingerprint=teacher.fingerprint,
        pivot=pivot,
        retrieval=retrieval,
        not_measured=few,
        rows=len(frame),
        aligned=aligned,
        test_rows=len(test),
        by_meaning=_by_meaning(test, frame[frame["split"] == "train"]),
        looked_at=int((~training).sum()),
        training_looked_at=int(training.sum()),
        near=len(hits),
        near_of_another_meaning=int((meaning[hits] != meaning[partner[hits].numpy()]).sum()),
    )


def _retrieval(
    looked_at: pd.DataFrame, vectors: torch.Tensor, pivot: str
) -> tuple[tuple[Retrieval, ...], tuple[str, ...]]:
    """By language, of pairs of training and validation rows; and the languages with too few pairs."""
    from ecr_bench.metrics.functional.bitext import both_ways_accuracy

    known = looked_at[looked_at["split"] != "test"].drop_duplicates(["lang", "meaning"])
    pivots = known[known["lang"] == pivot].reset_index().set_index("meaning")["index"]
    measured, few = [], []
    for lang in sorted(set(looked_at["lang"]) - {pivot}):
        own = known[(known["lang"] == lang) & known["meaning"].isin(pivots.index)].head(MOST_PAIRS)
        if len(own) < LEAST_PAIRS:
            few.append(lang)
            continue
        found = both_ways_accuracy(vectors[own.index.tolist()], vectors[pivots[own["meaning"]].tolist()])
        measured.append(Retrieval(lang=lang, pairs=len(own), accuracy=float(found)))
    return tuple(measured), tuple(few)


def _by_meaning(test: pd.DataFrame, train: pd.DataFrame) -> int:
    """Test rows whose meaning a training row of another language has."""
    languages = train.groupby("meaning")["lang"].agg(set).to_dict()
    rows = zip(test["meaning"], test["lang"], strict=True)
    return sum(bool(languages.get(meaning, set()) - {lang}) for meaning, lang in rows)
