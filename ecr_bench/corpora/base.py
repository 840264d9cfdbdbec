"""What a corpus is, and the steps every corpus shares: split by unit, drop duplicates, cap, card, save."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import pyarrow as pa
import pyarrow.compute as pc

from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, read_json
from ecr_bench.sections import CorpusConfig
from ecr_bench.types import CORPUS_COLUMNS, Split

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from datasets import Dataset

ROWS, CHUNK = "rows.arrow", 65_536
"""File of the rows, uncompressed, so that it can be mapped into memory; rows of one record batch."""
SPLITS: tuple[str, ...] = get_args(Split)
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.05
LEAST_TEST, LEAST_VALIDATION = 3, 10
"""Units of a stratum from which on one is drawn for the test, and one for validation."""
_PRIORITY = {"test": 0, "validation": 1, "train": 2}


class RawRow(NamedTuple):
    """One sentence as a plugin yields it; ``split`` empty means 'draw it from the unit'."""

    text: str
    lang: str
    meaning: str
    label: str
    unit: str
    slots: str = "{}"
    split: str = ""


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
        wanted = pa.array(rows, pa.int64())
        table = self.table.select(list(columns))
        if len(wanted):  # taking from many chunks puts them together first: from no more than it must
            ends = pc.min_max(wanted)
            low, high = ends["min"].as_py(), ends["max"].as_py()
            table, wanted = table.slice(low, high - low + 1), pc.subtract(wanted, low)
        return table.take(wanted).to_pandas()

    def save(self, folder: Path) -> None:
        """Write ``rows.arrow`` and ``card.json`` into ``folder``, atomically, replacing what was there."""
        with atomic_dir(folder) as temporary:
            table = self.table
            with pa.ipc.new_stream(str(temporary / ROWS), table.schema) as stream:
                stream.write_table(table, max_chunksize=CHUNK)
            text = json.dumps(asdict(self.card), ensure_ascii=False, indent=2)
            (temporary / "card.json").write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Corpus:
        """Read what ``save`` wrote; UserError when a file is missing or is not a corpus."""
        raw = read_json(folder / "card.json")
        keys = {field.name for field in fields(CorpusCard)}
        if not isinstance(raw, dict) or set(raw) != keys:
            raise UserError(f"{folder / 'card.json'}: not a corpus card; allowed keys are {', '.join(sorted(keys))}")
        path = folder / ROWS
        try:
            table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
            table.validate(full=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{path}: not a readable Arrow file; build the corpus again") from error
        if tuple(table.column_names) != CORPUS_COLUMNS or table.num_rows != raw["rows"]:
            raise UserError(f"{path}: does not match its card.json; build the corpus again")
        from datasets import Dataset

        return Corpus(Dataset(table), CorpusCard(**raw))


class _ToSpace(dict[int, int]):
    """Translation table, filled on demand, that maps every punctuation, separator and control character to a space."""

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        self[code] = 32 if category[0] in "PZ" or category == "Cc" else code
        return self[code]


_TO_SPACE = _ToSpace()


def normalise(text: str) -> str:
    """The form duplicates are compared in: NFKC, case-folded, punctuation and white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_TO_SPACE).split())


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


def draw_splits(strata: Mapping[str, str], seed: int, kinds: Mapping[str, str] | None = None) -> dict[str, str]:
    """Draw a split for each unit: 80/5/15 train/validation/test inside each stratum.

    ``strata`` maps unit -> stratum. A stratum of at least ``LEAST_TEST`` units has a test unit, one of at least
    ``LEAST_VALIDATION`` a validation unit; smaller ones are all training. ``kinds`` (unit -> kind) spreads the test
    units over the kinds of a stratum, in an order of kinds that is the same for all strata, a kind's only unit last.
    The draw depends on the names and the seed, not on the order of the units.
    """
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for unit, stratum in strata.items():
        groups[stratum][kinds[unit] if kinds else ""].append(unit)
    result: dict[str, str] = {}
    for by_kind in groups.values():
        ranked: list[tuple[int, bytes, str]] = []
        for kind, units in by_kind.items():
            units.sort(key=lambda unit: _digest(f"{seed}/unit/{unit}"))
            last = len(strata) if len(units) == 1 and kinds else 0
            ranked += [(index + last, _digest(f"{seed}/kind/{kind}"), unit) for index, unit in enumerate(units)]
        test = max(1, round(TEST_SHARE * len(ranked))) if len(ranked) >= LEAST_TEST else 0
        validation = max(1, round(VALIDATION_SHARE * len(ranked))) if len(ranked) >= LEAST_VALIDATION else 0
        for index, (_, _, unit) in enumerate(sorted(ranked)):
            result[unit] = "test" if index < test else "validation" if index < test + validation else "train"
    return result


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def water_fill(capacity: Mapping[str, int], total: int) -> dict[str, int]:
    """Share ``total`` evenly; who has less gives all it has and the others share the rest."""
    quota: dict[str, int] = {}
    left = total
    ordered = sorted(capacity, key=lambda key: (capacity[key], key))
    for index, key in enumerate(ordered):
        quota[key] = min(capacity[key], math.ceil(left / (len(ordered) - index)))
        left -= quota[key]
    return quota


