"""What does not fit a window is counted and named, never scored on a part of itself; one rule for every arm."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import GPT2Config, LlamaConfig, MambaConfig, PreTrainedModel, PreTrainedTokenizerFast

from ecr_bench.cli import main
from ecr_bench.config import load
from ecr_bench.data.encode import encode_items, refuse_too_long
from ecr_bench.data.joint import TooLongError, joint_ids, plain_ids, too_long
from ecr_bench.data.tokenizer import context_window, load_tokenizer
from ecr_bench.ecr.codes import ConstantCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.ecr.cue import prompt_for
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.records import read_records
from ecr_bench.fast.packing import Request, window, windows
from ecr_bench.io import read_json
from ecr_bench.items.files import read_items
from ecr_bench.items.registry import document, task_name
from ecr_bench.publish import publish
from ecr_bench.quiet import quiet_libraries
from ecr_bench.runner.perform import run_stage
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.store import Store
from ecr_bench.types import Item
from tests.conftest import WORDS
from tests.helpers.commands import fails
from tests.helpers.public_sets import documents, save_tiny_ecr, tiny_model, write

WINDOW, COUNT = 48, 5
ARMS = ("stock", "stock, slow", "plain arm", "control tokens")


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    built = tiny_model(tokenizer, 256)
    ControlTokens(len(tokenizer), 8).add_to(built, 0.3, 0)
    return built


def arm(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, size: int = WINDOW) -> EcrLM:
    source = ConstantCodes(COUNT, 8), ControlTokens(len(tokenizer), 8), COUNT
    conditioner = {"plain arm": Conditioner(tokenizer), "control tokens": Conditioner(tokenizer, *source)}.get(name)
    return EcrLM(model, tokenizer=tokenizer, conditioner=conditioner, max_length=size, fast="slow" not in name)


def words(count: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(WORDS[:12], k=count))


def request(context: str, *options: str, doc: int = 0) -> list[Instance]:
    named = {"item_id": f"item-{doc}", "premise": f"{context}."}
    pairs = [(context, option) for option in options]
    return [Instance("loglikelihood", named, p, i, metadata=("xcopa_it", doc, 1)) for i, p in enumerate(pairs)]


def tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", ARMS)
def test_an_option_longer_than_the_window_is_refused_by_name_in_every_arm(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    lm = arm(name, model, tokenizer)
    asked = request("turn on", " lamp", " door") + request("turn off", " lamp", " " + words(90), doc=1)
    message = r"task xcopa_it, item item-1: an option of \d+ tokens leaves no room for its prompt in a window of 48"
    with pytest.raises(TooLongError, match=message) as caught:
        lm.loglikelihood(asked, disable_tqdm=True)
    assert "\n" not in str(caught.value)
    assert list(lm.find_too_long(asked)) == [("xcopa_it", 1)]


@pytest.mark.parametrize("name", ARMS)
def test_the_longest_option_that_fits_is_scored_whole_and_the_next_is_refused(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    lm = arm(name, model, tokenizer)
    protected = 2 + (COUNT if name == "control tokens" else 0)
    for length, fits in ((WINDOW + 1 - protected, True), (WINDOW + 2 - protected, False)):
        # one token a word
        option = " lamp" * length
        assert tokens(tokenizer, "turn" + option) == length + 1
        asked = request(words(60), option, " door")
        assert bool(lm.find_too_long(asked)) == (not fits)
        if fits:
            whole = lm.encode(asked)[0]
            assert len(whole.continuation) == length and len(whole.context) + length >= WINDOW + 1
            assert np.isfinite(lm.loglikelihood(asked, disable_tqdm=True)[0][0])


def test_longer_options_have_lower_scores_and_stock_ends_where_they_do_not_fit(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    pair = request("turn on", " " + words(60), " " + words(60) + " lamp" * 60)
    with pytest.raises(AssertionError):
        HFLM(pretrained=model, tokenizer=tokenizer, max_length=WINDOW).loglikelihood(pair, disable_tqdm=True)
    lm = arm("stock", model, tokenizer, 256)
    first, second = (value for value, _ in lm.loglikelihood(pair, disable_tqdm=True))
    assert second < first - 10


@pytest.mark.parametrize("name", ARMS)
def test_contexts_that_are_cut_are_counted(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    lm = arm(name, model, tokenizer)
    asked = request("turn on", " lamp", " door") + request(words(80), " lamp", " red door", doc=1)
    lm.loglikelihood(asked, disable_tqdm=True)
    assert lm.last_cut == {("xcopa_it", 1)}
    lm.loglikelihood(asked[:2], disable_tqdm=True)
    assert lm.last_cut == set()


def test_the_rule_is_one_for_all_arms() -> None:
    assert too_long("x", context=30, option=10, control_tokens=0, window=11) is None
    assert too_long("x", context=30, option=10, control_tokens=0, window=10) is not None
    assert too_long("x", context=30, option=10, control_tokens=4, window=15) is None
    assert too_long("x", context=30, option=10, control_tokens=4, window=14) is not None
    # a prompt that is shorter need not be longer
    assert too_long("x", context=1, option=10, control_tokens=0, window=10) is None
    found = too_long("task a, item 3", context=30, option=10, control_tokens=4, window=14)
    assert "task a, item 3: an option of 10 tokens" in str(found) and "15 are read" in str(found)


def test_the_scorer_refuses_what_it_would_have_to_cut() -> None:
    with pytest.raises(ValueError, match="a continuation of 9 tokens does not fit a window of 8"):
        windows([Request((1,), tuple(range(9)))], 8)
    kept = window(Request(tuple(range(20)), tuple(range(8))), 8)
    assert kept == Request((19,), tuple(range(8)))


def test_training_items_are_held_to_the_same_rule(tokenizer: PreTrainedTokenizerFast) -> None:
    items = [
        Item(f"i{n}", "intent", "coarse", "c", "en", "en", "turn on", "What?", ("lamp", words(length)), 0)
        for n, length in enumerate((3, 90, 95))
    ]
    for hold in (encode_items, refuse_too_long):
        with pytest.raises(TooLongError, match=r"item i1: .* in a window of 48 .*; 1 more do not fit either"):
            hold(Conditioner(tokenizer), items, WINDOW)
    refuse_too_long(Conditioner(tokenizer), items[:1], WINDOW)


@pytest.mark.parametrize(
    ("config", "reads"),
    [(LlamaConfig(max_position_embeddings=64), 64), (GPT2Config(n_positions=96), 96), (MambaConfig(), None)],
)
def test_the_window_is_what_the_model_reads_or_what_is_asked_for(
    config: Any, reads: int | None, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert context_window(config, tokenizer) == (reads or 2048)
    assert context_window(config, tokenizer, 32) == 32
    if reads is None:
        assert context_window(config, tokenizer, 10_000) == 10_000
    else:
        assert context_window(config, tokenizer, reads) == reads
        with pytest.raises(UserError, match=f"max_length {reads + 1}: the model reads {reads} tokens at most"):
            context_window(config, tokenizer, reads + 1)
    with pytest.raises(UserError, match="max_length 1: must be 2 or more"):
        context_window(config, tokenizer, 1)


# --- the command ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast, anchors_and_projection: Any
) -> Path:
    return save_tiny_ecr(tmp_path_factory.mktemp("saved") / "model", tokenizer, anchors_and_projection)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two languages: in one all fits 64 tokens; in the other two options are longer, one context is, and one option
    fits without control tokens only."""
    root = tmp_path_factory.mktemp("sets")
    write(root / "xcopa" / "it" / "test.jsonl", documents("xcopa", 8))
    docs = documents("xcopa", 8, seed=1)
    docs[2]["choice1"], docs[5]["choice2"] = words(100), words(120)
    docs[3]["premise"] = words(90).capitalize() + "."
    docs[6]["choice1"] = ("lamp " * 62).strip()
    write(root / "xcopa" / "zh" / "test.jsonl", docs)
    return root


