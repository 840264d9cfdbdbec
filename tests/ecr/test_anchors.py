from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from ecr_bench.config import AnchorsConfig
from ecr_bench.ecr.anchors import Anchors, fit_anchors
from ecr_bench.ecr.kmeans import inertia, kmeans
from ecr_bench.errors import UserError


def mixture(rows: int, clusters: int, dim: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(clusters, dim, generator=generator)
    member = torch.randint(clusters, (rows,), generator=generator)
    return centres[member] + 0.3 * torch.randn(rows, dim, generator=generator)


LANGS = ["en", "de", "fr"]


@pytest.fixture(scope="module")
def shifted() -> tuple[torch.Tensor, list[str]]:
    """The same meanings in three languages, each language moved far away."""
    meanings = mixture(300, 10, 8)
    offsets = 20 * torch.eye(8)[:3]
    return torch.cat([meanings + offset for offset in offsets]), [lang for lang in LANGS for _ in range(300)]


def test_kmeans_is_no_worse_than_sklearn() -> None:
    vectors = mixture(3000, 60, 32)
    ours = sum(inertia(vectors, kmeans(vectors, 32, 25, seed)) for seed in range(4))
    theirs = sum(KMeans(32, n_init=1, random_state=seed).fit(vectors.numpy()).inertia_ for seed in range(4))
    assert ours <= 1.01 * theirs


def test_kmeans_of_many_rows_is_no_worse_than_sklearn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above ``FULL_ROWS`` most rounds see samples only."""
    monkeypatch.setattr("ecr_bench.ecr.kmeans.FULL_ROWS", 10_000)
    vectors = mixture(40_000, 60, 32)
    ours = inertia(vectors, kmeans(vectors, 32, 25, 0))
    assert ours <= 1.01 * KMeans(32, n_init=1, random_state=0).fit(vectors.numpy()).inertia_


def test_kmeans_fills_every_cluster_and_survives_duplicates() -> None:
    vectors = torch.cat([torch.zeros(500, 4), torch.eye(4)])
    centroids = kmeans(vectors, 5, 25, 0)
    assert torch.isfinite(centroids).all() and inertia(vectors, centroids) == pytest.approx(0, abs=1e-6)


def test_inertia_by_hand() -> None:
    assert inertia(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[0.0], [4.0]])) == pytest.approx(2.0)


def test_centring_makes_anchors_of_meaning_not_of_language(shifted) -> None:
    vectors, langs = shifted
    config = AnchorsConfig(k=10)
    anchors = fit_anchors(vectors, langs, config, 1, "t")
    codes = anchors.assign(anchors.centre(vectors, langs), 1)[:, 0].reshape(3, 300)
    assert (codes[0] == codes[1]).float().mean() > 0.95 and (codes[0] == codes[2]).float().mean() > 0.95
    plain = fit_anchors(vectors, langs, AnchorsConfig(k=10, centre=False), 1, "t")
    apart = plain.assign(plain.centre(vectors, langs), 1)[:, 0].reshape(3, 300)
    assert not set(apart[0].tolist()) & set(apart[1].tolist())
    assert plain.language_means == {}


def test_unknown_language_gets_the_mean_of_means(shifted) -> None:
    vectors, langs = shifted
    anchors = fit_anchors(vectors, langs, AnchorsConfig(k=4), 1, "t")
    mean = torch.stack([vectors[i * 300 : (i + 1) * 300].mean(0) for i in range(3)])
    torch.testing.assert_close(anchors.centre(vectors[:1], ["xx"])[0], vectors[0] - mean.mean(0))
    torch.testing.assert_close(anchors.centre(vectors[:1], ["de"])[0], vectors[0] - mean[1])


def test_same_seed_same_anchors_other_seed_other_anchors(shifted) -> None:
    vectors, langs = shifted
    made = [fit_anchors(vectors, langs, AnchorsConfig(k=16, seed=seed), 1, "t") for seed in (0, 0, 1)]
    assert made[0].fingerprint == made[1].fingerprint != made[2].fingerprint


def anchors_at(points: list[list[float]], assignment: str = "nearest") -> Anchors:
    centroids = torch.tensor(points)
    config = AnchorsConfig(k=centroids.shape[-2], assignment=assignment, centre=False)
    return Anchors(centroids if centroids.dim() == 3 else centroids[None], {}, config, "t")


def test_nearest_orders_by_distance_and_breaks_ties_by_index() -> None:
    anchors = anchors_at([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    codes = anchors.assign(torch.tensor([[0.0, 0.0], [0.9, 0.1]]), 4)
    assert codes.dtype == torch.int64
    assert codes.tolist() == [[3, 0, 1, 2], [0, 3, 2, 1]]


def test_residual_quantises_what_is_left() -> None:
    anchors = anchors_at([[[0.0], [10.0]], [[1.0], [-1.0]]], "residual")
    assert anchors.assign(torch.tensor([[9.2], [0.8], [10.7]]), 2).tolist() == [[1, 1], [0, 0], [1, 0]]
    assert anchors.assign(torch.tensor([[9.2]]), 1).tolist() == [[1]]


def test_residual_levels_lower_the_error() -> None:
    vectors = mixture(1000, 50, 8)
    config = AnchorsConfig(k=8, assignment="residual", centre=False)
    anchors = fit_anchors(vectors, ["en"] * 1000, config, 3, "t")
    assert anchors.centroids.shape == (3, 8, 8)
    codes = anchors.assign(vectors, 3)
    errors, rest = [], vectors
    for level in range(3):
        rest = rest - anchors.centroids[level][codes[:, level]]
        errors.append(float(rest.square().sum()))
    assert errors[0] > 1.2 * errors[1] > 1.2 * 1.05 * errors[2]


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(0, 10_000))
def test_codes_do_not_depend_on_the_batch(size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchors = anchors_at(torch.randn(32, 6, generator=generator).tolist())
    vectors = torch.randn(40, 6, generator=generator)
    parts = torch.cat([anchors.assign(part, 4) for part in vectors.split(size)])
    assert torch.equal(parts, anchors.assign(vectors, 4))
    expected = torch.cdist(vectors.double(), anchors.centroids[0].double()).sort(dim=1, stable=True).indices[:, :4]
    assert torch.equal(parts, expected)


def test_save_and_load(shifted, tmp_path) -> None:
    vectors, langs = shifted
    anchors = fit_anchors(vectors, langs, AnchorsConfig(k=7), 1, "teacher-1")
    anchors.save(tmp_path / "a")
    loaded = Anchors.load(tmp_path / "a")
    assert loaded.fingerprint == anchors.fingerprint and loaded.config == anchors.config
    assert loaded.teacher == "teacher-1" and set(loaded.language_means) == set(LANGS)
    centred = anchors.centre(vectors, langs)
    assert torch.equal(loaded.assign(loaded.centre(vectors, langs), 4), anchors.assign(centred, 4))
    assert anchors.assign(torch.empty(0, 8), 4).shape == (0, 4)


def test_files_that_do_not_belong_together_are_refused(shifted, tmp_path) -> None:
    vectors, langs = shifted
    for seed, name in ((0, "a"), (1, "b")):
        fit_anchors(vectors, langs, AnchorsConfig(k=7, seed=seed), 1, "t").save(tmp_path / name)
    (tmp_path / "a" / "anchors.safetensors").write_bytes((tmp_path / "b" / "anchors.safetensors").read_bytes())
    with pytest.raises(UserError, match="fingerprint"):
        Anchors.load(tmp_path / "a")
    meta = json.loads((tmp_path / "b" / "anchors.json").read_text())
    (tmp_path / "b" / "anchors.json").write_text(json.dumps({**meta, "teacher": "another"}))
    with pytest.raises(UserError, match="fingerprint"):
        Anchors.load(tmp_path / "b")
    (tmp_path / "b" / "anchors.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="not a folder of semantic anchors"):
        Anchors.load(tmp_path / "b")
    with pytest.raises(UserError, match="no such file"):
        Anchors.load(tmp_path / "c")


def test_bad_numbers_are_user_errors(shifted) -> None:
    vectors, langs = shifted
    with pytest.raises(UserError, match=r"anchors\.k 16 is larger than the 10 embedded texts"):
        fit_anchors(vectors[:10], langs[:10], AnchorsConfig(k=16), 1, "t")
    with pytest.raises(UserError, match=r"anchors\.k 4 is larger than the 1 distinct"):
        fit_anchors(torch.ones(50, 3), ["en"] * 50, AnchorsConfig(k=4), 1, "t")
    with pytest.raises(UserError, match="not finite"):
        fit_anchors(torch.full((50, 3), float("nan")), ["en"] * 50, AnchorsConfig(k=4), 1, "t")
    anchors = anchors_at([[0.0], [1.0]])
    with pytest.raises(UserError, match=r"control_tokens\.count 3 is more than the 2 semantic anchors"):
        anchors.assign(torch.zeros(1, 1), 3)
    with pytest.raises(UserError, match=r"control_tokens\.count 2 is more than the 1 levels"):
        anchors_at([[0.0], [1.0]], "residual").assign(torch.zeros(1, 1), 2)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_quick_codes_are_those_of_float64_and_a_full_sort(scale: float) -> None:
    """Also where float32 cannot tell: equal anchors, anchors apart by less than its rounding, rows of zeros."""
    vectors = mixture(3000, 40, 48) * scale
    centroids = vectors[:64].clone()
    centroids[9], centroids[11] = centroids[3], centroids[5] * (1 + 1e-7)
    vectors = torch.cat([vectors, torch.zeros(2, 48), centroids])
    anchors = Anchors(centroids[None], {}, AnchorsConfig(k=64), "t")
    exact = torch.cdist(vectors.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    for count in (1, 4, 64):
        found = anchors.assign(vectors, count)
        assert (found.sort(1).values.diff(dim=1) > 0).all()
        torch.testing.assert_close(
            exact.gather(1, found).square(),
            exact.sort(dim=1).values[:, :count].square(),
            rtol=1e-9,
            atol=1e-9 * scale**2,
        )
    assert (anchors.assign(centroids[9:10], 2) == torch.tensor([[3, 9]])).all()
