"""Rows that are decided by numbers on disk against the same rows in lists; and what is held of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora import decide, spool
from ecr_bench.corpora.base import from_rows
from ecr_bench.corpora.rows import RawRow
from ecr_bench.errors import UserError
from ecr_bench.scratch import PREFIX
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


@pytest.fixture(params=[3, 65_536])
def chunk(request, monkeypatch) -> int:
    """Rows of a part, so few that there are many parts."""
    for module in (spool, decide):
        monkeypatch.setattr(module, "CHUNK", request.param)
    monkeypatch.setattr("ecr_bench.corpora.base.CHUNK", request.param)
    return request.param


@given(ROWS, st.dictionaries(st.integers(0, 13), st.sampled_from(["train", "validation", "test"])), st.integers(1, 70))
@settings(max_examples=150, deadline=None)
def test_decisions_are_those_of_lists(rows, told, total) -> None:
    check(rows, told, total, seed=len(rows) % 3)


@pytest.mark.parametrize("count", [0, 1, 40, 200])
def test_however_many_parts(chunk, count) -> None:
    langs = ("en", "de", "zh")
    rows = [
        RawRow(f"text {i % 70} {'!' * (i % 3)}", langs[i % 3], f"m{i // 3 % 20}", f"l{i % 4}", f"u{i // 2}")
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
