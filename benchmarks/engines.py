"""Does an engine change a record? ``python -m benchmarks.engines quick --engine ray`` runs quick here and there.

Prints the columns in which a record differs; exit code 1 where there are any.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from ecr_bench.config import load, parse_set
from ecr_bench.engines.registry import ENGINES, Wanted, engine_of
from ecr_bench.publish import Execution, run_and_publish
from ecr_bench.runner.engine import Engine


def records(name: str, overrides: dict[str, Any], out: Path, engine: Engine, console: Console) -> pd.DataFrame:
    """Per-item records of a run that shares no stage with another one."""
    return run_and_publish(load(name).with_overrides(overrides), Execution(out, console, engine)).records()


def differing(here: pd.DataFrame, there: pd.DataFrame) -> list[str]:
    """Columns that are not the same bit for bit; all of them where the rows are not as many."""
    if len(here) != len(there):
        return list(here.columns)
    columns = list(dict.fromkeys([*here.columns, *there.columns]))
    return [name for name in columns if name not in here or name not in there or not here[name].equals(there[name])]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("experiment", help="name or file")
    parser.add_argument("--engine", default="ray", choices=sorted(set(ENGINES) - {"local"}))
    parser.add_argument("--address", help="of its cluster")
    parser.add_argument("--workers", type=int, default=2, help="of both")
    parser.add_argument("--set", nargs="+", default=[], help="overrides")
    parser.add_argument("--out", type=Path, default=Path("runs/engines"), help="folder; the runs in it go on")
    chosen = parser.parse_args()
    console, overrides = Console(), parse_set(chosen.set)
    engines = {
        "local": engine_of("local", Wanted(chosen.workers)),
        chosen.engine: engine_of(chosen.engine, Wanted(chosen.workers, chosen.address)),
    }
    here, there = (
        records(chosen.experiment, overrides, chosen.out / name, engine, console) for name, engine in engines.items()
    )
    found = differing(here, there)
    print(f"{chosen.experiment}: {len(here)} records; columns that differ: {', '.join(found) or 'none'}")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
