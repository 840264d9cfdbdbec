"""What ten times as many rows cost: seconds and peak memory of the stages that read a whole corpus, up to a million.

The rows are made up: words of sixteen languages, drawn as words are (Zipf). Each stage runs in a process of its own,
with a small model and a quick teacher, so that what grows with the rows is what is seen. ``python -m benchmarks.corpus
results/speed/speed.json docs/scale.svg`` draws what was measured.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Options, Result, memory_of

SIZES = (10_000, 100_000, 1_000_000)
LANGUAGES, WORDS, LONGEST = 16, 4000, 12
STEPS = 20
PACKAGES = ("transformers", "datasets", "pandas", "lightning", "sklearn.feature_extraction.text", "scipy.sparse")
Reset = Callable[[], None]


def made_up(rows: int) -> Iterator[Any]:
    """Sentences of 3 to LONGEST words; each meaning in all languages, each row a text of its own."""
    from ecr_bench.corpora.base import RawRow

    rng = np.random.default_rng(0)
    for start in range(0, rows, 10_000):
        count = min(10_000, rows - start)
        lengths = rng.integers(3, LONGEST + 1, count)
        words = rng.zipf(1.3, (count, LONGEST)) % WORDS
        for row in range(count):
            number = start + row
            lang = f"{chr(97 + number % LANGUAGES)}{chr(97 + number % LANGUAGES)}"
            text = " ".join(f"{lang}{word:x}" for word in words[row, : lengths[row]])
            meaning = f"m{number // LANGUAGES}"
            yield RawRow(f"{text} {number:x}", lang, meaning, f"label{number % 40}", meaning)


def corpus(folder: Path, rows: int) -> None:
    from ecr_bench.corpora.base import from_rows
    from ecr_bench.sections import CorpusConfig

    config = CorpusConfig(name="files", rows=rows)
    from_rows(made_up(rows), config=config, source="made up", licence="none").save(folder / "corpus")


def tokenizer(folder: Path, rows: int) -> None:
    from ecr_bench.sections import TokenizerConfig
    from ecr_bench.stages.tokenizer import TokenizerInputs, TokenizerSettings, TokenizerStage

    settings = TokenizerSettings(trained=TokenizerConfig(vocab_size=4000))
    TokenizerStage.run(settings, TokenizerInputs(folder), folder, _quiet)


def anchors(folder: Path, rows: int) -> None:
    """All rows are embedded, where a run takes 20,000 unless told otherwise."""
    from ecr_bench.sections import AnchorsConfig, ProjectionConfig
    from ecr_bench.stages.anchors import AnchorsInputs, AnchorsSettings, AnchorsStage
    from ecr_bench.stages.teacher import TeacherSettings

    settings = AnchorsSettings(
        teacher=TeacherSettings(name="bag", options={"dim": 256}),
        rows=rows,
        anchors=AnchorsConfig(k=256),
        projection=ProjectionConfig(options={"rank": 32}),
        count=4,
    )
    AnchorsStage.run(settings, AnchorsInputs(folder, folder), folder, _quiet)


def base(folder: Path, rows: int) -> None:
    """A few steps: what is measured is what comes before the first."""
    from ecr_bench.config import PretrainConfig
    from ecr_bench.methods.recipe import Recipe
    from ecr_bench.sizes import SizeConfig
    from ecr_bench.stages.base_model import BaseInputs, BaseSettings, BaseStage
    from ecr_bench.stages.ingredients import RecipeReads, RecipeSettings

    settings = BaseSettings(
        size=SizeConfig(hidden_size=32, layers=1, heads=2, intermediate_size=64),
        pretrain=PretrainConfig(steps=STEPS, batch_size=16),
        reads=RecipeReads(recipe=RecipeSettings.of(Recipe.of("finetune"))),
    )
    BaseStage.run(settings, BaseInputs(folder, folder), folder, _quiet)


STAGES = {"corpus": corpus, "tokenizer": tokenizer, "anchors": anchors, "base": base}


def _quiet(done: int, total: int) -> None:
    pass


def work(reset: Reset, stage: str, folder: Path, rows: int) -> None:
    """Run one stage; its seconds are left in the folder."""
    import os

    from ecr_bench.quiet import quiet_libraries

    os.environ["ECR_BENCH_CACHE"] = str(folder / "cache")
    quiet_libraries()
    for name in PACKAGES:  # what is imported is no cost of the rows
        importlib.import_module(name)
    reset()
    started = time.perf_counter()
    STAGES[stage](folder, rows)
    (folder / "seconds").write_text(str(time.perf_counter() - started))


def run(options: Options) -> Iterator[Result]:
    found: dict[str, dict[int, tuple[float, int]]] = {stage: {} for stage in STAGES}
    for rows in (500, 5000) if options.small else SIZES:
        with tempfile.TemporaryDirectory(prefix="ecr-bench-") as place:
            folder = Path(place)
            for stage in STAGES:
                used = memory_of(work, stage, folder, rows)
                found[stage][rows] = (float((folder / "seconds").read_text()), used)
    for stage, by_rows in found.items():
        yield _growth(stage, by_rows)


def _growth(stage: str, by_rows: dict[int, tuple[float, int]]) -> Result:
    """Seconds of the largest size over ten times those of the one before."""
    *_, before, last = by_rows
    value = by_rows[last][0] / by_rows[before][0] / (last / before)
    beside: dict[str, Any] = {f"s at {rows:,}": round(seconds, 2) for rows, (seconds, _) in by_rows.items()}
    beside |= {f"MB at {rows:,}": round(used / 1e6) for rows, (_, used) in by_rows.items()}
    return Result(f"rows x 10: {stage}", "linear growth", value, value, value, 1.15, at_least=False, beside=beside)


def draw(measured: Path, picture: Path) -> None:
    """Seconds and peak memory by rows, both axes logarithmic, from what ``python -m benchmarks`` wrote."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = json.loads(measured.read_text(encoding="utf-8"))["benchmarks"]["corpus"]["rows"]
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, unit, label in zip(axes, ("s", "MB"), ("seconds", "peak memory, MB"), strict=True):
        for row in rows:
            points = {
                int(key.removeprefix(f"{unit} at ").replace(",", "")): value
                for key, value in row["beside"].items()
                if key.startswith(f"{unit} at ")
            }
            axis.loglog(list(points), list(points.values()), marker="o", label=row["what"].removeprefix("rows x 10: "))
        axis.set(xlabel="rows", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(picture)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
