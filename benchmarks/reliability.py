"""Write the table of docs/reliability.md: a small run killed again and again (``benchmarks.kills``).

python -m benchmarks.reliability --kills 100
"""

from __future__ import annotations

import argparse
import datetime
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kills import MOST, Tally, torment
from ecr_bench.io import write_text
from ecr_bench.runner.provenance import cpu

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- measured: python -m benchmarks.reliability -->", "<!-- end of measured -->"


def table(tally: Tally, seeds: Sequence[int]) -> str:
    """What came of it, in Markdown."""
    during = ", ".join(f"{name} {count}" for name, count in tally.during.most_common())
    lines = [
        ("kills", f"{sum(tally.kills.values())}"),
        *((f"- {name}", str(count)) for name, count in sorted(tally.kills.items())),
        ("stages at work when killed", during),
        ("kills with a checkpoint or finished part to go on from", str(tally.resumed)),
        ("runs brought to their end and compared", str(tally.runs)),
        ("files and results that differ from the undisturbed run", str(len(tally.differing))),
        ("finished stages lost or made twice", str(len(tally.lost))),
        (f"processes left {MOST:.0f} s after their parent", str(tally.processes)),
        ("longest time until the last was gone", f"{tally.slowest:.2f} s"),
        ("temporary files and folders left at the end of a run", str(len(tally.folders))),
        ("kills that said more than one line, or ended with another exit code", str(len(tally.noise))),
    ]
    today = datetime.datetime.now(datetime.UTC).date()
    drawn = ", ".join(map(str, seeds))
    head = f"Measured on {today}, {os.cpu_count()} cores of {cpu()}, seeds {drawn}.\n\n| | |\n|---|---|\n"
    return head + "".join(f"| {name} | {value} |\n" for name, value in lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="for each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 7])
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown file whose table is written anew")
    chosen = parser.parse_args()
    tally = Tally()
    for seed in chosen.seeds:
        with tempfile.TemporaryDirectory(prefix="ecr-bench-kills-") as folder:
            os.environ["ECR_BENCH_CACHE"] = str(Path(folder) / "cache")
            tally.add(torment(Path(folder), chosen.kills, seed, lambda line: print(line, flush=True)))
    text = chosen.page.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    write_text(chosen.page, f"{before}\n{table(tally, chosen.seeds)}{after}")
    for line in (*tally.differing, *tally.lost, *tally.folders, *tally.noise):
        print(line)


if __name__ == "__main__":
    main()