def ask(folder: Path, data: Path, out: Path, *more: str) -> list[str]:
    return ["eval", str(folder), "xcopa", "--data-dir", str(data), "--out", str(out), *more]


def told(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(out / "eval.json")
    return found


@pytest.mark.parametrize("more", [[], ["--no-ecr"]])
def test_a_task_that_does_not_fit_fails_alone(
    more: list[str], folder: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stop:
        main(ask(folder, data, out, "--max-length", "64", *more))
    shown = capsys.readouterr()
    assert stop.value.code == 3 and shown.err.count("\n") == 1 and "1 of 2 tasks failed (xcopa_zh)" in shown.err
    reason = "xcopa_zh: failed: task xcopa_zh, item xcopa_zh:2: an option of"
    assert reason in shown.out and "do not fit either" in shown.out
    kept = told(out)
    assert kept["window"] == 64 and reason.partition("failed: ")[2] in kept["tasks"]["xcopa_zh"]["failed"]
    assert kept["tasks"]["xcopa_it"] == {
        "items": 8, "left_out": [], "cut": 0, "undecided": 0, "one_answer": False, "failed": None,
        "as_stock": bool(more),
    }  # fmt: skip
    assert set(read_records(out / "records.parquet")["task_name"]) == {"xcopa_it"}
    # the mean over languages would be that of another set
    assert [line["lang"] for line in kept["results"]] == ["it"] and not kept["as_stock"]


def test_long_items_are_left_out_alike_with_and_without_control_tokens_and_in_each_precision(
    folder: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    given = ["--max-length", "64", "--skip-long"]
    for name, more in (("ecr", []), ("plain", ["--no-ecr"]), ("int8", ["--precision", "int8"])):
        main(ask(folder, data, tmp_path / name, *given, *more))
        shown, kept = capsys.readouterr().out, told(tmp_path / name)
        task = kept["tasks"]["xcopa_zh"]
        assert "xcopa_zh: 3 of 8 items are left out, the window holds 64 tokens:" in shown
        assert "item xcopa_zh:2: an option of" in shown and "item xcopa_zh:6: an option of" in shown
        assert "xcopa_zh: the context of 1 of 8 items was cut on its left to fit 64 tokens" in shown
        assert len(task["left_out"]) == 3 and task["cut"] == 1 and task["items"] == 8 and not task["as_stock"]
        lines = {line["lang"]: line["items"] for line in kept["results"]}
        assert lines == {"it": 8, "zh": 5, "all": 13}
    records = [read_records(tmp_path / name / "records.parquet") for name in ("ecr", "plain", "int8")]
    ids = [sorted(frame["item_id"]) for frame in records]
    assert ids[0] == ids[1] == ids[2] and "xcopa_zh:7" in ids[0] and "xcopa_zh:6" not in ids[0]


def test_without_the_option_each_arm_is_held_to_its_own_prompts(folder: Path, data: Path, tmp_path: Path) -> None:
    small = tmp_path / "data"
    docs = documents("xcopa", 3)
    docs[1]["choice1"] = ("lamp " * 62).strip()
    write(small / "xcopa" / "it" / "test.jsonl", docs)
    main(ask(folder, small, tmp_path / "plain", "--max-length", "64", "--no-ecr"))
    assert told(tmp_path / "plain")["as_stock"] is True
    with pytest.raises(SystemExit):
        main(ask(folder, small, tmp_path / "ecr", "--max-length", "64"))


def test_two_evaluations_are_compared_on_the_items_both_have(
    folder: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    main(ask(folder, data, tmp_path / "short", "--max-length", "64", "--skip-long"))
    main(ask(folder, data, tmp_path / "long", "--no-ecr"))
    capsys.readouterr()
    main(["compare", str(tmp_path / "long"), str(tmp_path / "short")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Paired difference" in shown and "without 3 items that the other side has not" in shown
    shared = read_records(tmp_path / "short" / "records.parquet")
    assert len(shared) == 13
    line = fails(capsys, "compare", f"{tmp_path / 'long'}:other", str(tmp_path / "short"))
    assert "allowed are model" in line


def test_a_task_of_which_nothing_fits_fails_even_so(folder: Path, tmp_path: Path, capsys: Any) -> None:
    docs = [{**doc, "choice1": words(90)} for doc in documents("xcopa", 3)]
    write(tmp_path / "data" / "xcopa" / "it" / "test.jsonl", docs)
    with pytest.raises(SystemExit) as stop:
        main(ask(folder, tmp_path / "data", tmp_path / "out", "--max-length", "64", "--skip-long"))
    assert stop.value.code == 3 and "none of its 3 items fits a window of 64 tokens" in capsys.readouterr().out
    assert told(tmp_path / "out")["results"] == [] and read_records(tmp_path / "out" / "records.parquet").empty
    line = fails(capsys, "compare", str(tmp_path / "out"), str(tmp_path / "out"))
    assert "every task of it failed" in line


def test_what_breaks_in_one_task_leaves_the_others(
    folder: Path, data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecr_bench.runner import public

    real = public.evaluate

    def breaking(lm: Any, tasks: Any, **given: Any) -> Any:
        if tasks[0].task_name == "xcopa_it":
            raise RuntimeError("out of\nmemory")
        return real(lm, tasks, **given)

    monkeypatch.setattr(public, "evaluate", breaking)
    with pytest.raises(SystemExit) as stop:
        main(ask(folder, data, tmp_path / "out"))
    assert stop.value.code == 3 and "xcopa_it: failed: RuntimeError: out of memory" in capsys.readouterr().out
    assert set(read_records(tmp_path / "out" / "records.parquet")["task_name"]) == {"xcopa_zh"}


def test_a_window_the_model_does_not_read_is_one_line(folder: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    there = set(tmp_path.rglob("*"))
    reads = "max_length 257: the model reads 256 tokens"
    for given, why in (("257", reads), ("1", "must be 2 or more"), ("x", "int")):
        assert why in fails(capsys, *ask(folder, data, tmp_path / "out", "--max-length", given))
    assert set(tmp_path.rglob("*")) == there


def test_each_window_has_a_folder_of_its_own(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--max-length", "200"], ["--max-length", "200", "--skip-long"]):
        main(["eval", str(folder), "xcopa_it", "--data-dir", str(data), *more])
    assert len(list(Path("runs/eval").iterdir())) == 3
    shutil.rmtree("runs")


# --- run -------------------------------------------------------------------------------------------------


def finished(out: Path, window: int) -> Any:
    """``tiny`` with two arms in models of ``window`` positions."""
    quiet_libraries()
    cells = [{"method": "finetune"}, {"method": "ecr"}]
    settings = {"teacher.name": "bag", "teacher.rows": 200, "precisions": ["fp32"], "scoring.items": 3, "cells": cells}
    short = {"sizes.1x.max_length": window, "geometry.measure": False, "name": "short"}
    plan, store = make_plan(load("tiny").with_overrides({**settings, **short})), Store(out)
    for stage in plan.stages.values():
        run_stage(stage, store, lambda done, total: None)
    return publish(plan, store, out / "short"), plan, store


def longest_input(item: Item, conditioner: Conditioner) -> int:
    """Tokens of the whole prompt and the longest option; the last of an option is no input."""
    (context,) = conditioner.encode([prompt_for(task_name(item), document(item), item.prompt)])
    pairs = [(item.prompt, f" {choice}") for choice in item.choices]
    options = joint_ids(lambda texts: plain_ids(conditioner.tokenizer, texts), pairs)
    return len(context.ids) + max(len(ids) for _, ids in options) - 1


@pytest.mark.slow
def test_a_run_counts_the_prompts_it_cut(tmp_path: Path) -> None:
    run, plan, store = finished(tmp_path, 28)
    (note,) = [note for note in run.board.notes if "were cut" in note]
    for cell in plan.cells:
        folder = store.path(cell.train) / "model"
        conditioner = Conditioner.load(folder / "conditioner", load_tokenizer(folder))
        lengths = [longest_input(item, conditioner) for item in read_items(store.path(cell.items) / "test")]
        cut = sum(length > 28 for length in lengths)
        assert cut and f"{cell.arm} in {cut} of {len(lengths)} items" in note


def test_a_run_whose_options_do_not_fit_stops_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(TooLongError, match=r"task ecr_[\w-]+, item .* in a window of 16"):
        finished(tmp_path, 16)
    assert not list((tmp_path / "store" / "train").glob("*/done.json"))
