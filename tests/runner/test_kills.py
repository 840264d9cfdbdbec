"""A run that is killed anywhere, in every way, loses nothing, leaves nothing and ends as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.outside import ROOT

SCRIPT = """
import json, sys
from pathlib import Path
from benchmarks.kills import KINDS, MOMENTS, torment
every = len(KINDS) * len(MOMENTS)
tally = torment(Path(sys.argv[1]), every, seed=1)
print(json.dumps(vars(tally) | {"wanted": every}))
"""
"""Each kind of kill once at each kind of moment; ``benchmarks.reliability`` kills a hundred times."""


@pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc").exists(), reason="forks, and looks at /proc")
@pytest.mark.slow
def test_kills(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ECR_BENCH_CACHE": str(tmp_path / "cache")}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    tally = json.loads(done.stdout.splitlines()[-1])
    assert sum(tally["kills"].values()) == tally["wanted"] >= 28 and tally["runs"]
    for name in ("differing", "lost", "folders", "noise"):
        assert tally[name] == []
    assert tally["processes"] == 0
    assert {"train", "score"} <= tally["during"].keys()
