"""What is measured of one finished cell beside accuracy: geometry, semantic similarity, stability.

Measures come without the names that an experiment gives a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from ecr_bench.ecr.codes import ProjectionCodes
from ecr_bench.ecr.projection import load_projection
from ecr_bench.errors import UserError
from ecr_bench.evaluation.geometry import Encoder, on_trained_states, with_projection
from ecr_bench.evaluation.records import read_records
from ecr_bench.items.files import read_items
from ecr_bench.metrics import suite
from ecr_bench.metrics.options import aligned_scores
from ecr_bench.metrics.suite import ParallelRows, Taken
from ecr_bench.types import Measure


def of_states(
    states: torch.Tensor, plain: torch.Tensor | None, teacher: torch.Tensor, rows: ParallelRows, taken: Taken
) -> Iterator[Measure]:
    """Manifold and languages of the finished cell: its states (N, d), those without control tokens, the teacher's."""
    yield from suite.manifold_measures(states, teacher, rows, taken)
    yield from suite.bitext_measures(states, rows, taken, by_language=True)
    yield from suite.language_measures(states, rows, taken)
    if plain is not None:
        yield from suite.bitext_measures(plain, rows, suite.plain(taken))


def of_text(encoder: Encoder, texts: list[str], rows: ParallelRows, taken: Taken) -> Iterator[Measure]:
    """How well a language model that reads text predicts it; no layer is read."""
    if encoder.nats is not None:
        size = torch.tensor([len(text.encode()) for text in texts])
        yield from suite.text_measures(encoder.nats(texts), size, rows, replace(taken, layer=None))


def of_codes(
    encoder: Encoder, source: ProjectionCodes, anchors: Path, texts: list[str], taken: Taken
) -> Iterator[Measure]:
    """Codes of the projection fitted on the base model against the cell's own, and those against its trained states."""
    ordered, langs = source.anchors.config.assignment == "residual", [""] * len(texts)
    before, own = with_projection(source, load_projection(anchors / "projection"))(texts, langs), source(texts, langs)
    yield suite.measure("code_stability", [before, own], taken, len(texts), ordered=ordered)
    if encoder.model is not None and (trained := on_trained_states(source, encoder.model)) is not None:
        pair = own, trained(texts, langs)
        yield suite.measure("code_stability_trained", pair, taken, len(texts), ordered=ordered)


def of_drift(
    states: torch.Tensor, plain: torch.Tensor | None, base: torch.Tensor, rows: ParallelRows, taken: Taken
) -> Iterator[Measure]:
    yield from suite.drift_measures(states, base, rows, taken)
    if plain is not None:
        yield from suite.drift_measures(plain, base, rows, suite.plain(taken))


def of_snapshots(
    train: Path, teacher: torch.Tensor, base: torch.Tensor, rows: ParallelRows, taken: Taken
) -> Iterator[Measure]:
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


def of_options(score: Path, items: Path, taken: Taken) -> Iterator[Measure]:
    """RankC at the measured precision, or the first one that was scored."""
    records = read_records(score / "records.parquet")
    scored = list(dict.fromkeys(records["precision"]))
    precision = taken.precision if taken.precision in scored or not scored else scored[0]
    blocks = aligned_scores(read_items(items / "test"), records[records["precision"] == precision])
    yield from suite.option_measures(blocks, Taken(precision=precision))


def of_similarity(encoder: Encoder, pairs: pd.DataFrame, taken: Taken) -> Iterator[Measure]:
    """STS of ``evaluation.sts.read_sts`` with and without control tokens; the cue of a sentence is the sentence."""
    langs, wanted = pairs["lang"].tolist(), torch.tensor(pairs["score"].to_numpy())
    for embed, at in ((encoder.embed, taken), (encoder.plain, suite.plain(taken))):
        if embed is not None:
            sides = [embed(pairs[name].tolist(), langs) for name in ("sentence1", "sentence2")]
            yield from suite.similarity_measures(sides[0], sides[1], wanted, langs, at)


def of_stability(train: Path) -> Iterator[Measure]:
    """From the trace of every step; none for an arm that was not trained step by step."""
    path = train / "trace.safetensors"
    if path.is_file():
        trace = load_file(path)
        yield from suite.stability_measures(trace["loss"], trace["grad_norm"])
