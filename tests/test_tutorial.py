"""The tutorial is run line by line, and the examples and the notebook on what it leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers.outside import ROOT

pytestmark = pytest.mark.slow
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TUTORIAL, re.S) for line in block.splitlines()]


def shell(line: str, folder) -> str:
    """One line of the tutorial, with this Python and this package."""
    python = f'"{sys.executable}"'
    line = re.sub(r"^python ", f"{python} ", re.sub(r"^ecr-bench ", f"{python} -m ecr_bench.cli ", line))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "ECR_BENCH_RUN": "runs/lamps"}
    done = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder after all lines of the tutorial, and what each printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name in ("own_data.py", "own_data.yaml"):
        shutil.copy(ROOT / "docs" / "examples" / name, folder)
    return folder, {line: shell(line, folder) for line in COMMANDS}


def test_it_ends_with_the_verdict_it_promises(followed):
    _, printed = followed
    flat = " ".join(printed["ecr-bench run own_data.yaml"].split())
    promised = re.search(r"On these sentences it is: \*\*(.*?)\*\*", TUTORIAL)
    assert promised and f"all tasks: {promised[1]}" in flat
    assert "translations by meaning: 1,296 of 1,296 rows" in printed["ecr-bench data files --set path=lamps.jsonl"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read_a_run", "runs/lamps"),
        ("use_a_bundle", "lamp-bundle"),
        ("measure_in_a_loop", "lamp-bundle"),
        ("train_with_lightning", "lamp-bundle"),
        ("score_a_bundle", "lamp-bundle ITEMS ecr_label_fr"),
    ],
)
def test_the_examples_run(followed, name, arguments):
    folder, _ = followed
    items = next((folder / "runs" / "store" / "items").glob("*/test"))
    assert shell(f'python "{ROOT}/examples/{name}.py" {arguments.replace("ITEMS", str(items))}', folder).strip()


def test_the_notebook_runs(followed, monkeypatch):
    folder, _ = followed
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ECR_BENCH_RUN", "runs/lamps")
    cells = json.loads((ROOT / "examples" / "explore_a_run.ipynb").read_text(encoding="utf-8"))["cells"]
    namespace: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), namespace)
    assert len(namespace["figures"]) == 3 and str(namespace["compared"])
