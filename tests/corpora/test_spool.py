"""Rows that are decided by numbers on disk against the same rows in lists; and what is held of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora import parts, spool
from ecr_bench.corpora.base import Corpus, from_rows
from ecr_bench.corpora.rows import RawRow
from ecr_bench.errors import UserError
from ecr_bench.scratch import PREFIX
from ecr_bench.types import CORPUS_COLUMNS
from tests.helpers.plain_corpus import plain

NAMES = st.sampled_from(["a", "b", "c", "ä", "灯", "a\nb", ""])
ROWS = st.lists(
    st.builds(
        RawRow,
        text=st.sampled_from(
            ["Turn on", "turn on!", "TURN OFF", "turn  off", "灯", "灯。", "x", "y", "", "z\n1", "Straße"]
        ),
        lang=st.sampled_from(["en", "de", "zh"]),
        meaning=NAMES,
        label=NAMES,
        unit=st.sampled_from([f"u{i}" for i in range(14)]),
        slots=st.just("{}"),
        split=st.just(""),
    ),
    max_size=60,
)
FORMS = ("lang", "meaning", "label", "unit", "slots", "split")


@pytest.fixture(params=[(3, 10**9), (10**9, 40), (65_536, 10**9)])
def small_parts(request, monkeypatch) -> None:
    """Rows or characters of a part, so few that there are many parts."""
    rows, characters = request.param
    monkeypatch.setattr(parts, "ROWS", rows)
    monkeypatch.setattr(parts, "CHARACTERS", characters)


@given(ROWS, st.dictionaries(st.integers(0, 13), st.sampled_from(["train", "validation", "test"])), st.integers(1, 70))
@settings(max_examples=150)
def test_decisions_are_those_of_lists(rows, told, total) -> None:
    check(rows, told, total, seed=len(rows) % 3)


@pytest.mark.parametrize("count", [0, 1, 40, 200])
def test_however_many_parts(small_parts, count) -> None:
    langs = ("en", "de", "zh")
    rows = [
        RawRow(
            f"text {'long ' * (i % 7)}{i % 70} {'!' * (i % 3)}",
            langs[i % 3],
            f"m{i // 3 % 20}",
            f"l{i % 4}",
            f"u{i // 2}",
        )
        for i in range(count)
    ]
    check(rows, {3: "test", 7: "train"}, 50, seed=1)


def check(rows: list[RawRow], told: dict[int, str], total: int, seed: int) -> None:
    """``told``: splits that rows of a unit name, every second row of it."""
    rows = [
        row._replace(split=told[int(row.unit[1:])]) if int(row.unit[1:]) in told and at % 2 else row
        for at, row in enumerate(rows)
    ]
    wanted, counts = plain(rows, "files", total, seed)
    config = CorpusConfig(name="files", rows=total, seed=seed)
    made = from_rows(iter(rows), config=config, source="s", licence="l", already_dropped=2)
    frame = made.frame("id", *RawRow._fields)
    assert [tuple(row) for row in frame.itertuples(index=False)] == wanted
    card = asdict(made.card)
    counts["duplicates_dropped"] += 2
    assert {name: card[name] for name in counts} == counts and list(card["languages"]) == list(counts["languages"])


def test_a_unit_in_two_splits_is_named_as_before() -> None:
    rows = [RawRow("a", "en", "m", "l", "u", split="train"), RawRow("b", "en", "m", "l", "u", split="test")]
    with pytest.raises(UserError, match="unit 'u' has rows in train and test: all rows of a unit must be in one split"):
        from_rows(rows, config=CorpusConfig(name="files"), source="s", licence="l")


def test_what_a_reader_raises_is_said_as_it_is_and_nothing_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def broken() -> Iterator[RawRow]:
        yield RawRow("a", "en", "m", "l", "u")
        raise OSError("the input broke")

    with pytest.raises(OSError, match="the input broke"):
        from_rows(broken(), config=CorpusConfig(name="files"), source="s", licence="l")
    made = from_rows([RawRow("a", "en", "m", "l", "u")], config=CorpusConfig(name="files"), source="s", licence="l")
    assert not list(tmp_path.glob(f"{PREFIX}*"))
    made.save(tmp_path / "corpus")  # its rows are mapped, though their folder is gone
    assert made.table.num_rows == 1 and (Path(tmp_path) / "corpus" / "rows.arrow").is_file()


def test_a_part_has_at_most_so_many_characters_and_one_row_at_least(monkeypatch) -> None:
    monkeypatch.setattr(parts, "CHARACTERS", 10)
    monkeypatch.setattr(parts, "ROWS", 3)
    lengths = np.array([4, 6, 1, 30, 0, 0, 0, 0, 10, 11, 2])
    made = [lengths[part] for part in parts.cut(lengths)]
    assert np.concatenate(made).tolist() == lengths.tolist()
    assert [part.tolist() for part in made] == [[4, 6], [1], [30], [0, 0, 0], [0, 10], [11], [2]]
    assert not list(parts.cut(lengths[:0]))


def test_a_text_that_no_cell_holds_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(spool, "LONGEST", 20)
    with pytest.raises(UserError, match=r"a text of 21 characters .* 20 are allowed"):
        from_rows([RawRow("x" * 21, "en", "m", "l", "u")], config=CorpusConfig(name="files"), source="s", licence="l")


@pytest.mark.parametrize("which", [[], [5], [9, 0, 9, 4, 3], list(range(11))])
def test_rows_are_gathered_from_parts_as_from_one(which) -> None:
    column = [str(i) for i in range(11)]
    table = pa.table({"text": pa.chunked_array([column[:4], [], column[4:5], column[5:]])})
    found, back = parts.gather(table, np.array(which, dtype=np.int64))
    assert found.num_rows == len(which)
    assert [found.column("text").to_pylist()[at] for at in back] == [column[at] for at in which]


def test_rows_of_more_text_than_a_column_of_arrow_holds() -> None:
    part = pa.array(["x" * 2**15] * 2**12)
    text = pa.chunked_array([part] * 17)  # 2.1 GiB to look at, one part in memory
    columns = {name: pa.chunked_array([pa.array(["a"] * len(text))]) for name in CORPUS_COLUMNS} | {"text": text}
    made = from_rows([RawRow("a", "en", "m", "l", "u")], config=CorpusConfig(name="files"), source="s", licence="l")
    large = Corpus(Dataset(pa.table(columns), fingerprint="x"), made.card)
    assert [len(one) for one in large.at([len(text) - 1, 0], "text").text] == [2**15] * 2
