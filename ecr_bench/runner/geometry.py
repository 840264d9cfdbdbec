"""Stages that measure finished cells beside accuracy: geometry, semantic similarity, stability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from ecr_bench.config import TeacherConfig
from ecr_bench.corpora.base import Corpus
from ecr_bench.data.parallel import COLUMNS, parallel_rows
from ecr_bench.divergence import KEY, inherited
from ecr_bench.ecr.codes import ProjectionCodes
from ecr_bench.ecr.projection import load_projection
from ecr_bench.errors import UserError
from ecr_bench.evaluation.geometry import Encoder, on_trained_states, open_base, open_encoder, with_projection
from ecr_bench.evaluation.records import read_records
from ecr_bench.evaluation.sts import read_sts
from ecr_bench.io import read_json, write_json
from ecr_bench.items.files import read_items
from ecr_bench.metrics import suite
from ecr_bench.metrics.files import FILE, write_measures
from ecr_bench.metrics.options import aligned_scores
from ecr_bench.metrics.suite import Rows, Taken
from ecr_bench.runner.anchoring import with_own_model
from ecr_bench.runner.device import device
from ecr_bench.runner.store import stage_result
from ecr_bench.teachers.cache import embed_cached
from ecr_bench.teachers.registry import create
from ecr_bench.types import Measure

ROWS, TEACHER, LANGUAGES = "rows.parquet", "teacher.safetensors", "languages.json"


def parallel_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Draw the parallel rows and embed them with the teacher, once for all cells."""
    corpus = Corpus.load(inputs["corpus"] / "corpus").dataset.to_pandas()
    rows = parallel_rows(corpus, spec["per_language"])
    teacher = create(with_own_model(TeacherConfig(**spec["teacher"]), inputs))
    texts = rows["text"].tolist()
    vectors = embed_cached(teacher, texts, on_progress=lambda done: report(done, len(texts)))
    rows.to_parquet(folder / ROWS)
    write_json(folder / LANGUAGES, sorted(corpus["lang"].unique()))
    save_file({"vectors": torch.from_numpy(vectors.copy())}, folder / TEACHER)
    return {"rows": len(rows), "teacher": teacher.fingerprint}


def geometry_stage(spec: dict[str, Any], inputs: dict[str, Path], folder: Path, report: Any) -> dict[str, Any]:
    """Measure a finished cell and its snapshots; ``measures.json`` without the names an experiment gives.

    Of a cell that diverged, or whose teacher did, only how it trained.
    """
    if reason := inherited({role: stage_result(given) for role, given in inputs.items()}):
        measures = list(_stability(inputs["train"]))
        write_measures(folder / FILE, measures)
        return {"measures": len(measures), "rows": 0, KEY: reason}
    where = device()
    frame = pd.read_parquet(inputs["parallel"] / ROWS)[COLUMNS]
    teacher = load_file(inputs["parallel"] / TEACHER)["vectors"]
    encoder = open_encoder(inputs["train"] / "model", spec["layer"], where, spec["batch_tokens"])
    taken = Taken(layer=encoder.layer, precision=spec["precision"])
    measures = list(_stability(inputs["train"]))
    if len(frame):
        rows, texts, langs = Rows.of(frame), frame["text"].tolist(), frame["lang"].tolist()
        states = encoder.embed(texts, langs)
        plain = encoder.plain(texts, langs) if encoder.plain is not None else None
        measures += _finished(states, plain, teacher, rows, taken)
        if encoder.codes is not None:
            measures += _codes(encoder, encoder.codes, inputs["anchors"], sorted(set(texts)), taken)
        if encoder.layer is not None:  # without a language model nothing could have drifted
            base = open_base(inputs["base"] / "model", encoder.layer, where, spec["batch_tokens"])(texts, langs)
            measures += _drift(states, plain, base, rows, taken)
            measures += _snapshots(inputs["train"], teacher, base, rows, taken)
    measures += _options(inputs, taken)
    if spec["sts"]["path"]:
        measures += _similarity(encoder, spec["sts"], read_json(inputs["parallel"] / LANGUAGES), taken)
    write_measures(folder / FILE, measures)
    return {"measures": len(measures), "rows": len(frame)}


def _finished(
    states: torch.Tensor, plain: torch.Tensor | None, teacher: torch.Tensor, rows: Rows, taken: Taken
) -> Iterator[Measure]:
    """Manifold and languages of the finished cell: its states (N, d), those without control tokens, the teacher's."""
    yield from suite.manifold_measures(states, teacher, rows, taken)
    yield from suite.bitext_measures(states, rows, taken, by_language=True)
    yield from suite.language_measures(states, rows, taken)
    if plain is not None:
        yield from suite.bitext_measures(plain, rows, suite.plain(taken))


def _codes(
    encoder: Encoder, source: ProjectionCodes, anchors: Path, texts: list[str], taken: Taken
) -> Iterator[Measure]:
    """Codes of the projection fitted on the base model against the cell's own, and those against its trained states."""
    ordered, langs = source.anchors.config.assignment == "residual", [""] * len(texts)
    before, own = with_projection(source, load_projection(anchors / "projection"))(texts, langs), source(texts, langs)
    yield suite.measure("code_stability", [(before, own)], taken, len(texts), ordered=ordered)
    if encoder.model is not None and (trained := on_trained_states(source, encoder.model)) is not None:
        pair = own, trained(texts, langs)
        yield suite.measure("code_stability_trained", [pair], taken, len(texts), ordered=ordered)


def _drift(
    states: torch.Tensor, plain: torch.Tensor | None, base: torch.Tensor, rows: Rows, taken: Taken
) -> Iterator[Measure]:
    yield from suite.drift_measures(states, base, rows, taken)
    if plain is not None:
        yield from suite.drift_measures(plain, base, rows, suite.plain(taken))


def _snapshots(train: Path, teacher: torch.Tensor, base: torch.Tensor, rows: Rows, taken: Taken) -> Iterator[Measure]:
    """What can be said of pooled states alone, at each step that training kept, without what chance would give."""
    path = train / "snapshots.safetensors"
    for name, half in sorted(load_file(path).items()) if path.is_file() else ():
        if len(half) != len(base):
            raise UserError(f"{path}: {len(half)} rows, but the corpus gives {len(base)} parallel rows")
        states, at = half, replace(taken, step=int(name.removeprefix("step-")), null=False)
        yield from suite.drift_measures(states, base, rows, at)
        yield from suite.manifold_measures(states, teacher, rows, at)
        yield from suite.bitext_measures(states, rows, at)
        yield from suite.language_measures(states, rows, at)


def _options(inputs: dict[str, Path], taken: Taken) -> Iterator[Measure]:
    """RankC at the measured precision, or the first one that was scored."""
    records = read_records(inputs["score"] / "records.parquet")
    scored = list(dict.fromkeys(records["precision"]))
    precision = taken.precision if taken.precision in scored or not scored else scored[0]
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
    """From the trace of every step; none for an arm that was not trained step by step."""
    path = train / "trace.safetensors"
    if path.is_file():
        trace = load_file(path)
        yield from suite.stability_measures(trace["loss"], trace["grad_norm"])
