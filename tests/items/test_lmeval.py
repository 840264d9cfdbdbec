"""The YAML tasks: generated, loadable by lm-eval from any folder, scored as the items say."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from ecr_bench.config import shipped
from ecr_bench.errors import UserError
from ecr_bench.items.files import write_items
from ecr_bench.items.lmeval import load, task_specs
from ecr_bench.types import Item

TASKS = shipped("tasks")


class Reader(LM):
    """Gives the highest log-likelihood to the continuation that ``answer`` picks for a context."""

    def __init__(self, answer: dict[str, str]) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[tuple[str, str]] = []

    def loglikelihood(self, requests: list[Instance], **_: Any) -> list[tuple[float, bool]]:
        self.seen += [request.args for request in requests]
        return [(-1.0 if self.answer[c] == o else -5.0, False) for c, o in (request.args for request in requests)]

    def loglikelihood_rolling(self, requests: list[Instance], **_: Any) -> list[float]:
        raise AssertionError("not asked for")

    def generate_until(self, requests: list[Instance], **_: Any) -> list[str]:
        raise AssertionError("not asked for")


def some_items() -> list[Item]:
    """Two items in each of three tasks; the first of each is to be answered right."""
    kinds = (("intent", "de", "de", "intent:"), ("slot", "ru", "ru", "area:"), ("meaning", "ru", "en", "en:"))
    return [
        Item(f"{task}{i}", task, "fine", "c", lang, target, f"satz {i} {task}", question, ("a", "b", "c", "d"), i + 1)
        for task, lang, target, question in kinds
        for i in range(2)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_items(tmp_path / "items", some_items())
    return tmp_path / "items"


def manager(folder: Path, tasks: Path = TASKS) -> TaskManager:
    """A task manager without lm-eval's own tasks."""
    metadata: dict[str, Any] = {"items": str(folder)}
    return TaskManager(include_path=str(tasks), include_defaults=False, metadata=metadata)


def test_files_are_what_the_script_generates(tmp_path: Path) -> None:
    runpy.run_path(str(TASKS / "generate.py"))["main"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}
    assert made == {path.relative_to(TASKS): path.read_text() for path in TASKS.rglob("*.yaml")}
    assert len(made) > 70


def test_every_group_member_exists(folder: Path) -> None:
    index = manager(folder)
    assert {"ecr_all", "ecr_intent", "ecr_slot", "ecr_meaning", "ecr_meaning_ring"} <= set(index.all_groups)
    for path in TASKS.rglob("_group*.yaml"):
        assert set(yaml.safe_load(path.read_text())["task"]) <= set(index.all_tasks)


def test_scores_follow_the_answers(folder: Path) -> None:
    items = some_items()
    answer = {item.prompt: f" {item.choices[1]}" for item in items}
    reader = Reader(answer)
    names = ["ecr_intent_de", "ecr_slot_ru", "ecr_meaning_ru-en"]
    found = lm_eval.simple_evaluate(reader, tasks=names, task_manager=manager(folder), bootstrap_iters=0)
    assert {name: found["results"][name]["acc,none"] for name in names} == dict.fromkeys(names, 0.5)
    assert sorted(reader.seen) == sorted((item.prompt, f" {choice}") for item in items for choice in item.choices)
    sample = found["samples"]["ecr_meaning_ru-en"][0]["doc"]
    assert (sample["item_id"], sample["cluster"], sample["lang"], sample["target_lang"]) == (
        "meaning0",
        "c",
        "ru",
        "en",
    )
    assert sample["text"] == "satz 0 meaning"


def test_tasks_work_from_another_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the wheel, where they lie inside the package, and whatever the working directory."""
    copy = shutil.copytree(TASKS, tmp_path / "ecr_bench" / "_tasks")
    monkeypatch.chdir(tmp_path)
    loaded = manager(folder, copy).load(["ecr_slot_ru"])["tasks"]["ecr_slot_ru"]
    assert [doc["item_id"] for doc in loaded.test_docs()] == ["slot0", "slot1"]


def test_languages_without_a_file(folder: Path) -> None:
    items = [Item("h", "intent", "coarse", "c", "hu", "hu", "mondat", "intent:", ("a", "b", "c", "d"), 2)]
    write_items(folder, items)
    specs = task_specs(["ecr_intent_hu"], TASKS)
    loaded = manager(folder).load(specs)["tasks"]
    assert [doc["gold"] for doc in loaded["ecr_intent_hu"].test_docs()] == [2]
    assert task_specs(["ecr_intent_de"], TASKS) == ["ecr_intent_de"]
    with pytest.raises(UserError, match="unknown task 'ecr_rhyme_de'"):
        task_specs(["ecr_rhyme_de"], TASKS)


def test_missing_items_name_the_remedy(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--metadata"):
        load("ecr_intent_de")
    with pytest.raises(UserError, match="ecr-bench run"):
        manager(tmp_path / "nowhere").load(["ecr_intent_de"])
    with pytest.raises(UserError, match=r"'ecr_intent_fr' in .* it has ecr_intent_de"):
        manager(folder).load(["ecr_intent_fr"])
