"""Public benchmarks: equal to stock lm-eval without control tokens, clusters, languages, names, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
from datasets import Dataset
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ecr_bench.ecr.codes import ConstantCodes
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.control_tokens import ControlTokens
from ecr_bench.ecr.cue import CUES
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.public import check_conditioning, find, public_tasks
from ecr_bench.evaluation.public_tasks import PUBLIC_TASKS, all_public_tasks, members
from ecr_bench.evaluation.run import evaluate, quiet
from tests.helpers.outside import DATA
from tests.helpers.public_sets import CODES, documents, tiny_model, write, write_set

WINDOW = 768
METADATA = {"cell": "c", "arm": "plain", "precision": "fp32", "seed": 0, "seen_languages": ["de"]}


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return tiny_model(tokenizer, WINDOW)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("public")
    for name in CODES:
        write_set(folder, name)
    return folder


def samples(lm: Any, tasks: list[Task], manager: Any) -> tuple[np.ndarray, list[bool], dict[str, float]]:
    """Log-likelihoods and greediness of every option in order, and lm-eval's own accuracy."""
    with quiet():
        found = lm_eval.simple_evaluate(lm, tasks=list(tasks), task_manager=manager, bootstrap_iters=0)
    assert found is not None
    docs = [doc for task in tasks for doc in sorted(found["samples"][task.task_name], key=lambda d: d["doc_id"])]
    scores = [score for doc in docs for score in doc["filtered_resps"]]
    accuracy = {name: result["acc,none"] for name, result in found["results"].items()}
    return np.array([value for value, _ in scores]), [greedy for _, greedy in scores], accuracy


