"""Load a finished run, compare two arms, draw a figure.  python examples/read_a_run.py [runs/quick]"""

import sys
from pathlib import Path

import ecr_bench as eb
from ecr_bench.report.drawing import save

run = eb.Run.load(sys.argv[1] if len(sys.argv) > 1 else "runs/quick")
print(run.compare("ecr-1x", "finetune-3x"))
records = run.records()
wrong = records[~records.correct].groupby(["arm", "task"]).size()
print(wrong)
save(run.figure("differences"), Path("differences.svg"))
