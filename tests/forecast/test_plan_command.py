"""``ecr-bench plan`` from end to end: probes, a second plan at once, a profile taken along, and the run it foretold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ecr_bench.cli import main
from ecr_bench.forecast import plan as planning
from ecr_bench.forecast import probe
from ecr_bench.forecast.hardware import Hardware
from ecr_bench.forecast.kept import read_kept
from tests.helpers.commands import fails

pytestmark = pytest.mark.slow
YAML = """\
extends: tiny
name: planned
teacher: {name: bag, rows: 200}
precisions: [fp32]
pretrain: {steps: 40}
finetune: {steps: 30}
geometry: {measure: false}
cells:
  - {method: finetune}
  - {method: ecr, seeds: [0, 1]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("planned")
    (made / "planned.yaml").write_text(YAML)
    return made


def arguments(folder: Path, *more: str) -> list[str]:
    return ["plan", str(folder / "planned.yaml"), "--out", str(folder / "runs"), "--workers", "1", *more]


def kinds(folder: Path) -> set[str]:
    return {path.parent.parent.name for path in (folder / "runs" / "store").glob("*/*/done.json")}


def test_what_a_plan_says_comes_true(folder, capsys, monkeypatch):
    monkeypatch.setenv("ECR_BENCH_CACHE", str(folder / "cache"))
    profile = folder / "here.json"
    main(arguments(folder, "--save-profile", str(profile)))
    said = capsys.readouterr().out
    (answer,) = [line for line in said.splitlines() if line.startswith("plan:")]
    assert said.splitlines()[-1] == answer and "with 1 worker" in answer and "unknown" not in answer
    assert not kinds(folder) & {"base", "train", "score"} and {"corpus", "tokenizer", "anchors"} <= kinds(folder)

    monkeypatch.setattr(probe, "execute", None)  # nothing runs from here on
    main(arguments(folder, "--json"))
    found = json.loads(capsys.readouterr().out)
    trained = [group for group in found["groups"] if group["kind"] == "train"]
    assert {group["stage"]: group["count"] for group in trained} == {
        "train finetune-1x seed 0": 1,
        "train ecr-1x seed 0": 2,
    }
    assert all(group["parameters"] > 10_000 and group["seconds"] > 0 for group in trained)
    assert all(group["peak_memory"] > 10**7 and group["disk"] > 4 * group["parameters"] for group in trained)
    plain, ecr = trained
    assert ecr["flops"] > plain["flops"] > 10**8 and ecr["extra_tokens"] == 2 * 16 * 30 and not plain["extra_tokens"]
    assert found["flops"] > plain["flops"] + 2 * ecr["flops"] and not found["unknown"]
    assert 0 < found["critical_path_seconds"] <= found["seconds"] and found["disk"] > 0

    main(arguments(folder, "--json", "--hardware", str(profile)))
    assert json.loads(capsys.readouterr().out) == found
    line = fails(capsys, *arguments(folder, "--hardware", str(profile), "--set", "sizes.1x.hidden_size=96"))
    assert "were not measured on" in line and "--save-profile" in line
    line = fails(capsys, *arguments(folder, "--hardware", str(profile), "--save-profile", "x.json"))
    assert "--save-profile" in line

    small = Hardware.here().model_copy(update={"memory": 10**7})
    with monkeypatch.context() as patched:
        patched.setattr(Hardware, "here", classmethod(lambda cls: small))
        assert "here are 10 MB" in fails(capsys, *arguments(folder))
        run = ["run", str(folder / "planned.yaml"), "--out", str(folder / "runs"), "--workers", "1"]
        assert "here are 10 MB" in fails(capsys, *run)
    assert not kinds(folder) & {"base", "train", "score"}

    main(run)
    said = capsys.readouterr().out
    assert "about" in said and " expected, " in said and "training stages" in said
    kept = read_kept(folder / "runs" / "planned")
    assert {one.kind for one in kept.stages} >= {"base", "train", "score"}
    assert kept.expected_seconds is not None and all(one.expected_seconds is not None for one in kept.stages)
    written = (folder / "runs" / "planned" / "plan.json").read_text()
    main(run)  # nothing is left to do, and what was measured stays
    assert (folder / "runs" / "planned" / "plan.json").read_text() == written
    assert "plan:" not in capsys.readouterr().out
    main(arguments(folder))
    assert "plan: nothing to run" in capsys.readouterr().out


def test_an_ablation_can_be_planned(folder, capsys, monkeypatch):
    """Its cells are those of ``ablate``."""
    monkeypatch.setenv("ECR_BENCH_CACHE", str(folder / "cache"))
    asked = []
    monkeypatch.setattr(planning, "answer", lambda request, console: asked.append(request))
    main(["plan", "ablation-absent", "--out", str(folder / "ablations")])
    assert asked[0].experiment.name == "ablation-absent" and len(asked[0].experiment.cells) > 2