def cap_rows(rows: Iterable[RawRow], total: int, seed: int) -> list[RawRow]:
    """At most ``total`` rows, languages evenly; they keep the same meanings, so that rows stay aligned."""
    by_lang: dict[str, list[RawRow]] = defaultdict(list)
    for row in rows:
        by_lang[row.lang].append(row)
    quota = water_fill({lang: len(group) for lang, group in by_lang.items()}, total)

    def rank(row: RawRow) -> tuple[bytes, str]:
        return _digest(f"{seed}/meaning/{row.meaning}"), row.text

    kept: list[RawRow] = []
    for lang, group in by_lang.items():
        kept += group if quota[lang] == len(group) else sorted(group, key=rank)[: quota[lang]]
    return kept


def deduplicate(rows: list[RawRow]) -> tuple[list[RawRow], Deduplicator]:
    """Drop normalised duplicates of rows that have their split; a text shared by splits stays in test."""
    filter_ = Deduplicator()
    ordered = sorted(rows, key=lambda row: _PRIORITY[row.split])
    return [row for row in ordered if filter_.add(row.text, row.lang, row.split)], filter_


def assign_splits(rows: Iterable[RawRow], seed: int) -> list[RawRow]:
    """Give rows without a split that of their unit, or one drawn for it; units of one language are drawn together.

    UserError when rows of one unit name different splits: the unit would be in training and in test.
    """
    rows = list(rows)
    given: dict[str, str] = {}
    for row in rows:
        if row.split and given.setdefault(row.unit, row.split) != row.split:
            both = f"{given[row.unit]} and {row.split}"
            raise UserError(f"unit {row.unit!r} has rows in {both}: all rows of a unit must be in one split")
    rows = [row if row.split else row._replace(split=given.get(row.unit, "")) for row in rows]
    strata: dict[str, str] = {}
    for row in rows:
        if not row.split and strata.setdefault(row.unit, row.lang) != row.lang:
            strata[row.unit] = ""
    drawn = draw_splits(strata, seed)
    return [row if row.split else row._replace(split=drawn[row.unit]) for row in rows]


def finish(rows: list[RawRow], dropped: Deduplicator, *, config: CorpusConfig, source: str, licence: str) -> Corpus:
    """Number the rows and make the dataset and its card."""
    languages: dict[str, dict[str, int]] = {}
    for row in rows:
        languages.setdefault(row.lang, dict.fromkeys(SPLITS, 0))[row.split] += 1
    data: dict[str, list[str]] = {
        "id": [f"{config.name}-{index:07d}" for index in range(len(rows))],
        **{name: [getattr(row, name) for row in rows] for name in CORPUS_COLUMNS if name != "id"},
    }
    table = pa.table({name: pa.array(data[name], pa.string()) for name in CORPUS_COLUMNS})
    digest = hashlib.sha256()
    for row in rows:
        digest.update("\x1f".join(row).encode() + b"\x1e")
    card = CorpusCard(
        name=config.name,
        source=source,
        licence=licence,
        rows=len(rows),
        languages=dict(sorted(languages.items())),
        labels=len(set(data["label"])),
        meanings=len(set(data["meaning"])),
        aligned=_aligned(rows),
        duplicates_dropped=dropped.within,
        cross_split_duplicates_dropped=dropped.across,
        fingerprint=digest.hexdigest()[:16],
    )
    from datasets import Dataset

    return Corpus(Dataset(table), card)


def _aligned(rows: list[RawRow]) -> int:
    languages: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        languages[row.meaning].add(row.lang)
    return sum(len(languages[row.meaning]) > 1 for row in rows)


def from_rows(
    rows: Iterable[RawRow], *, config: CorpusConfig, source: str, licence: str, already_dropped: int = 0
) -> Corpus:
    """The usual path of a plugin: split by unit, drop duplicates, cap at ``config.rows``, make the corpus.

    ``already_dropped`` adds the repeats the plugin itself left out to the card's count.
    """
    kept, dropped = deduplicate(assign_splits(rows, config.seed))
    dropped.within += already_dropped
    return finish(cap_rows(kept, config.rows, config.seed), dropped, config=config, source=source, licence=licence)


def chosen_languages(config: CorpusConfig, allowed: Iterable[str]) -> tuple[str, ...]:
    """``config.languages`` or all; UserError for one the corpus does not have."""
    allowed = tuple(allowed)
    for lang in config.languages:
        if lang not in allowed:
            raise UserError(
                f"corpus.languages: {config.name!r} has no language {lang!r}: allowed are {', '.join(sorted(allowed))}"
            )
    return tuple(dict.fromkeys(config.languages)) or allowed
