"""Every shipped paper file, run from corpus to board on tiny models of the same classes."""

from __future__ import annotations

import pytest

from ecr_bench.config import load, parse_set
from ecr_bench.quiet import quiet_libraries
from ecr_bench.report.publish import publish
from ecr_bench.runner.plan import make_plan
from ecr_bench.runner.stages import run_stage
from ecr_bench.runner.store import Store
from tests.tiny_models import massive, save, save_encoder

# what makes the shipped budget a matter of seconds; everything else is run as it is in the file
SMALL = ["device=auto", "teacher.rows=300", "anchors.k=96", "projection.rank=8", "finetune.steps=3"]
SMALL += ["finetune.batch_size=8", "finetune.items=24", "scoring.items=1", "geometry.per_language=2"]
SMALL += ["geometry.snapshots=1", "lora.rank=2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrained")
    made = {"data": massive(root / "data"), "encoder": save_encoder(root / "encoder")}
    for kind in ("llama", "qwen2", "qwen3", "gemma3", "gemma3-multimodal"):
        made[kind] = save(kind, root / kind)
        made[f"{kind} 3x"] = save(kind, root / f"{kind}-3x", scale=2)
    return made


def run(name, folders, out, *overrides):
    """The experiment ``name`` in this process, stage by stage; returns its board and its plan."""
    names = [f"corpus.options.path={folders['data']}", f"teacher.options.model={folders['encoder']}"]
    experiment = load(name).with_overrides(parse_set([*names, *SMALL, *overrides]))
    plan, store = make_plan(experiment), Store(out)
    for stage in plan.stages.values():
        for needed in stage.inputs.values():
            assert store.done(needed)
        run_stage(stage, store, lambda done, total: None)
    return publish(plan, store, out / experiment.name), plan


def test_x(folders, tmp_path):
    quiet_libraries()
    board, plan = run(
        "paper-llama3.2", folders, tmp_path,
        f"sizes.1x.model={folders['llama']}", f"sizes.3x.model={folders['llama 3x']}",
    )
    for s in plan.stages.values():
        print(s.label, Store(tmp_path).result(s.id)["seconds"])
