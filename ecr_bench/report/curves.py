"""Training curves of a finished run, read back from TensorBoard's event files."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

TAGS = ("train/loss", "val/loss", "train/grad_norm")
POINTS = 120
"""Points kept per curve."""

Curve = tuple[tuple[float, float], ...]


def read_curves(folder: Path) -> dict[str, dict[str, Curve]]:
    """``{cell: {tag: ((step, value), ...)}}`` for the sub-folders of ``folder``; values that are not finite are left
    out, and a run without event files is simply absent."""
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []:
        if curves := _read(path):
            found[path.name] = curves
    return found


def _read(folder: Path) -> dict[str, Curve]:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    events.Reload()
    result = {}
    for tag in (t for t in TAGS if t in events.Tags()["scalars"]):
        points = [(float(e.step), float(e.value)) for e in events.Scalars(tag) if math.isfinite(e.value)]
        if points:
            result[tag] = thin(points, POINTS)
    return result


def thin(points: list[tuple[float, float]], limit: int) -> Curve:
    """At most ``limit`` points. Each bucket of neighbours gives the one farthest from the bucket's mean, so that
    spikes survive; the first and the last point stay."""
    if len(points) <= limit:
        return tuple(points)
    inner = points[1:-1]
    edges = [round(i * len(inner) / (limit - 2)) for i in range(limit - 1)]
    kept = []
    for start, stop in pairwise(edges):
        bucket = inner[start:stop]
        mean = sum(value for _, value in bucket) / len(bucket)
        kept.append(max(bucket, key=lambda point: abs(point[1] - mean)))
    return (points[0], *kept, points[-1])