def assert_equals_stock(
    tasks: list[Task], manager: Any, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> float:
    given: dict[str, Any] = {"pretrained": model, "tokenizer": tokenizer, "max_length": WINDOW, "batch_size": 8}
    expected, expected_greedy, expected_accuracy = samples(HFLM(**given), tasks, manager)
    ours = EcrLM(**given)
    found, greedy, accuracy = samples(ours, tasks, manager)
    worst = float(np.abs(found - expected).max())
    assert worst <= 1e-4 and greedy == expected_greedy and accuracy == expected_accuracy
    records = evaluate(ours, tasks, metadata=METADATA, task_manager=manager)
    for task in tasks:
        right = [record["correct"] for record in records if record["task_name"] == task.task_name]
        assert np.mean(right) == pytest.approx(expected_accuracy[task.task_name])
    return worst


@pytest.mark.parametrize("name", list(CODES))
def test_without_control_tokens_equals_stock(
    name: str, root: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    tasks, manager = public_tasks([name], root)
    assert [task.task_name for task in tasks] == [PUBLIC_TASKS.get(name).prefix + code for code in CODES[name]]
    assert_equals_stock(tasks, manager, model, tokenizer)
    golds = {record["gold"] for record in evaluate(EcrLM(model, tokenizer=tokenizer), tasks, metadata=METADATA)}
    assert len(golds) > 1 or name == "multiblimp"  # a gold read wrongly as the first option would show


@pytest.mark.parametrize(("name", "codes"), [("xcopa", ("it", "th", "zh")), ("sib200", ("de", "ja", "sw"))])
def test_without_control_tokens_equals_stock_on_the_real_files(
    name: str, codes: tuple[str, ...], model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name}: the real {name} files are not here")
    tasks, manager = public_tasks([f"{name}_{code}" for code in codes], DATA, limit=40)
    assert [len(task.eval_docs) for task in tasks] == [40] * 3
    assert_equals_stock(tasks, manager, model, tokenizer)


# --- what a record needs ---------------------------------------------------------------------------


def clusters(name: str, root: Path) -> list[list[str]]:
    return [list(task.eval_docs["cluster"]) for task in public_tasks([name], root)[0]]


@pytest.mark.parametrize("name", [name for name in CODES if PUBLIC_TASKS.get(name).cluster.parallel])
def test_the_same_item_in_two_languages_is_one_cluster(name: str, root: Path) -> None:
    first, second = clusters(name, root)
    assert first == second
    assert len(set(first)) == {"xnli": 4, "belebele": 6}.get(name, 12)


def test_items_of_one_premise_passage_or_schema_are_one_cluster(root: Path) -> None:
    xnli = clusters("xnli", root)[0]
    assert xnli[0] == xnli[1] == xnli[2] != xnli[3]
    belebele = clusters("belebele", root)[0]
    assert belebele[0] == belebele[1] != belebele[2]
    english, japanese = clusters("xwinograd", root)
    assert english[0] == english[1] != english[2] and not set(english) & set(japanese)
    assert not set(clusters("multiblimp", root)[0]) & set(clusters("multiblimp", root)[1])


def test_records_know_language_grain_and_chance(
    root: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    lm = EcrLM(model, tokenizer=tokenizer, max_length=WINDOW)
    for public in all_public_tasks():
        tasks, manager = public_tasks([public.name], root, limit=2)
        for record in evaluate(lm, tasks, metadata=METADATA, task_manager=manager):
            assert (record["task"], record["grain"]) == (public.name, public.grain)
            assert record["lang"] in ("de", "zh", "it", "en", "ru", "ja") and record["target_lang"] == record["lang"]
            assert record["group"] == ("seen" if record["lang"] == "de" else "unseen")
            assert len(record["loglikelihoods"]) == public.options
            assert record["control_tokens"] == []


def test_fields_of_the_set_that_are_called_as_ours_do_not_get_in_the_way(root: Path) -> None:
    """MultiBLiMP has a column ``lang`` of its own."""
    (task, _), _ = public_tasks(["multiblimp"], root, limit=1)
    assert task.eval_docs[0]["lang"] == "de"


# --- names -----------------------------------------------------------------------------------------


def test_languages_have_one_code_each() -> None:
    for public in all_public_tasks():
        langs = [member.lang for member in members(public)]
        assert len(set(langs)) == len(langs) > 5, public.name
    names = ["xwinograd_jp", "belebele_deu_Latn", "belebele_zho_Hant", "multiblimp_deu"]
    assert [member.lang for member in find(names)] == ["ja", "de", "zh-Hant", "de"]


def test_a_task_may_be_named_with_either_code() -> None:
    names = ["belebele_de", "paws_de", "pawsx_ja", "xwinograd_ja", "sib200_sw", "global_mmlu_de", "belebele_deu_Latn"]
    assert [member.task_name for member in find(names)] == [
        "belebele_deu_Latn", "paws_de", "paws_ja", "xwinograd_jp", "sib200_swh_Latn", "global_mmlu_de",
    ]  # fmt: skip
    belebele = {member.code for member in find(["belebele"])}
    assert {member.code for member in find(["sib200"])} < belebele


# --- the hub -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CODES))
def test_from_the_hub_the_same_documents_make_the_same_prompts(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hub would give, with its other columns and splits, against the files of the same documents."""
    asked: list[tuple[str, str]] = []

    def load_dataset(path: str, name: str, **_: Any) -> dict[str, Dataset]:
        asked.append((path, name))
        rows = documents(public.name, 12, CODES[public.name].index(name))
        other = Dataset.from_list(rows[:1])
        return dict.fromkeys(("train", "validation", "dev"), other) | {public.splits[0]: Dataset.from_list(rows)}

    public = PUBLIC_TASKS.get(name)
    monkeypatch.setattr("lm_eval.api.task.datasets.load_dataset", load_dataset)
    hub, _ = public_tasks([public.prefix + code for code in CODES[name]])
    local, _ = public_tasks([name], root)
    assert [code for _, code in asked] == list(CODES[name])
    assert len({path.rpartition("/")[2] for path, _ in asked}) == 1
    for there, here in zip(hub, local, strict=True):
        assert len(there.eval_docs) == 12
        for one, other in zip(there.eval_docs, here.eval_docs, strict=True):
            assert one["cluster"] == other["cluster"]
            assert there.fewshot_context(one, 0) == here.fewshot_context(other, 0)
            assert there.doc_to_choice(one) == here.doc_to_choice(other)  # type: ignore[attr-defined]
            assert there.doc_to_target(one) == here.doc_to_target(other)


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("xcopa", {"premise": None}, ["test.jsonl:1", "no field 'premise'", "choice1"]),
        ("xcopa", {"label": 2}, ["test.jsonl:1", "'label' is 2", "0, 1"]),
        ("xcopa", {"label": True}, ["'label' is True", "0, 1"]),
        ("xcopa", {"choice1": ""}, ["'choice1' must be text"]),
        ("xcopa", {"premise": 7}, ["'premise' must be text", "int"]),
        ("sib200", {"category": "cooking"}, ["'category' is 'cooking'", "'travel'"]),
        ("xwinograd", {"sentence": "no gap"}, ["'sentence' must be text with '_'", "no gap"]),
        ("belebele", {"correct_answer_num": 3}, ["'correct_answer_num' is 3", "'1', '2', '3', '4'"]),
        ("global_mmlu", {"answer": "E"}, ["'answer' is 'E'", "'A', 'B', 'C', 'D'"]),
    ],
)
def test_a_bad_document_is_named(name: str, change: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    path = tmp_path / name / CODES[name][0] / f"{PUBLIC_TASKS.get(name).splits[0]}.jsonl"
    write(path, [{**documents(name, 1)[0], **change}])
    with pytest.raises(UserError) as caught:
        public_tasks([name], tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_missing_files_and_names(root: Path, tmp_path: Path) -> None:
    cases: list[tuple[list[str], Path | None, list[str]]] = [
        (["xcop"], root, ["unknown public task 'xcop'", "xcopa", "global_mmlu"]),
        (["xcopa_xx"], root, ["unknown xcopa task 'xcopa_xx'", "xcopa_it"]),
        (["xcopa"], tmp_path / "none", ["--data-dir", "no such folder"]),
        (["xcopa"], tmp_path, ["xcopa", "no folder of a language", "xcopa/LANGUAGE/test.jsonl", "premise"]),
        (["xcopa_et"], root, ["no such file", "xcopa/et", "test.jsonl"]),
        (["xnli_de"], None, ["facebook/xnli", "hub", "--data-dir"]),
    ]
    for names, folder, words in cases:
        with pytest.raises(UserError) as caught:
            public_tasks(names, folder)
        assert all(word in str(caught.value) for word in words), caught.value
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="limit 0"):
        public_tasks(["xcopa"], root, limit=0)
    write(tmp_path / "xcopa" / "en" / "test.jsonl", documents("xcopa"))
    with pytest.raises(UserError, match=r"xcopa/en: lm-eval has no xcopa in this language: allowed are et, ht"):
        public_tasks(["xcopa"], tmp_path)
    (tmp_path / "xcopa" / "en").rename(tmp_path / "xcopa" / "it")
    (tmp_path / "xcopa" / "it" / "test.jsonl").write_text("")
    with pytest.raises(UserError, match=r"test.jsonl: empty"):
        public_tasks(["xcopa"], tmp_path)
    (tmp_path / "xcopa" / "it" / "test.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"test.jsonl:1: not JSON"):
        public_tasks(["xcopa"], tmp_path)


def test_a_set_without_one_usable_document_is_one_line(tmp_path: Path) -> None:
    empty = [{**doc, "sentence2": ""} for doc in documents("pawsx", 2)]
    write(tmp_path / "pawsx" / "de" / "test.jsonl", empty)
    with pytest.raises(UserError, match=r"paws_de: cannot load .*test.jsonl"):
        public_tasks(["pawsx"], tmp_path)


def test_undeclared_text_and_codes_only_are_refused(
    root: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditioner = Conditioner(tokenizer, ConstantCodes(2, 4), ControlTokens(len(tokenizer), 4), 2)
    xcopa, xnli = (public_tasks([name], root, limit=1)[0] for name in ("xcopa", "xnli"))
    check_conditioning([*xcopa, *xnli], conditioner)
    codes_only = Conditioner(tokenizer, ConstantCodes(2, 4), ControlTokens(len(tokenizer), 4), 2, drop_cue=True)
    check_conditioning(xcopa, codes_only)
    with pytest.raises(UserError, match="xnli_de: this model must not see the text"):
        check_conditioning(xnli, codes_only)
    monkeypatch.delitem(CUES, "xcopa_")
    with pytest.raises(UserError, match=r"xcopa_it: which of its text .* ecr_bench.ecr.cue.CUES .*--no-ecr"):
        check_conditioning(xcopa, conditioner)
    check_conditioning(xcopa, None)


def _with_examples(root: Path, name: str, split: str, count: int) -> None:
    """A split beside the one that is scored, in each language."""
    for seed, code in enumerate(CODES[name]):
        write(root / name / code / f"{split}.jsonl", documents(name, count, 100 + seed))


@pytest.mark.parametrize(("name", "split"), [("xcopa", "validation"), ("xnli", "train"), ("sib200", "validation")])
def test_examples_are_stock_and_the_same_for_every_item(
    name: str, split: str, tmp_path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    write_set(tmp_path, name, 6)
    _with_examples(tmp_path, name, split, 4)
    tasks, manager = public_tasks([name], tmp_path, shots=2)
    bare, _ = public_tasks([name], tmp_path)
    for task, without in zip(tasks, bare, strict=True):
        contexts = [task.fewshot_context(doc, 2) for doc in task.eval_docs]
        ends = [without.fewshot_context(doc, 0) for doc in without.eval_docs]
        starts = {whole.removesuffix(end) for whole, end in zip(contexts, ends, strict=True)}
        assert len(starts) == 1 and len(starts.pop()) > 20
    assert_equals_stock(tasks, manager, model, tokenizer)


def test_examples_that_are_not_there(tmp_path: Path) -> None:
    write_set(tmp_path, "xcopa", 4)
    write_set(tmp_path, "xwinograd", 4)
    with pytest.raises(UserError, match=r"xwinograd_en has no split but 'test'"):
        public_tasks(["xwinograd"], tmp_path, shots=1)
    with pytest.raises(UserError, match=r"no such file: .*validation\.jsonl"):
        public_tasks(["xcopa"], tmp_path, shots=1)
    _with_examples(tmp_path, "xcopa", "validation", 2)
    with pytest.raises(UserError, match=r"--num-fewshot 3: xcopa_it has 2 examples"):
        public_tasks(["xcopa"], tmp_path, shots=3)
    with pytest.raises(UserError, match=r"--num-fewshot -1: must be 0 or more"):
        public_tasks(["xcopa"], tmp_path, shots=-1)
