"""The page of single answers: every answer is the record's, every text stays text, nothing of it is published."""

from __future__ import annotations

import json
import re

import pytest

from ecr_bench.browse.pages import write_items_page
from ecr_bench.browse.sources import codebook, items_of
from ecr_bench.errors import UserError
from ecr_bench.results.files import check_files, read_manifest
from ecr_bench.run import Run
from tests.helpers.tiny_models import run_here

pytestmark = pytest.mark.slow

CELLS = "cells=[{method: finetune, sizes: [1x, 3x]}, {method: ecr}, {method: random}]"


@pytest.fixture(scope="module")
def finished(tiny_folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    models = [f"sizes.1x.model={tiny_folders['qwen2']}", f"sizes.3x.model={tiny_folders['qwen2 3x']}"]
    run_here("paper-qwen", tiny_folders, out, *models, CELLS)
    return out, Run.load(out / "paper-qwen")


def read(path):
    found = re.fullmatch(r"ecr(?:Items\(\"\d+\.js\", |Codes\()(.*)\);\n", path.read_text("utf-8"), re.S)
    return json.loads(found[1])


def test_every_answer_is_the_records(finished):
    out, run = finished
    page = write_items_page(run, out, out / "paper-qwen")
    records = run.records().set_index(["cell", "precision", "item_id"])
    shown = [item for path in page.parent.glob("0*.js") for item in read(path)]
    assert len(shown) > 20
    for item in shown:
        assert set(item["answers"]) == {"finetune-1x", "finetune-3x", "ecr-1x", "random-1x"}
        for answer in item["answers"].values():
            record = records.loc[(answer["cell"], "fp32", item["id"])]
            assert answer["scores"] == [round(score, 3) for score in record["loglikelihoods"]]
            assert (answer["said"], item["gold"]) == (record["predicted"], record["gold"])
            assert answer["tokens"] == list(record["control_tokens"])
            assert len(item["options"]) == len(answer["scores"])


def test_a_code_stands_for_texts_of_training_and_random_ones_for_none(finished):
    out, run = finished
    book = codebook(run, "ecr-1x-s0", out)
    assert book is not None and book.texts.keys() == set(range(book.first, book.null))
    assert all(1 <= len(texts) <= 3 for texts in book.texts.values())
    assert codebook(run, "random-1x-s0", out) is None and codebook(run, "finetune-1x-s0", out) is None


def test_no_text_can_end_a_script(finished, monkeypatch):
    out, run = finished
    from ecr_bench.browse import pages

    items = items_of(run.records(), out)
    import dataclasses

    evil = {key: dataclasses.replace(item, text="</script><script>alert(1)") for key, item in items.items()}
    monkeypatch.setattr(pages, "items_of", lambda *_: evil)
    page = pages.write_items_page(run, out, out / "paper-qwen")
    assert all("<" not in path.read_text("utf-8") for path in page.parent.glob("*.js"))
    assert read(page.parent / "000.js")[0]["text"] == "</script><script>alert(1)"


def test_it_is_no_part_of_what_is_published(finished):
    out, run = finished
    write_items_page(run, out, out / "paper-qwen")
    manifest = read_manifest(out / "paper-qwen")
    check_files(out / "paper-qwen", manifest)
    assert not [name for name in manifest.files if "items" in name]


def test_without_the_store_it_says_why_not(finished, tmp_path):
    with pytest.raises(UserError, match="holds no test items of this run: sentences are not published"):
        write_items_page(finished[1], tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())
