"""docs/public-tasks.md says what the code does."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from ecr_bench.cli import COMMANDS
from ecr_bench.ecr.cue import CUES, cue_for, cue_of
from ecr_bench.evaluation.public import public_tasks
from ecr_bench.evaluation.public_tasks import PUBLIC_TASKS, all_public_tasks, members
from ecr_bench.plugins import load_plugins
from tests.helpers.outside import ROOT
from tests.helpers.public_sets import write

PAGE = (ROOT / "docs" / "public-tasks.md").read_text(encoding="utf-8")


def rows(header: str) -> dict[str, list[str]]:
    """Cells of the table whose header starts with ``header``, by the first one."""
    table = PAGE.partition(f"| {header}")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table]
    return {first: rest for first, *rest in cells}


def quoted(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


RULES, FILES = rows("task | control tokens see"), rows("task | file")


def test_each_public_task_has_a_row() -> None:
    assert list(RULES) == list(FILES) == list(PUBLIC_TASKS)
    assert {prefix for prefix in CUES if prefix != "ecr_"} == {public.prefix for public in all_public_tasks()}
    assert all(name in (COMMANDS["eval"].__doc__ or "") for name in PUBLIC_TASKS)


@pytest.mark.parametrize("name", list(PUBLIC_TASKS))
def test_a_row_agrees_with_the_code(name: str) -> None:
    public, cue = PUBLIC_TASKS.get(name), cue_for(PUBLIC_TASKS.get(name).prefix)
    sees, clusters, chance, grain, languages, exact = RULES[name]
    assert cue is not None and quoted(sees) == cue.fields and ("null" in sees) == (not cue.fields)
    assert quoted(clusters) == public.cluster.fields and ("position" in clusters) == (not public.cluster.fields)
    assert ("not across languages" in clusters) == (not public.cluster.parallel)
    assert Fraction(chance) == Fraction(1, public.options)
    assert (grain, int(languages)) == (public.grain, len(members(public)))
    ours, stock = (float(number) for number in exact.partition(",")[0].split("; "))
    assert ours <= stock <= 1e-4
    file, fields = FILES[name]
    folder, code, split = quoted(file)[0].split("/")
    assert folder == name and split == f"{public.splits[0]}.jsonl"
    assert code in {key for member in members(public) for key in (member.code, member.lang)}
    assert quoted(fields) == tuple(public.fields)


def test_the_page_on_speed_quotes_this_one() -> None:
    speed = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    ratios = {name: row[-1].partition("x")[0] for name, row in rows("task | items").items()}
    assert all(f"{ratio} ({name})" in speed for name, ratio in ratios.items())


YAML = """
task: mytask_de
dataset_path: json
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: "{{[a, b]}}"
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def test_the_plugin_of_the_page_adds_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PUBLIC_TASKS, "entries", dict(PUBLIC_TASKS.entries))
    monkeypatch.setattr(PUBLIC_TASKS, "help", dict(PUBLIC_TASKS.help))
    monkeypatch.setitem(CUES, "mytask_", CUES["ecr_"])  # so that it is taken out again
    code = PAGE.partition("```python\n")[2].partition("```")[0].replace("/path", str(tmp_path))
    (tmp_path / "plugin.py").write_text(code)
    (tmp_path / "mytask_de.yaml").write_text(YAML)
    write(tmp_path / "mytask" / "de" / "test.jsonl", [{"question": "Why?", "a": "lamp", "b": "door", "label": 1}] * 2)
    load_plugins((str(tmp_path / "plugin.py"),))
    (task,), _ = public_tasks(["mytask"], tmp_path)
    doc = task.eval_docs[1]
    assert (task.task_name, doc["lang"], doc["cluster"]) == ("mytask_de", "de", "mytask:1")
    assert cue_of(task.task_name, doc) == task.fewshot_context(doc, 0) == "Why?"
