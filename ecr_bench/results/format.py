"""What a folder of results holds: its files, the classes that are written to them, the columns of the records.

The page docs/reference/results-format.md is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ecr_bench.evaluation.records import SCHEMA
from ecr_bench.results.ablation_schema import AblationResult
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.claim_schema import ClaimsReport
from ecr_bench.results.files import ABLATION, BOARD, CELLS, CLAIMS, MEASURES, RECORDS, RUN, TIMINGS, Manifest
from ecr_bench.results.schema import Board
from ecr_bench.results.timings import Timing
from ecr_bench.types import Measure


@dataclass(frozen=True)
class DataFile:
    """A file that a run is read from."""

    name: str
    about: str
    kind: type[Any] | None = None
    """Class whose fields are its keys; None for one that is no JSON."""
    many: bool = False
    """Whether it is a list of them."""
    always: bool = True


FILES = (
    DataFile(RUN, "what the folder holds; written last, so that a folder without it is no finished run", Manifest),
    DataFile(RECORDS, "one row per cell, precision and item: every other number of a board follows from these"),
    DataFile(CELLS, "what each cell cost at each precision", CellCosts, many=True),
    DataFile(MEASURES, "what is measured of cells beside accuracy", Measure, many=True),
    DataFile(BOARD, "leaderboard, differences and verdict", Board),
    DataFile(CLAIMS, "the claims of the paper, judged on this run", ClaimsReport),
    DataFile(TIMINGS, "times that `ecr-bench time` measured to be compared", Timing, many=True, always=False),
    DataFile(ABLATION, "accuracy along the axis of an ablation", AblationResult, always=False),
)

RECORD_COLUMNS = {
    "cell": "name of the cell: arm and seed, then the arm's settings",
    "arm": "printed form of the arm: a key into the table of arms in run.json",
    "precision": "fp32, bf16, int8 or nf4",
    "seed": "of fine-tuning",
    "task": "a single task: intent, slot, meaning, or the name of a public benchmark",
    "task_name": "the same in one language, as lm-eval knows it",
    "grain": "coarse (a few codes may suffice) or fine (the text must be read); empty for public tasks",
    "group": "seen or unseen: languages with and without labelled training rows",
    "lang": "language of the text",
    "target_lang": "language of the options, where these are sentences; else that of the text",
    "item_id": "name of the item, the same in every cell, precision and run of the same items",
    "cluster": "items with the same value are resampled together",
    "topic": "what the text is about, by its label; empty where a benchmark has none",
    "control_tokens": "ids of the control tokens in the prompt; empty without any",
    "extra_tokens": "how many they are",
    "loglikelihoods": "of each option after the prompt, in nats",
    "choice_bytes": "length of each option in UTF-8 bytes",
    "gold": "index of the right option",
    "predicted": "index of the option with the highest log-likelihood, the first of several",
    "correct": "whether that one is right",
}
"""Column of the records -> what it holds."""
assert [*RECORD_COLUMNS] == SCHEMA.names
