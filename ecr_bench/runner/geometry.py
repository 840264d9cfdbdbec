"""Stages that measure finished cells beside accuracy: geometry, semantic similarity, stability."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from ecr_bench.config import TeacherConfig
from ecr_bench.corpora.base import Corpus
from ecr_bench.data.parallel import COLUMNS, parallel_rows
from ecr_bench.errors import UserError
from ecr_bench.evaluation.geometry import Embed, Encoder, open_base, open_encoder
from ecr_bench.evaluation.records import read_records
from ecr_bench.evaluation.sts import read_sts
from ecr_bench.io import read_json
from ecr_bench.items.files import read_items
from ecr_bench.metrics import suite
from ecr_bench.metrics.files import FILE, write_measures
from ecr_bench.metrics.options import aligned_scores
from ecr_bench.metrics.suite import Rows, Taken
from ecr_bench.runner.anchoring import _with_own_model
from ecr_bench.teachers.cache import embed_cached
from ecr_bench.teachers.registry import create
from ecr_bench.types import Measure

ROWS, TEACHER = "rows.parquet", "teacher.safetensors"


def parallel_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Draw the parallel rows and embed them with the teacher, once for all cells."""
    corpus = Corpus.load(inputs["corpus"] / "corpus").dataset.to_pandas()
    rows = parallel_rows(corpus, spec["per_language"])
    teacher = create(_with_own_model(TeacherConfig(**spec["teacher"]), inputs))
    texts = rows["text"].tolist()
    vectors = embed_cached(teacher, texts, on_progress=lambda done: report(done, len(texts)))
    rows.to_parquet(folder / ROWS)
    save_file({"vectors": torch.from_numpy(vectors.copy())}, folder / TEACHER)
    return {"rows": len(rows), "teacher": teacher.fingerprint}


def geometry_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Measure a finished cell and its snapshots; ``measures.json`` without the names an experiment gives."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    frame = pd.read_parquet(inputs["parallel"] / ROWS)[COLUMNS]
    teacher = load_file(inputs["parallel"] / TEACHER)["vectors"]
    encoder = open_encoder(inputs["train"] / "model", spec["layer"], device, spec["batch_tokens"])
    taken = Taken(layer=encoder.layer, precision=spec["precision"])
    base = open_base(inputs["base"] / "model", spec["layer"], device, spec["batch_tokens"])
    measures = list(_stability(inputs["train"]))
    if len(frame):
        measures += _parallel(encoder, base, frame, teacher, inputs["train"], taken)
    measures += _options(inputs, taken)
    if spec["sts"]["path"]:
        measures += _similarity(encoder, spec["sts"], spec["languages"], taken)
    write_measures(folder / FILE, measures)
    return {"measures": len(measures), "rows": len(frame)}


def _parallel(
    encoder: Encoder, base: Embed, frame: pd.DataFrame, teacher: torch.Tensor, train: Path, taken: Taken
) -> Iterator[Measure]:
    """Everything that rests on the parallel rows."""
    rows, texts, langs = Rows.of(frame), frame["text"].tolist(), frame["lang"].tolist()
    states = encoder.embed(texts, langs)
    yield from suite.manifold_measures(states, teacher, rows, taken)
    yield from suite.bitext_measures(states, rows, taken, by_language=True)
    yield from suite.language_measures(states, rows, taken)
    if encoder.plain is not None:
        plain = encoder.plain(texts, langs)
        yield from suite.bitext_measures(plain, rows, suite.plain(taken))
    if encoder.codes is not None:
        distinct = frame["text"].drop_duplicates().tolist()
        pair = encoder.codes(distinct)
        yield suite.measure("code_stability", [pair], taken, len(distinct), ordered=encoder.ordered)
    if encoder.layer is None:  # no language model, so nothing that could have drifted
        return
    before = base(texts, langs)
    yield from suite.drift_measures(states, before, rows, taken)
    if encoder.plain is not None:
        yield from suite.drift_measures(plain, before, rows, suite.plain(taken))
    for step, vectors in _snapshots(train, len(frame)):
        at = Taken(step, taken.layer, taken.precision, null=False)
        yield from suite.drift_measures(vectors, before, rows, at)
        yield from suite.manifold_measures(vectors, teacher, rows, at)
        yield from suite.bitext_measures(vectors, rows, at)
        yield from suite.language_measures(vectors, rows, at)


def _snapshots(train: Path, rows: int) -> Iterator[tuple[int, torch.Tensor]]:
    """(step, states (N, d) float32) in the order of steps; none where training kept none."""
    path = train / "snapshots.safetensors"
    if not path.is_file():
        return
    for name, states in sorted(load_file(path).items()):
        if len(states) != rows:
            raise UserError(f"{path}: {len(states)} rows, but the corpus gives {rows} parallel rows")
        yield int(name.removeprefix("step-")), states.float()


def _options(inputs: dict[str, Path], taken: Taken) -> Iterator[Measure]:
    """RankC at the measured precision, or the first one that was scored."""
    records = read_records(inputs["score"] / "records.parquet")
    scored = list(dict.fromkeys(records["precision"]))
    precision = taken.precision if taken.precision in scored else scored[0]
    blocks = aligned_scores(read_items(inputs["items"] / "test"), records[records["precision"] == precision])
    yield from suite.option_measures(blocks, Taken(precision=precision))


def _similarity(encoder: Encoder, sts: dict[str, Any], languages: list[str], taken: Taken) -> Iterator[Measure]:
    """STS with and without control tokens; the cue of a sentence is the sentence."""
    pairs = read_sts(sts["path"], languages, sts["pairs"])
    langs, wanted = pairs["lang"].tolist(), torch.tensor(pairs["score"].to_numpy())
    for embed, at in ((encoder.embed, taken), (encoder.plain, suite.plain(taken))):
        if embed is not None:
            sides = [embed(pairs[name].tolist(), langs) for name in ("sentence1", "sentence2")]
            yield from suite.similarity_measures(sides[0], sides[1], wanted, langs, at)


def _stability(train: Path) -> Iterator[Measure]:
    """From the trace of every step; a cell trained before traces were kept has only what its result says."""
    path = train / "trace.safetensors"
    if path.is_file():
        trace = load_file(path)
        yield from suite.stability_measures(trace["loss"], trace["grad_norm"])


STAGES: dict[str, Callable[[dict[str, Any], dict[str, Path], Path, Any], dict[str, Any]]] = {
    "parallel": parallel_stage,
    "geometry": geometry_stage,
}
"""Added to ``stages.STAGES`` by the executor: that file is part of what identifies the items, and this one is not."""
