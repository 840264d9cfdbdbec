"""Any bytes as a corpus file: refused in one line that names the file, or a corpus whose every row is sound."""

from __future__ import annotations

import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.registry import build
from ecr_bench.corpora.rows import SPLITS
from ecr_bench.errors import UserError
from ecr_bench.names import language_code

COUNT = int(os.environ.get("ECR_BENCH_FUZZ", "300"))
ROWS = [
    {"text": f"{lang} text {i}", "lang": lang, "label": f"l{i % 4}", "meaning": f"m{i}"}
    for i in range(6)
    for lang in ("en", "de")
]


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


FILES = {
    "a.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "a.csv": "\n".join(["text,lang,label,meaning", *(",".join(row.values()) for row in ROWS)]).encode(),
    "a.parquet": _parquet(),
}
PIECES = [
    "\0",
    "\\ud800",
    "NaN",
    "Infinity",
    "1" * 5000,
    "[" * 3000,
    '"',
    "'",
    ",",
    "{",
    "}",
    "\n",
    "\r",
    "\ufeff",
    "true",
]
PIECES += ["../x", "null", '"lang": "en", ', "text,", "１", "\x1f"]
pieces = st.one_of(st.binary(max_size=4), st.sampled_from([piece.encode() for piece in PIECES]))
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), pieces), min_size=1, max_size=4)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=2),
    st.sampled_from(["en", "no", "../x", "EN", "", " ", "train", "dev", 2**70]),
)  # fmt: skip


def _sound_or_one_line(path) -> None:
    try:
        corpus = build(CorpusConfig(name="files", options={"path": str(path)}))
    except UserError as error:
        assert "\n" not in str(error) and str(error).isprintable() and len(str(error)) < 800, str(error)
        return
    for row in corpus.dataset:
        assert all(isinstance(value, str) for value in row.values())
        assert row["text"].strip() and language_code(row["lang"]) and row["split"] in SPLITS
        "".join(row.values()).encode()


@pytest.mark.parametrize("name", FILES)
@given(edits=edits)
@settings(max_examples=COUNT // 3, suppress_health_check=list(HealthCheck))
def test_any_bytes(tmp_path_factory, name, edits):
    raw = FILES[name]
    for place, cut, insert in edits:
        at = int(place * len(raw))
        raw = raw[:at] + insert + raw[at + cut :]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(raw)
    _sound_or_one_line(path)


@given(st.dictionaries(st.sampled_from(["text", "lang", "label", "meaning", "unit", "split", "n"]), values, max_size=5))
@settings(max_examples=COUNT // 2, suppress_health_check=list(HealthCheck))
def test_any_row(tmp_path_factory, row):
    path = tmp_path_factory.getbasetemp() / "row.jsonl"
    path.write_text("\n".join(map(json.dumps, [*ROWS, row])))
    _sound_or_one_line(path)
