"""The shape of the package: one direction of imports, small files, a README that tells the truth."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ecr_bench.cli import COMMANDS
from ecr_bench.config import load, shipped
from ecr_bench.methods.models import count_parameters, create_model
from ecr_bench.runner.ablation import load_ablation
from tests.helpers.outside import ROOT

PACKAGE = ROOT / "ecr_bench"
ORDER = [
    "corpora", "teachers", "items", "ecr", "data", "fast", "methods", "precision", "evaluation", "metrics", "stages",
    "runner", "engines", "forecast", "statistics", "results", "run", "verify", "report", "publish", "timing",
    "leaderboard",
    "browse", "bundle", "bitext", "cli",
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


CUTS = {"split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix", "startswith", "endswith"}
NAMES = {"arm", "cell", "method", "size"}
"""What holds the name of an arm or one of its parts, wherever arms are handled."""
SEPARATORS = {"-", "[", "+", "-s"}


def cuts_of_names(tree: ast.AST) -> list[str]:
    """Calls that take a name of an arm apart: at one of the signs it is printed with, or of a variable called so."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in CUTS:
            continue
        owner = call.func.value
        called = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        signs = {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
        cut_at_a_sign = call.func.attr in {"split", "rsplit", "partition", "rpartition"} and signs & SEPARATORS
        if called in NAMES or cut_at_a_sign:
            found.append(ast.unparse(call))
    return found


LANGUAGE_CODES = {"items/pairs.py"}
"""Where a hyphen is that of a language code or of a pair of them."""


BESIDE = [path for name in ("tests", "benchmarks", "docs", "examples") for path in sorted((ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_name_of_an_arm_is_cut(path):
    """An arm is a value: who wants its method or size asks it (arm.py)."""
    if str(path.relative_to(PACKAGE)) not in LANGUAGE_CODES:
        assert cuts_of_names(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_no_test_or_benchmark_cuts_one():
    found = [cut for path in BESIDE for cut in cuts_of_names(ast.parse(path.read_text(encoding="utf-8")))]
    assert [cut for cut in found if ("'-'" in cut or "'['" in cut)] == []


@pytest.mark.parametrize(
    "code",
    ["a.rpartition('-')", "method.split('[')[0]", "c.b.split('-')", "name.rsplit('-', 1)", "arm.startswith(x)"],
)
def test_cutting_a_name_is_found(code):
    assert cuts_of_names(ast.parse(code))


def test_the_public_names_are_there_and_documented():
    import ecr_bench

    for name in ecr_bench.__all__:
        assert getattr(ecr_bench, name).__doc__, name
    assert set(ecr_bench.__all__) <= set(dir(ecr_bench))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ecr_bench.nothing


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "transformers", "pandas", "scipy", "sklearn", "matplotlib", "datasets", "lightning")
    code = f"import sys, ecr_bench; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_how_a_run_is_shown_takes_twelve_files_and_one_renderer_of_each_kind():
    assert len(list((PACKAGE / "report").glob("*.py"))) <= 12
    users = {
        name: {
            str(path.relative_to(PACKAGE))
            for path in FILES
            if re.search(rf"^ *(from|import) {name}\b", path.read_text(), re.M)
        }
        for name in ("rich.table", "matplotlib", "jinja2")
    }
    assert users["rich.table"] == {"table.py"} and users["jinja2"] == {"report/page.py"}
    drawn = {path for path in users["matplotlib"] if path != "run.py"}  # run.py names the type alone
    assert drawn == {f"report/{name}.py" for name in ("drawing", "plots", "svg", "figures")}


def names_of_types(path: Path) -> list[str]:
    """Classes, and capitalised names that stand for a type, at the top of a module."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [t.id for t in targets if isinstance(t, ast.Name) and re.match(r"[A-Z]\w*[a-z]", t.id)]
    return found


def test_one_word_names_one_class():
    """``Options`` that an owner declares inside are the one exception: they are read as ``Owner.Options``."""
    owners: dict[str, list[str]] = {}
    for path in FILES:
        for name in names_of_types(path):
            owners.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert len(owners) > 200 and {name: files for name, files in owners.items() if len(files) > 1} == {}


def test_files_stay_small():
    assert not [str(path) for path in FILES if len(path.read_text().splitlines()) > 400]


def test_tests_lie_in_the_folders_of_what_they_test():
    """A test of a folder of the package lies in the folder of that name; of single modules and of all, at the top."""
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders <= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


class FixedVocabulary:
    bos_token_id, eos_token_id, pad_token_id = 0, 1, 2

    def __init__(self, size: int):
        self.size = size

    def __len__(self):
        return self.size


def parameters(experiment: str, size: str) -> int:
    exp = load(experiment)
    return count_parameters(create_model(exp.sizes[size], FixedVocabulary(exp.tokenizer.vocab_size), 0))


def test_sizes_are_in_a_ratio_of_three():
    assert parameters("quick", "3x") / parameters("quick", "1x") == pytest.approx(3, rel=0.05)
    sizes = load_ablation("size", {}).experiment.sizes
    assert {name: value for name in ("3x", "10x", "30x") if (value := _ratio(sizes, name)) != int(name[:-1])} == {}
    tuned = load("tuning-size").sizes
    assert [tuned[name] for name in ("10x", "30x")] == [
        sizes[name].model_copy(update={"learning_rate": None}) for name in ("10x", "30x")
    ]


def _ratio(sizes, name: str) -> int:
    """Total parameters of a size over those of 1x, rounded."""
    counts = {size: count_parameters(create_model(sizes[size], FixedVocabulary(4000), 0)) for size in ("1x", name)}
    return round(counts[name] / counts["1x"])


def test_the_matched_size_stores_as_many_numbers_as_ecr():
    """Model, rows of the control tokens, projection (idf, table and basis, as ``TokenTable`` counts them), anchors."""
    exp = load("rivals")
    vocabulary, rank, k, dim = exp.tokenizer.vocab_size, exp.projection.options["rank"], exp.anchors.k, 512
    beside = vocabulary + vocabulary * rank + rank * dim + k * dim
    stored = parameters("rivals", "1x") + (k + 1) * exp.sizes["1x"].hidden_size + beside
    assert parameters("rivals", "matched") == pytest.approx(stored, rel=0.01)


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
