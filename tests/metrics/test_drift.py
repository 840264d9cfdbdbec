"""CKA, Procrustes and code agreement against other implementations and cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch

from ecr_bench.metrics.functional.checks import NotMeasurable
from ecr_bench.metrics.functional.drift import (
    code_agreement,
    code_agreement_null,
    linear_cka,
    linear_cka_null,
    procrustes_distance,
    procrustes_distance_null,
)
from tests.helpers.vectors import normal, rotation


def cka_from_kernels(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012 written out on N x N kernels."""

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        n = len(k)
        k, m = k.copy(), m.copy()
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        one = np.ones(n)
        inner = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return (inner - 2 * (one @ k @ m @ one) / (n - 2)) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize("widths", [(5, 5), (6, 3), (80, 7)])
def test_cka_equals_the_formula_on_kernels(widths):
    x, y = normal(40, widths[0]) + 3, normal(40, widths[1], seed=1)
    y[:, 0] += x[:, 0]
    assert float(linear_cka(x, y)) == pytest.approx(cka_from_kernels(x.numpy(), y.numpy()), abs=1e-10)


def test_cka_ignores_rotation_scale_and_shift():
    x = normal(60, 8)
    assert float(linear_cka(x, 4 * x @ rotation(8) - 7)) == pytest.approx(1)
    y = x + normal(60, 8, seed=2)
    assert float(linear_cka(x, y)) == pytest.approx(float(linear_cka(x, 0.1 * y @ rotation(8))), abs=1e-12)


def test_cka_of_unrelated_data_is_zero_even_where_there_are_more_columns_than_rows():
    """Where the plain estimator says 'nearly the same'."""
    values = [float(linear_cka(normal(50, 300, seed=s), normal(50, 300, seed=100 + s))) for s in range(20)]
    assert np.mean(values) == pytest.approx(0, abs=0.02)
    x, y = (normal(50, 300, seed=s) - normal(50, 300, seed=s).mean(0) for s in (0, 100))
    biased = (x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    assert biased > 0.8


def test_the_null_of_cka_holds_unrelated_data_and_not_related_ones():
    x = normal(80, 6)
    _, low, high = linear_cka_null(x, normal(80, 9, seed=3))
    assert low < float(linear_cka(x, normal(80, 9, seed=3))) < high
    mean, _, high = linear_cka_null(x, x)
    assert mean == pytest.approx(0, abs=0.02) and high < 0.2 < float(linear_cka(x, x))


def test_procrustes_agrees_with_scipy():
    x, y = normal(50, 6), normal(50, 6, seed=1)
    y = y + 2 * x @ rotation(6)
    a, b = ((part - part.mean(0)) / (part - part.mean(0)).norm() for part in (x, y))
    _, total = scipy.linalg.orthogonal_procrustes(a.numpy(), b.numpy())
    assert float(procrustes_distance(x, y)) == pytest.approx(2 - 2 * total)
    # scipy's disparity also scales: 1 - (sum of singular values)²
    *_, disparity = scipy.spatial.procrustes(x.numpy(), y.numpy())
    assert 1 - (1 - float(procrustes_distance(x, y)) / 2) ** 2 == pytest.approx(disparity)


def test_widths_are_matched_as_if_zeros_were_appended():
    x, y = normal(40, 9), normal(40, 4, seed=1)
    padded = torch.cat([y, torch.zeros(40, 5, dtype=y.dtype)], 1)
    assert float(procrustes_distance(x, y)) == pytest.approx(float(procrustes_distance(x, padded)))
    wide = torch.cat([x, torch.zeros(40, 200, dtype=x.dtype)], 1) @ rotation(209)
    assert float(procrustes_distance(x, wide)) == pytest.approx(0, abs=1e-9)


def test_procrustes_null_is_far_from_equal_data():
    x = normal(60, 5)
    _, low, _ = procrustes_distance_null(x, x)
    assert float(procrustes_distance(x, x)) == pytest.approx(0, abs=1e-9) and low > 0.8


def test_a_collapsed_side_gives_no_number():
    x = normal(30, 4)
    for function in (linear_cka, procrustes_distance):
        with pytest.raises(NotMeasurable, match="all rows are equal"):
            function(x, torch.ones(30, 4))


def test_bad_shapes_and_too_few_rows_are_errors():
    with pytest.raises(ValueError, match="same N"):
        linear_cka(normal(5, 2), normal(6, 2))
    with pytest.raises(ValueError, match="at least 4 rows"):
        linear_cka(normal(3, 2), normal(3, 2))


def test_code_agreement_with_and_without_order():
    a, b = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[2, 1, 0], [3, 9, 8]])
    assert float(code_agreement(a, b)) == pytest.approx(4 / 6)
    assert float(code_agreement(a, b, ordered=True)) == pytest.approx(2 / 6)
    mean, low, high = code_agreement_null(torch.arange(40)[:, None], torch.arange(40)[:, None])
    assert mean == pytest.approx(1 / 40, abs=0.01) and low <= mean <= high < 0.2
