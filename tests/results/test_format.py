"""What is said of a run's files is what a run has."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from ecr_bench.publish import DRAWN
from ecr_bench.results.files import DATA, RUN
from ecr_bench.results.format import FILES, RECORD_COLUMNS
from tests.helpers.outside import ROOT

PUBLISHED = sorted(path.parent for path in (ROOT / "results").glob(f"*/{RUN}"))
PAGE = (ROOT / "docs/reference/results-format.md").read_text(encoding="utf-8")


def test_every_file_that_a_run_is_read_from_has_a_place() -> None:
    assert {file.name for file in FILES} == {RUN, *DATA}
    assert all(f"`{name}`" in PAGE for name in DRAWN)


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_a_published_run_is_as_described(folder) -> None:
    listed = json.loads((folder / RUN).read_text())["files"]
    assert {file.name for file in FILES if file.always} <= {*listed, RUN}
    assert set(listed) <= {*DATA, *DRAWN}
    schema = pq.read_schema(folder / "records.parquet")
    assert schema.names == [*RECORD_COLUMNS]
    for column in schema:
        assert f"| `{column.name}` | {str(column.type).replace('element', 'item').replace('<', '&lt;')} |" in PAGE
    for file in FILES:
        if file.kind is not None and (folder / file.name).is_file():
            raw = json.loads((folder / file.name).read_text())
            section = PAGE.partition(f"\n## {file.name}\n")[2].partition("\n## ")[0]
            for key in raw[0] if file.many else raw:
                assert f"| `{key}` |" in section, (file.name, key)
