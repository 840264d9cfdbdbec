"""The shape of the package: one direction of imports, small files, a README that tells the truth."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ecr_bench.cli import COMMANDS
from ecr_bench.config import load, shipped
from ecr_bench.methods.models import count_parameters, create_model

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ecr_bench"
ORDER = [
    "corpora", "teachers", "items", "ecr", "data", "methods", "precision", "evaluation", "metrics", "stages", "runner",
    "statistics", "report", "bundle", "cli",
]  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Parts of the package that ``path`` imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("ecr_bench.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_left(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part not in ORDER:
        return
    right = set(ORDER[ORDER.index(part) + 1 :])
    # the oracle control asks the teacher; teachers stand to the left, so that is allowed too
    assert not imports(path) & right


def test_files_stay_small():
    assert not [str(path) for path in FILES if len(path.read_text().splitlines()) > 400]


def test_sizes_are_in_a_ratio_of_three():
    class Tokenizer:
        bos_token_id, eos_token_id, pad_token_id = 0, 1, 2

        def __len__(self):
            return load("quick").tokenizer.vocab_size

    sizes = load("quick").sizes
    small, large = (count_parameters(create_model(sizes[name], Tokenizer(), 0)) for name in ("1x", "3x"))
    assert large / small == pytest.approx(3, rel=0.05)


def commands() -> list[str]:
    return re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)


def test_readme_has_two_commands_and_they_exist():
    run, test = commands()
    assert run.endswith("ecr-bench run quick") and (shipped("baselines") / "quick.yaml").is_file()
    assert test.endswith("pytest")
    assert test in (ROOT / ".ci" / "run").read_text() or "README.md" in (ROOT / ".ci" / "run").read_text()


def test_readme_names_only_commands_and_files_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"ecr-bench ([a-z]+)", text))
    assert named <= set(COMMANDS), named - set(COMMANDS)
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
    for folder in re.findall(r"^(ecr_bench/\w+) ", text, re.M):
        assert (ROOT / folder).is_dir(), folder


def test_no_sentence_of_the_corpora_is_committed():
    """Test items and corpora are built at run time; the repository holds no data file with text."""
    tracked = [p for ext in ("jsonl", "parquet", "csv") for p in ROOT.rglob(f"*.{ext}")]
    outside = [p for p in tracked if not {".venv", "runs", "store"} & set(p.relative_to(ROOT).parts)]
    assert not [p for p in outside if "results" not in p.parts]
