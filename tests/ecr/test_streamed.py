"""Anchors and projection of more rows than are held in memory: as those of all rows, or nearly so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecr_bench.config import AnchorsConfig, ProjectionConfig
from ecr_bench.ecr import projection_table, rows, streamed
from ecr_bench.ecr.anchors import Anchors, fit_anchors
from ecr_bench.ecr.centring import language_means
from ecr_bench.ecr.kmeans import inertia, kmeans
from ecr_bench.ecr.projection import fit_projection
from ecr_bench.ecr.rows import Centred, TokenIds
from ecr_bench.ecr.streamed import fit_streamed, mini_batches, streamed_means
from ecr_bench.errors import UserError

N, D = 3000, 12
LANGS = ["en", "de", "fr"] * (N // 3)


@pytest.fixture
def vectors(monkeypatch):
    """Rows around forty centres, and ever so many beyond them that do not count; parts and sample are small."""
    for module in (rows, streamed, projection_table):
        monkeypatch.setattr(module, "PART", 128)
    monkeypatch.setattr(projection_table, "STREAMED", 500)
    monkeypatch.setattr(streamed, "SAMPLE", 600)
    monkeypatch.setattr(streamed, "SAMPLE_ROWS", 10)
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(40, D, generator=draw)
    found = centres[torch.randint(40, (N + 50,), generator=draw)] + 0.3 * torch.randn(N + 50, D, generator=draw)
    return found.numpy()


def test_means_are_those_of_all_rows(vectors):
    found, wanted = streamed_means(vectors, LANGS), language_means(torch.from_numpy(vectors[:N]), LANGS)
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[lang], mean, atol=1e-6) for lang, mean in wanted.items())


def test_a_mini_batch_moves_a_centroid_to_the_mean_of_what_it_had():
    seen, more = torch.tensor([[0.0], [2.0], [10.0]]), torch.tensor([[4.0], [13.0], [13.0]])
    found = mini_batches([more], torch.tensor([[1.0], [10.0]]), seen)
    assert torch.allclose(found, torch.tensor([[2.0], [12.0]]))


@pytest.mark.parametrize("centre", [True, False])
def test_inertia_is_close_to_that_of_all_rows_at_once(vectors, centre):
    config = AnchorsConfig(k=40, centre=centre)
    found = fit_streamed(vectors, LANGS, config, 1, "toy")
    again = fit_streamed(vectors, LANGS, config, 1, "toy")
    whole = fit_anchors(torch.from_numpy(vectors[:N]), LANGS, config, 1, "toy")
    assert torch.equal(found.centroids, again.centroids)
    assert found.mini_batch and not whole.mini_batch
    rest = whole.centre(torch.from_numpy(vectors[:N]), LANGS)
    assert inertia(rest, found.centroids[0]) <= 1.05 * inertia(rest, whole.centroids[0])
    assert inertia(rest, found.centroids[0]) < inertia(rest, kmeans(rest[:600], 40, 1, 0)) * 1.02


def test_levels_quantise_what_the_ones_before_left(vectors):
    config = AnchorsConfig(k=8, assignment="residual")
    found = fit_streamed(vectors, LANGS, config, 3, "toy")
    rest = found.centre(torch.from_numpy(vectors[:N]), LANGS)
    left = []
    for level in found.centroids:
        left.append(inertia(rest, level))
        rest = rest - level[torch.cdist(rest, level).argmin(1)]
    assert left == sorted(left, reverse=True)


@pytest.mark.parametrize("selection", ["random", "farthest"])
def test_other_selections_take_rows_of_the_sample(vectors, selection):
    config = AnchorsConfig(k=20, selection=selection, centre=False)
    found = fit_streamed(vectors, LANGS, config, 1, "toy").centroids[0]
    assert torch.cdist(found.double(), torch.from_numpy(vectors[:N]).double()).min(1).values.max() < 1e-5


def test_it_says_so_on_disk(vectors, tmp_path):
    found = fit_streamed(vectors, LANGS, AnchorsConfig(k=8), 1, "toy")
    found.save(tmp_path / "anchors")
    loaded = Anchors.load(tmp_path / "anchors")
    assert loaded.mini_batch and loaded.fingerprint == found.fingerprint


def test_too_few_distinct_rows(vectors):
    same = np.repeat(vectors[:3], 100, axis=0)
    with pytest.raises(UserError, match=r"anchors\.k 8 is larger than the 3 distinct embeddings of 300"):
        fit_streamed(same, ["en"] * 300, AnchorsConfig(k=8, centre=False), 1, "toy")


def test_the_table_fitted_part_by_part_is_the_one_fitted_at_once(vectors, monkeypatch):
    draw = np.random.default_rng(0)
    ids = [draw.integers(0, 30, 6).tolist() for _ in range(N)]
    packed = TokenIds(np.concatenate(ids).astype(np.int32), np.arange(0, 6 * N + 1, 6))
    assert packed[7] == ids[7] and packed[3:5] == ids[3:5] and len(packed) == N
    config = ProjectionConfig(kind="token-table", options={"rank": 8})
    centred = Centred(vectors, LANGS, streamed_means(vectors, LANGS))
    parts = fit_projection(config, packed, centred, 32, None, 0)
    monkeypatch.setattr(projection_table, "STREAMED", N)
    whole = fit_projection(config, ids, centred.whole(), 32, None, 0)
    assert torch.allclose(parts(ids[:50]), whole(ids[:50]), atol=2e-3)
    assert parts.norm == pytest.approx(whole.norm, rel=1e-6)
