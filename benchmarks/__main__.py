"""Run the benchmarks, print a line for each as it is measured, and write ``speed.json`` and ``speed.md``."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.suite import NAMES, run_suite

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=[], help="run these alone, keep other results")
    parser.add_argument("--resume", action="store_true", help="leave out what the folder holds already")
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes: proves that all run")
    parser.add_argument("--out", type=Path, default=Path("results/speed"), help="folder of speed.json and speed.md")
    parser.add_argument("--threads", type=int, default=1, help="torch threads, for ours and for the peers")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for the benchmarks that can use either")
    parser.add_argument(
        "--data", help="folder of public test sets (docs/public-tasks.md), for `public`; of runs, for `forecast`"
    )
    chosen = parser.parse_args()
    if chosen.small and chosen.out == parser.get_default("out"):
        parser.error(f"--small writes numbers that mean nothing: give another folder than {chosen.out} with --out")
    raise SystemExit(run_suite(**vars(chosen)))
