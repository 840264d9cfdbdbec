"""Lines of a file that is not held against the same file read whole."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecr_bench.corpora.files import READERS
from ecr_bench.errors import UserError
from ecr_bench.reading import read_text, text_lines

PIECES = st.lists(st.sampled_from(["a", "ä灯", "\n", "\r", "\r\n", "\ufeff", "\u2028", '"', ",", "\x0b"]), max_size=12)


@given(PIECES, st.booleans())
def test_lines_are_those_of_the_whole_text(tmp_path_factory, pieces, mark) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.csv"
    path.write_bytes("".join(pieces).encode("utf-8-sig" if mark else "utf-8"))
    assert list(text_lines(path)) == list(io.StringIO(read_text(path), newline=""))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a\nb\n\xff\n", r":3: not UTF-8 \(byte 0xff\)"),
        (b"a\nb\0\n", ":2: holds a NUL character"),
        ("a\nb\n".encode("utf-16"), r": not UTF-8 \(it looks like UTF-16\)"),
    ],
)
def test_what_is_wrong_is_said_as_of_the_whole_text(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(raw)
    said = []
    for read in (lambda: list(text_lines(path)), lambda: read_text(path)):
        with pytest.raises(UserError, match=message) as caught:
            read()
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_what_a_reader_of_lines_raises_is_said_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"^mine$"):
        for _ in text_lines(path):
            raise ValueError("mine")


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_files_records_are_not_held(tmp_path: Path, ending: str) -> None:
    path, records = tmp_path / f"a{ending}", [{"text": f"{i} " + "long " * 200, "lang": "en"} for i in range(20_000)]
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path, compression="none", use_dictionary=False)
    else:
        header, line = ("text,lang\n", "{text},{lang}\n") if ending == ".csv" else ("", None)
        text = header + "".join(line.format(**r) if line else json.dumps(r) + "\n" for r in records)
        path.write_text(text, encoding="utf-8")
    del records
    before, arrow = pa.total_allocated_bytes(), 0  # which Python does not trace
    tracemalloc.start()
    try:
        count = 0
        for _ in READERS[ending](path):
            count += 1
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000 and path.stat().st_size > 2e7
    assert peak < 1e7 and arrow < 1e7  # of more than twenty


def test_a_parquet_file_that_memory_does_not_hold_is_not_called_damaged(tmp_path: Path, monkeypatch) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")

    def full(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 1 failed")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", full)
    with pytest.raises(UserError, match="memory does not hold"):
        list(READERS[".parquet"](tmp_path / "a.parquet"))
