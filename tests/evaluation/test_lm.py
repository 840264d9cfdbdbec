"""EcrLM equals stock HFLM without a conditioner, and conditions every request type with one."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pandas as pd
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import ByteLevelBPETokenizer, SentencePieceUnigramTokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ecr_bench.ecr.codes import RandomCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.errors import UserError
from ecr_bench.evaluation.generation import ids_without_text
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.records import read_records, write_records
from ecr_bench.evaluation.run import evaluate, load_tasks
from ecr_bench.fast.scorer import Request, full_sequences

WINDOW, COUNT, K = 64, 3, 16
TEXT = "turn on off the lamp in kitchen please küche licht ein aus what is wanted bitte 灯 开"
WORDS = TEXT.split()
METADATA = {"cell": "c1", "arm": "ecr-1x", "precision": "fp32", "seed": 3, "seen_languages": ["en"]}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    inner = ByteLevelBPETokenizer()
    inner.train_from_iterator([" ".join(WORDS)] * 4, vocab_size=320, special_tokens=["<pad>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + K + 1,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=WINDOW,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def conditioner(tokenizer: PreTrainedTokenizerFast) -> Conditioner:
    return Conditioner(tokenizer, RandomCodes(COUNT, K, seed=0), ControlTokens(len(tokenizer), K), COUNT)


def sentence(rng: random.Random, low: int = 2, high: int = 7) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))


def instances(
    pairs: list[tuple[Any, ...]], kind: str = "loglikelihood", per_doc: int = 1, **doc: Any
) -> list[Instance]:
    return [
        Instance(kind, doc, pair, i % per_doc, metadata=("task", i // per_doc, 1))  # type: ignore[arg-type]
        for i, pair in enumerate(pairs)
    ]


def odd_pairs() -> list[tuple[str, str]]:
    rng = random.Random(1)
    pairs = [(sentence(rng), " " + sentence(rng)) for _ in range(6) for _ in range(2)]
    first = pairs[0][0]
    pairs += [(first + "  ", "lamp"), (first, "amp"), (first + "\n", "the"), (first, " on"), (first, " on")]
    pairs += [("", " the lamp"), ("", "<s>the lamp"), ("<s>" + first, " on"), (first * 12, " the lamp"), ("灯", "开")]
    return pairs


def stock_and_ours(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **kwargs: Any) -> tuple[HFLM, EcrLM]:
    given = {"pretrained": model, "tokenizer": tokenizer, "max_length": WINDOW, "batch_size": 4, **kwargs}
    return HFLM(**given), EcrLM(**given)


def assert_close(found: list[tuple[float, bool]], expected: list[tuple[float, bool]]) -> None:
    assert np.abs(np.array([v for v, _ in found]) - np.array([v for v, _ in expected])).max() <= 1e-4
    assert [g for _, g in found] == [g for _, g in expected]


@pytest.fixture(scope="module")
def pieces() -> PreTrainedTokenizerFast:
    """As SentencePiece: a space belongs to the piece behind it, and a text starts with one."""
    inner = SentencePieceUnigramTokenizer()
    inner.train_from_iterator(
        [" ".join(WORDS)] * 4, vocab_size=90, special_tokens=["<pad>", "<s>", "</s>", "<unk>"], unk_token="<unk>"
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, padding_side="left", **names)


@pytest.mark.parametrize("add_bos", [None, True, False])
@pytest.mark.parametrize("kind", ["tokenizer", "pieces"])
def test_without_conditioner_equals_stock(
    model: PreTrainedModel, kind: str, add_bos: bool | None, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    stock, ours = stock_and_ours(model, tokenizer, add_bos_token=add_bos)
    pairs = odd_pairs()
    assert_close(ours.loglikelihood(instances(pairs)), stock.loglikelihood(instances(pairs), disable_tqdm=True))
    for (context, _), request in zip(pairs, ours._encode_pairs(pairs), strict=True):
        if context:
            assert list(request.context) == stock._encode_pair(context, " x")[0]
    texts = [(sentence(random.Random(2), 30, 40),), ("the lamp",)]
    found = ours.loglikelihood_rolling(instances(texts, "loglikelihood_rolling"), disable_tqdm=True)
    assert found == pytest.approx(
        stock.loglikelihood_rolling(instances(texts, "loglikelihood_rolling"), True), abs=1e-3
    )
    asked = [("turn on", {"until": ["."], "max_gen_toks": 5})]
    assert ours.generate_until(instances(asked, "generate_until"), True) == stock.generate_until(
        instances(asked, "generate_until"), True
    )


def test_slow_path_is_stock(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    stock = HFLM(pretrained=model, tokenizer=tokenizer, max_length=WINDOW)
    slow = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, fast=False)
    pairs = odd_pairs()
    assert slow.loglikelihood(instances(pairs), True) == stock.loglikelihood(instances(pairs), True)


def reference(model: PreTrainedModel, context: list[int], continuation: list[int]) -> float:
    with torch.no_grad():
        return float(full_sequences(model, [Request(tuple(context), tuple(continuation))], 0, 1)[0][0])


def test_conditioned_contexts_carry_their_control_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, conditioner: Conditioner
) -> None:
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, conditioner=conditioner)
    pairs = [("turn on the lamp\nwhat is wanted ", "on"), ("turn on the lamp\nwhat is wanted ", "off")]
    doc = {"text": "turn on the lamp", "lang": "en"}
    requests = [Instance("loglikelihood", doc, p, i, metadata=("ecr_intent_en", 7, 1)) for i, p in enumerate(pairs)]
    found = lm.loglikelihood(requests)
    control = lm.last_control_tokens[("ecr_intent_en", 7)]
    assert len(control) == COUNT
    assert min(control) >= len(tokenizer)
    text = tokenizer("turn on the lamp\nwhat is wanted", add_special_tokens=False)["input_ids"]
    for (value, _), option in zip(found, (" on", " off"), strict=True):
        option_ids = tokenizer(option, add_special_tokens=False)["input_ids"]
        assert value == pytest.approx(reference(model, [1, *control, *text], option_ids), abs=1e-4)
    plain_lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW)
    assert abs(plain_lm.loglikelihood(requests)[0][0] - found[0][0]) > 1e-3


def test_a_task_without_a_declared_cue_gets_null_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, conditioner: Conditioner
) -> None:
    """Even a prefix that all contexts share may hold options or few-shot labels, so it is not looked at."""
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, conditioner=conditioner)
    lm.loglikelihood(instances([("the lamp on", " in"), ("the lamp off", " in")], per_doc=2))
    null = [conditioner.tokens.null_id] * COUNT  # type: ignore[union-attr]
    assert lm.last_control_tokens[("task", 0)] == null


def test_truncation_keeps_control_tokens_and_one_context_for_all_options(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, conditioner: Conditioner
) -> None:
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, conditioner=conditioner)
    context = sentence(random.Random(5), 60, 60)
    requests = instances([(context, " on"), (context, " in the kitchen please")], per_doc=2)
    short, long = lm._conditioned(requests)
    control = lm.last_control_tokens[("task", 0)]
    assert short.context == long.context
    assert list(short.context[: 1 + COUNT]) == [1, *control]
    assert len(long.context) + len(long.continuation) == WINDOW + 1
    tail = tokenizer(context, add_special_tokens=False)["input_ids"]
    assert list(short.context[1 + COUNT :]) == tail[-(len(short.context) - 1 - COUNT) :]
    with pytest.raises(
        UserError, match=r"task task, item 0: an option of \d+ tokens leaves no room for its prompt in a window of 64"
    ):
        lm.loglikelihood(instances([("turn on", " " + sentence(random.Random(6), 60, 60))]))


def test_rolling_uses_null_tokens_and_scores_every_token_once(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, conditioner: Conditioner
) -> None:
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, conditioner=conditioner)
    head = [1, *[conditioner.tokens.null_id] * COUNT]  # type: ignore[union-attr]
    text = sentence(random.Random(3), 90, 90)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > WINDOW
    (short, long) = lm.loglikelihood_rolling(instances([("the lamp",), (text,)], "loglikelihood_rolling"))
    lamp = tokenizer("the lamp", add_special_tokens=False)["input_ids"]
    assert short == pytest.approx(reference(model, head, lamp), abs=1e-4)
    # windows of the width left by the head; later ones see as much text before them as fits
    width, total, start = WINDOW - len(head), 0.0, 0
    while start < len(ids):
        piece = ids[start : start + width]
        seen = ids[max(0, start + len(piece) - width - 1) : start]
        total += reference(model, head + seen, piece)
        start += width
    assert long == pytest.approx(total, abs=1e-3)


def test_generation_is_conditioned_and_stops(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, conditioner: Conditioner
) -> None:
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, conditioner=conditioner, batch_size=2)
    contexts = ["turn on the lamp", "küche", "in the kitchen please"]

    def run(until: list[str]) -> list[str]:
        pairs = [(context, {"until": until, "max_gen_toks": 6}) for context in contexts]
        return lm.generate_until(instances(pairs, "generate_until"))

    free = run([])
    for index, context in enumerate(contexts):
        control = lm.last_control_tokens[("task", index)]
        ids = [1, *control, *tokenizer(context, add_special_tokens=False)["input_ids"]]
        expected: list[int] = []
        for _ in range(6):
            with torch.no_grad():
                logits = model(torch.tensor([ids + expected])).logits[0, -1]
            logits[len(tokenizer) :] = -torch.inf
            expected.append(int(logits.argmax()))
            if expected[-1] == tokenizer.eos_token_id:
                break
        assert free[index] == tokenizer.decode(expected, skip_special_tokens=True).split("</s>")[0]
    stop = free[0][2]
    assert run([stop])[0] == free[0].split(stop)[0]
    with pytest.raises(UserError, match="below the model's window of 64"):
        lm.generate_until(instances([("on", {"until": ["."], "max_gen_toks": 64})], "generate_until"))


def test_no_id_beyond_the_tokenizer_is_generated(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, conditioner: Conditioner
) -> None:
    """Neither control tokens nor what stands behind them: soft slots, rows of padding."""
    wide = copy.deepcopy(model)
    first = conditioner.tokens.first_id + conditioner.tokens.size
    wide.resize_token_embeddings(first + 5, mean_resizing=False)
    head = wide.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    favoured = wide.get_output_embeddings().weight
    with torch.no_grad():
        favoured[first:] = 10 * favoured[:first].mean(0)
    lm = EcrLM(wide, tokenizer=tokenizer, max_length=WINDOW, conditioner=conditioner, batch_size=2)
    (text,) = lm.generate_until(instances([("turn on", {"until": [], "max_gen_toks": 6})], "generate_until"))
    (plain,) = EcrLM(
        model, tokenizer=tokenizer, max_length=WINDOW, conditioner=conditioner, batch_size=2
    ).generate_until(instances([("turn on", {"until": [], "max_gen_toks": 6})], "generate_until"))
    assert text == plain
    assert ids_without_text(wide, tokenizer) == list(range(len(tokenizer), first + 5))


# --- through simple_evaluate ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    """Two tasks of ours (en, de) and one public-style task without our fields, on local files."""
    root = tmp_path_factory.mktemp("tasks")
    for task, lang in (("ecr_intent_en", "en"), ("ecr_intent_de", "de"), ("plain_task", "")):
        rng = random.Random(task)
        docs = []
        for index in range(8):
            text, choices = sentence(rng, 3, 6), [sentence(rng, 1, 3) for _ in range(4)]
            doc = {"prompt": f"{text}\nwhat is wanted", "choices": choices, "gold": index % 4}
            if lang:
                doc |= {"item_id": f"{task}-{index}", "task": "intent", "grain": "coarse", "cluster": f"k{index // 2}"}
                doc |= {"lang": lang, "target_lang": lang, "text": text}
            docs.append(json.dumps(doc, ensure_ascii=False))
        (root / f"{task}.jsonl").write_text("\n".join(docs), encoding="utf-8")
        settings = {
            "task": task,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(root / f"{task}.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{prompt}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "gold",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
        (root / f"{task}.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return TaskManager(include_path=str(root), include_defaults=False)


NAMES = ["ecr_intent_en", "ecr_intent_de", "plain_task"]


def test_evaluate_gives_one_record_per_item(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conditioner: Conditioner,
    manager: TaskManager,
    tmp_path: Path,
) -> None:
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, conditioner=conditioner)
    torch.manual_seed(5)
    expected_draw = torch.rand(1)
    torch.manual_seed(5)
    records = evaluate(lm, NAMES, metadata=METADATA, task_manager=manager)
    assert torch.rand(1) == expected_draw, "scoring must not touch the global random state"
    assert [r["group"] for r in records] == ["seen"] * 8 + ["unseen"] * 16
    first = records[0]
    assert (first["item_id"], first["cluster"], first["grain"]) == ("ecr_intent_en-0", "k0", "coarse")
    assert first["extra_tokens"] == len(first["control_tokens"]) == COUNT
    assert (records[-1]["item_id"], records[-1]["task"]) == ("plain_task:7", "plain_task")
    for record in records:
        assert record["predicted"] == int(np.argmax(record["loglikelihoods"]))
        assert record["correct"] == (record["predicted"] == record["gold"])
        assert len(record["choice_bytes"]) == 4
    frame = pd.DataFrame(records)
    write_records(tmp_path / "r.parquet", frame)
    again = read_records(tmp_path / "r.parquet")
    plain = again.map(lambda value: value.tolist() if isinstance(value, np.ndarray) else value)
    assert plain.to_dict("records") == records


def test_loaded_tasks_serve_several_models(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, manager: TaskManager
) -> None:
    tasks = load_tasks(NAMES, manager)
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW)
    first = evaluate(lm, tasks, metadata=METADATA)
    torch.manual_seed(9)
    other = EcrLM(LlamaForCausalLM(model.config).eval(), tokenizer=tokenizer, max_length=WINDOW)
    second = evaluate(other, tasks, metadata=METADATA)
    assert [r["loglikelihoods"] for r in second] != [r["loglikelihoods"] for r in first]
    assert evaluate(lm, tasks, metadata=METADATA) == first
    assert [r["extra_tokens"] for r in first] == [0] * 24


def test_accuracy_is_lm_evals(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, manager: TaskManager) -> None:
    stock = HFLM(pretrained=model, tokenizer=tokenizer, max_length=WINDOW)
    results = lm_eval.simple_evaluate(stock, tasks=["ecr_intent_en"], task_manager=manager, bootstrap_iters=0)
    records = evaluate(
        EcrLM(model, tokenizer=tokenizer, max_length=WINDOW), ["ecr_intent_en"], metadata=METADATA, task_manager=manager
    )
    assert np.mean([r["correct"] for r in records]) == results["results"]["ecr_intent_en"]["acc,none"]


def test_registered_name_and_conditioner_folder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, conditioner: Conditioner, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert lm_eval.api.registry.get_model("ecr-hf") is EcrLM
    make = EcrLM.create_from_arg_string
    arguments = f"pretrained={tmp_path},max_length={WINDOW},batch_tokens=512"
    assert make(arguments, {"device": "cpu"}).conditioner is None
    conditioner.save(tmp_path / "conditioner")
    loaded = make(arguments, {"device": "cpu"})
    assert loaded.conditioner is not None
    given = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW, conditioner=conditioner)
    pairs = odd_pairs()[:8]
    assert_close(loaded.loglikelihood(instances(pairs)), given.loglikelihood(instances(pairs)))
    with pytest.raises(UserError, match="no conditioner here"):
        EcrLM(model, tokenizer=tokenizer, conditioner=tmp_path / "elsewhere")


def test_bad_input(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, manager: TaskManager, tmp_path: Path
) -> None:
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW)
    with pytest.raises(UserError, match="unknown task 'nope': allowed are ecr_intent_de"):
        evaluate(lm, ["nope"], metadata=METADATA, task_manager=manager)
    (task,) = load_tasks(["plain_task"], manager)
    task.OUTPUT_TYPE = "generate_until"
    with pytest.raises(UserError, match="allowed is multiple_choice"):
        evaluate(lm, [task], metadata=METADATA)
    with pytest.raises(UserError, match="records have missing or unknown columns"):
        write_records(tmp_path / "r.parquet", pd.DataFrame([{"cell": "x"}]))
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_records(tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="no such file"):
        read_records(tmp_path / "none.parquet")
