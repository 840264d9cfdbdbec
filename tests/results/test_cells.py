"""Costs of cells: what cannot be a count, or a time, is one line before anything divides by it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from ecr_bench.arm import Arm
from ecr_bench.errors import UserError
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.files import CELLS, read_manifest, write_manifest
from ecr_bench.verify import verify
from tests.helpers.world import arm, make, run_of

POSITIVE = ("parameters", "bytes", "disk_bytes")
FROM_0 = ("side_parameters", "side_bytes", "scoring_memory", "extra_tokens", "steps", "tokens", "peak_memory")
FLOATS = ("train_seconds", "grad_norm_median", "grad_norm_max")
WRONG: dict[str, tuple[str, int]] = {
    **{f"no {name}": (name, 0) for name in (*POSITIVE, "ms_per_item")},
    **{f"negative {name}": (name, -7) for name in (*POSITIVE, "ms_per_item", *FROM_0, *FLOATS)},
    **{f"endless {name}": (name, 10**400) for name in (*POSITIVE, *FROM_0)},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "quick"
    run_of(make({"finetune-1x": 0.45, "finetune-3x": 0.5, "ecr-1x": 0.75}, items=6, seeds=2)).write(folder)
    return folder


@pytest.mark.parametrize("case", WRONG)
def test_a_cost_that_cannot_be_is_one_line(case: str, whole: Path, tmp_path: Path) -> None:
    name, value = WRONG[case]
    folder = Path(shutil.copytree(whole, tmp_path / "quick"))
    cells = json.loads((folder / CELLS).read_text())
    for cell in cells:
        cell[name] = value
    (folder / CELLS).write_text(json.dumps(cells))
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.name, [Arm.from_json(one) for one in manifest.arms], manifest.files)
    with pytest.raises(UserError, match=rf"cells\.json: 0\.{name}: Input should be (greater|less) than") as caught:
        verify(folder)
    assert "\n" not in str(caught.value)


def test_nothing_and_what_was_not_measured_are_costs() -> None:
    names: dict[str, Any] = {"cell": "a", "arm": arm("ecr-1x"), "seed": 0, "precision": "fp32"}
    costs: dict[str, Any] = dict.fromkeys((*FROM_0, *FLOATS), 0) | dict.fromkeys((*POSITIVE, "ms_per_item"))
    made = CellCosts(**names, **costs)
    assert made.side_bytes == 0 and made.bytes is None
    assert CellCosts(**names, ms_per_item=math.nan).ms_per_item is None
