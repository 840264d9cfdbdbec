"""What a corpus is, and the steps every corpus shares: split by unit, drop duplicates, cap, card, save."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ecr_bench.corpora import parts
from ecr_bench.corpora.decide import Decided, assign, cap, without_duplicates
from ecr_bench.corpora.rows import SPLITS, RawRow, normalise
from ecr_bench.corpora.spool import Spool
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, disk_errors, read_json
from ecr_bench.scratch import scratch
from ecr_bench.sections import CorpusConfig
from ecr_bench.types import CORPUS_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

ROWS = "rows.arrow"
"""File of the rows, uncompressed, so that it can be mapped into memory."""


@dataclass(frozen=True)
class CorpusCard:
    """What a corpus holds and where it comes from; plain types only."""

    name: str
    source: str
    """Package and version, or the file."""
    licence: str
    rows: int
    languages: dict[str, dict[str, int]]
    """Rows per language and split."""
    labels: int
    meanings: int
    aligned: int
    """Rows whose meaning a row of another language has as well: what the split can keep together."""
    duplicates_dropped: int
    """Rows whose normalised text the same language and split already had."""
    cross_split_duplicates_dropped: int
    """Rows whose normalised text another split already had, in whichever language."""
    fingerprint: str
    """Hash of all rows in order."""


@dataclass(frozen=True)
class Corpus:
    """Rows with the columns ``types.CORPUS_COLUMNS`` (all strings) and their card.

    What was loaded lies on disk, mapped into memory: ask for the columns and rows that are needed, not for all.
    """

    dataset: Dataset
    card: CorpusCard

    @property
    def table(self) -> pa.Table:
        """All of it, not copied."""
        return self.dataset.with_format("arrow")[:]

    def frame(self, *columns: str, splits: Sequence[str] = SPLITS) -> pd.DataFrame:
        """Some columns of the rows of ``splits``, in the order of the corpus; the index is that of the corpus."""
        table = self.table.select(list(columns))
        if tuple(splits) == SPLITS:
            return table.to_pandas()
        wanted = pc.is_in(self.table["split"], pa.array(splits, pa.string()))
        frame = table.filter(wanted).to_pandas()
        return frame.set_index(pc.indices_nonzero(wanted).to_numpy().astype("int64"))

    def at(self, rows: Sequence[int] | np.ndarray, *columns: str) -> pd.DataFrame:
        """Some columns of some rows, by their place in the corpus and in the order asked for."""
        found, back = parts.gather(self.table.select(list(columns)), np.asarray(rows, dtype=np.int64))
        return found.to_pandas().take(back).reset_index(drop=True)

    def save(self, folder: Path) -> None:
        """Write ``rows.arrow`` and ``card.json`` into ``folder``, atomically, replacing what was there."""
        with atomic_dir(folder) as temporary:
            table = self.table
            with pa.ipc.new_stream(str(temporary / ROWS), table.schema) as stream:
                stream.write_table(table, max_chunksize=parts.ROWS)
            text = json.dumps(asdict(self.card), ensure_ascii=False, indent=2)
            (temporary / "card.json").write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def of(table: pa.Table, card: CorpusCard) -> Corpus:
        """Of the rows of ``table``, not copied."""
        from datasets import Dataset

        # without a fingerprint, datasets would make one of its own by copying all rows
        return Corpus(Dataset(table, fingerprint=card.fingerprint), card)

    @staticmethod
    def load(folder: Path) -> Corpus:
        """Read what ``save`` wrote; UserError when a file is missing or is not a corpus."""
        raw = read_json(folder / "card.json")
        keys = {field.name for field in fields(CorpusCard)}
        if not isinstance(raw, dict) or set(raw) != keys:
            raise UserError(f"{folder / 'card.json'}: not a corpus card; allowed keys are {', '.join(sorted(keys))}")
        path = folder / ROWS
        try:
            table = _mapped(path)
            table.validate(full=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{path}: not a readable Arrow file; build the corpus again") from error
        if tuple(table.column_names) != CORPUS_COLUMNS or table.num_rows != raw["rows"]:
            raise UserError(f"{path}: does not match its card.json; build the corpus again")
        if not isinstance(raw["fingerprint"], str):
            raise UserError(f"{folder / 'card.json'}: fingerprint must be text; build the corpus again")
        return Corpus.of(table, CorpusCard(**raw))


class Deduplicator:
    """Decides row by row whether a text is new.

    A text belongs to the first split that shows it, whatever the language; inside a split each
    language may have it once.
    """

    def __init__(self) -> None:
        self._split: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()
        self.within = 0
        self.across = 0

    def add(self, text: str, lang: str, split: str) -> bool:
        """True if the row is to be kept; else counts it."""
        key = normalise(text)
        if self._split.setdefault(key, split) != split:
            self.across += 1
            return False
        if (lang, key) in self._seen:
            self.within += 1
            return False
        self._seen.add((lang, key))
        return True


def finish(rows: list[RawRow], dropped: Deduplicator, *, config: CorpusConfig, source: str, licence: str) -> Corpus:
    """Make the corpus of rows that have their splits and are in their order."""
    with scratch() as folder:
        spool = Spool(rows, folder, config.seed)
        splits = np.array([SPLITS.index(row.split) for row in rows], dtype=np.int64)
        kept = Decided(np.arange(spool.count), dropped.within, dropped.across)
        return _made(spool, kept, splits, folder, config=config, source=source, licence=licence)


def from_rows(
    rows: Iterable[RawRow], *, config: CorpusConfig, source: str, licence: str, already_dropped: int = 0
) -> Corpus:
    """The usual path of a plugin: split by unit, drop duplicates, cap at ``config.rows``, make the corpus.

    ``rows`` are read once and lie on disk from then on; some hundred bytes of each are held to decide by.
    ``already_dropped`` adds the repeats the plugin itself left out to the card's count.
    """
    with scratch() as folder:
        spool = Spool(rows, folder, config.seed)
        splits = assign(spool)
        found = without_duplicates(spool, splits)
        kept = Decided(cap(spool, found.rows, config.rows), found.within + already_dropped, found.across)
        return _made(spool, kept, splits, folder, config=config, source=source, licence=licence)


def _made(
    spool: Spool, kept: Decided, splits: np.ndarray, folder: Path, *, config: CorpusConfig, source: str, licence: str
) -> Corpus:
    """Number the rows, write them to ``folder``, and map them into memory, where they stay without the folder."""
    digest, path, names = hashlib.sha256(), folder / ROWS, np.array(SPLITS, dtype=object)
    schema = pa.schema([(name, pa.string()) for name in CORPUS_COLUMNS])
    with disk_errors(folder), pa.ipc.new_stream(str(path), schema) as stream:
        for part in parts.cut(spool.lengths[kept.rows]):
            which = kept.rows[part]
            data = spool.rows(which).to_pydict() | {"split": names[splits[which]].tolist()}
            data["id"] = [f"{config.name}-{index:07d}" for index in range(part.start, part.stop)]
            stream.write_table(pa.table({name: pa.array(data[name], pa.string()) for name in CORPUS_COLUMNS}))
            for row in zip(*(data[name] for name in RawRow._fields), strict=True):
                digest.update("\x1f".join(row).encode() + b"\x1e")
    meanings, langs = spool.meanings.array[kept.rows], spool.lang.array[kept.rows]
    card = CorpusCard(
        name=config.name,
        source=source,
        licence=licence,
        rows=len(kept.rows),
        languages=_counts(spool.lang.values, langs, splits[kept.rows]),
        labels=len(np.unique(spool.labels.array[kept.rows])),
        meanings=len(np.unique(meanings)),
        aligned=_aligned(meanings, langs),
        duplicates_dropped=kept.within,
        cross_split_duplicates_dropped=kept.across,
        fingerprint=digest.hexdigest()[:16],
    )
    return Corpus.of(_mapped(path), card)


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def _counts(names: list[str], langs: np.ndarray, splits: np.ndarray) -> dict[str, dict[str, int]]:
    """Language -> split -> rows."""
    counts = np.zeros((len(names), len(SPLITS)), dtype=np.int64)
    np.add.at(counts, (langs, splits), 1)
    found = {name: dict(zip(SPLITS, map(int, row), strict=True)) for name, row in zip(names, counts, strict=True)}
    return {name: found[name] for name in sorted(found) if any(found[name].values())}


def _aligned(meanings: np.ndarray, langs: np.ndarray) -> int:
    """Rows whose meaning a row of another language has as well."""
    pairs = np.unique(np.stack([meanings, langs.astype(np.int64)]), axis=1)
    several, counts = np.unique(pairs[0], return_counts=True)
    return int(np.isin(meanings, several[counts > 1]).sum())


def chosen_languages(config: CorpusConfig, allowed: Iterable[str]) -> tuple[str, ...]:
    """``config.languages`` or all; UserError for one the corpus does not have."""
    allowed = tuple(allowed)
    for lang in config.languages:
        if lang not in allowed:
            raise UserError(
                f"corpus.languages: {config.name!r} has no language {lang!r}: allowed are {', '.join(sorted(allowed))}"
            )
    return tuple(dict.fromkeys(config.languages)) or allowed
