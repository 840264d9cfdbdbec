"""An option that adds no token to its prompt is refused wherever it could be scored or trained: 0 nats would win."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from ecr_bench import config
from ecr_bench.cli import main
from ecr_bench.data.encode import encode_items, refuse_empty_options
from ecr_bench.data.joint import joint_ids, plain_ids
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.records import read_records
from ecr_bench.evaluation.run import evaluate, load_item_tasks
from ecr_bench.io import read_json
from ecr_bench.items.files import write_items
from ecr_bench.sizes import Fitting
from ecr_bench.stages.ingredients import RecipeSettings
from ecr_bench.stages.train import TrainInputs, TrainSettings, _train
from ecr_bench.types import Item
from tests.data.test_joint import conditioner_of, llama
from tests.helpers.public_sets import documents, tiny_model, write
from tests.helpers.tokenizer_kinds import KINDS, LANGUAGES, sentence, tokenizer_of


def empty_pair(kind: str) -> tuple[str, str]:
    """A (context, option) whose option melts into the last token of the context, or is nothing to the tokenizer."""
    tokenizer, rng = tokenizer_of(kind), random.Random(0)
    texts = [sentence(rng, lang) for lang in LANGUAGES for _ in range(20)]
    pairs = [(text[:at], text[at:]) for text in texts for at in range(len(text) // 2, len(text))]
    pairs += [(text, space) for text in texts for space in (" ", "\u00ad", "\t")]
    for pair, (_, ids) in zip(pairs, joint_ids(lambda all_: plain_ids(tokenizer, all_), pairs), strict=True):
        if not ids:
            return pair
    raise AssertionError(f"{kind}: none found")


def request(pair: tuple[str, str]) -> list[Instance]:
    good = Instance("loglikelihood", {}, (pair[0], " lamp lamp"), 0, metadata=("some_task", 4, 1))
    return [good, Instance("loglikelihood", {}, pair, 0, metadata=("some_task", 5, 1))]


@pytest.mark.parametrize("way", ["fast", "slow", "plain arm", "prefix"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_of_scoring_refuses_it_and_names_task_item_and_tokenizer(kind: str, way: str) -> None:
    tokenizer, pair = tokenizer_of(kind), empty_pair(kind)
    model = llama(len(tokenizer) + 20)
    with pytest.raises(AssertionError):
        HFLM(model, tokenizer=tokenizer).loglikelihood(request(pair), disable_tqdm=True)
    conditioner = {"plain arm": conditioner_of("plain", kind), "prefix": conditioner_of("prefix", kind)}.get(way)
    lm = EcrLM(model, tokenizer=tokenizer, conditioner=conditioner, fast=way != "slow")
    message = f"task some_task, item 5: the option .* adds no token to the prompt .* \\(tokenizer {kind}\\)"
    for refuse in (lm.loglikelihood, lm.find_too_long):
        with pytest.raises(UserError, match=message) as caught:
            refuse(request(pair))
        assert "\n" not in str(caught.value)


def items_with_an_empty_option() -> list[Item]:
    """To a WordPiece tokenizer a blank is nothing."""
    choices = [("lamp", "door"), ("lamp", ""), ("door", "lamp")]
    return [
        Item(f"i{i}", "intent", "coarse", "c", "en", "en", "turn on", "What?", pair, 0)
        for i, pair in enumerate(choices)
    ]


def test_training_items_are_refused_too() -> None:
    items, conditioner = items_with_an_empty_option(), conditioner_of("prefix", "wordpiece")
    message = r"task ecr_intent_en, item i1: the option ' ' adds no token .* \(tokenizer wordpiece\)"
    with pytest.raises(UserError, match=message):
        encode_items(conditioner, items, 64)
    with pytest.raises(UserError, match=message):
        refuse_empty_options(conditioner.tokenizer, items)
    refuse_empty_options(tokenizer_of("byte"), items)  # there a blank is a token


def test_items_of_a_folder_as_run_and_bundle_score_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_items(tmp_path, items_with_an_empty_option())
    _, tasks = load_item_tasks(tmp_path, ["ecr_intent_en"])
    conditioner = conditioner_of("prefix", "wordpiece")
    lm = EcrLM(llama(900), tokenizer=conditioner.tokenizer, conditioner=conditioner)
    monkeypatch.setattr(lm, "_score", lambda *_: pytest.fail("scored before it was refused"))
    with pytest.raises(UserError, match="task ecr_intent_en, item i1"):
        evaluate(lm, tasks, metadata={})


def test_a_run_finds_it_in_test_items_before_it_trains(tmp_path: Path) -> None:
    write_items(tmp_path / "items" / "test", items_with_an_empty_option())

    class Given:
        tokenizer = tokenizer_of("wordpiece")

    settings = TrainSettings(
        finetune=config.load("tiny").finetune, seed=0, recipe=RecipeSettings(method="finetune"), fitting=Fitting()
    )
    inputs = TrainInputs(corpus=tmp_path, tokenizer=tmp_path, items=tmp_path / "items", base=tmp_path)
    with pytest.raises(UserError, match="task ecr_intent_en, item i1"):
        _train(settings, inputs, cast(Any, Given()), tmp_path, lambda done, total: None, None)


@pytest.mark.parametrize("ecr", [True, False])
def test_eval_finds_it_and_scores_the_other_tasks(
    ecr: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer, folder = tokenizer_of("wordpiece"), tmp_path / "model"
    tiny_model(tokenizer, 256).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if ecr:
        Conditioner(tokenizer).save(folder / "conditioner")
    docs = documents("xcopa", 6)
    write(tmp_path / "data" / "xcopa" / "it" / "test.jsonl", docs)
    docs[3]["choice2"] = "\u00ad"  # a soft hyphen, which BERT's normaliser drops
    write(tmp_path / "data" / "xcopa" / "zh" / "test.jsonl", docs)
    out = tmp_path / "out"
    arguments = ["eval", str(folder), "xcopa", "--data-dir", str(tmp_path / "data"), "--out", str(out)]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 3
    told = read_json(out / "eval.json")["tasks"]
    assert "task xcopa_zh, item xcopa_zh:3: the option" in told["xcopa_zh"]["failed"]
    assert told["xcopa_it"]["failed"] is None
    assert set(read_records(out / "records.parquet")["task_name"]) == {"xcopa_it"}
