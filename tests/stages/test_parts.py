"""Parts of a stage that were finished are not done again, and what they hold makes the same file."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from ecr_bench.evaluation.records import write_records
from ecr_bench.section import Section
from ecr_bench.stages.parts import part, tensor_part
from tests.helpers.damage import DAMAGES
from tests.helpers.world import make as world

RECORDS = world(items=3, seeds=1).records


class Note(Section):
    seconds: float


def asked(kept, name="fp32-intent"):
    """The part, and how often it was made."""
    made = []

    def fresh():
        made.append(name)
        return RECORDS, Note(seconds=1.5)

    return *part(kept, name, Note, fresh), len(made)


def test_a_finished_part_is_read_and_not_made_again(tmp_path):
    kept = tmp_path / "kept"
    assert [asked(kept)[2], asked(kept)[2], asked(kept, "fp32-slot")[2], asked(None)[2]] == [1, 0, 1, 1]
    records, note, _ = asked(kept)
    assert note == Note(seconds=1.5) and len(records) == len(RECORDS)


def test_records_that_were_read_make_the_same_file(tmp_path):
    asked(tmp_path / "kept")
    again, _, made = asked(tmp_path / "kept")
    assert made == 0
    for name, frames in {"fresh": [RECORDS, RECORDS], "mixed": [again, RECORDS], "read": [again, again]}.items():
        write_records(tmp_path / name, pd.concat(frames, ignore_index=True))
    assert (tmp_path / "fresh").read_bytes() == (tmp_path / "mixed").read_bytes() == (tmp_path / "read").read_bytes()


@pytest.mark.parametrize("name", ["records.parquet", "part.json"])
@pytest.mark.parametrize("data", [b"", b"{}", None])
def test_a_damaged_part_is_made_again(tmp_path, name, data):
    asked(tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    path.unlink() if data is None else path.write_bytes(data)
    assert asked(tmp_path)[2] == 1 and asked(tmp_path)[2] == 0


def answered(kept, name="rows 0"):
    made = []

    def fresh():
        made.append(name)
        return {"labels": torch.arange(5), "log_p": torch.linspace(-1, 0, 20).view(5, 4).T}

    return tensor_part(kept, name, fresh), len(made)


def test_finished_tensors_are_read_and_not_made_again(tmp_path):
    assert [answered(tmp_path)[1], answered(tmp_path)[1], answered(tmp_path, "rows 9")[1], answered(None)[1]] == [
        1,
        0,
        1,
        1,
    ]
    for name, tensor in answered(None)[0].items():
        assert torch.equal(answered(tmp_path)[0][name], tensor)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["tensors.safetensors", "part.json"])
def test_damaged_tensors_are_made_again(tmp_path, name, damage):
    first = answered(tmp_path)[0]
    (path,) = tmp_path.glob(f"*/{name}")
    DAMAGES[damage](path)
    again, made = answered(tmp_path)
    assert made <= 1 and all(torch.equal(again[label], first[label]) for label in first)
    assert made == 1 or name == "part.json"
