from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from ecr_bench.errors import UserError
from ecr_bench.statistics.multiple import above_chance, holm, mcnemar
from ecr_bench.statistics.paired import accuracy, compare
from ecr_bench.statistics.panel import build_panel


def frame(arm: str, correct: list[int], seed: int = 0, **columns: object) -> pd.DataFrame:
    """Records of one cell; by default one task, one language, one cluster per item."""
    n = len(correct)
    defaults: dict[str, object] = {
        "cell": f"{arm}-{seed}",
        "arm": arm,
        "precision": "fp32",
        "seed": seed,
        "task": "intent",
        "task_name": "ecr_intent_de",
        "grain": "coarse",
        "lang": "de",
        "target_lang": "de",
        "item_id": [f"i{k}" for k in range(n)],
        "cluster": [f"c{k}" for k in range(n)],
        "correct": np.array(correct, dtype=bool),
    }
    return pd.DataFrame(defaults | columns)


def test_holm_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_holm_is_its_step_down_procedure() -> None:
    """Against the definition: reject in rising order while p is within alpha over what is left."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = (rng.random(int(rng.integers(1, 12))) ** 3).round(2).tolist()
        rejected: set[int] = set()
        for left, i in zip(range(len(p), 0, -1), sorted(range(len(p)), key=lambda i: p[i]), strict=True):
            if p[i] >= 0.05 / left:
                break
            rejected.add(i)
        assert {i for i, adjusted in enumerate(holm(p)) if adjusted < 0.05} == rejected


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (7, 7), (3, 12), (40, 21), (0, 300)])
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    a = np.array([1] * only_a + [0] * only_b + [1, 0, 1])
    b = np.array([0] * only_a + [1] * only_b + [1, 0, 1])
    n = only_a + only_b
    expected = binomtest(only_a, n, 0.5).pvalue if n else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-9)


def test_above_chance() -> None:
    assert above_chance(0.25, 0.25) == 0
    assert above_chance(1.0, 0.25) == 1
    assert above_chance(0.1, 0.25) < 0
    assert above_chance(1.0, 1.0) == 0


def test_macro_mean_weighs_languages_and_tasks_alike() -> None:
    many, few = [1] * 90, [0] * 10
    languages = ["de"] * 90 + ["ja"] * 10
    intent = frame("ecr-1x", many + few, lang=languages, target_lang=languages)
    slot = frame("ecr-1x", [1, 0, 0, 0], task="slot", task_name="ecr_slot_de", grain="fine")
    panel = build_panel(pd.concat([intent, slot]))
    assert panel.tasks == ["coarse", "fine", "intent", "slot", "all"]
    assert panel.mean(0, "coarse") == panel.mean(0, "intent") == 0.5
    assert panel.mean(0, "fine") == 0.25
    assert panel.mean(0, "all") == 0.375
    assert panel.by_language(0) == {("intent", "de"): (1, 90), ("intent", "ja"): (0, 10), ("slot", "de"): (0.25, 4)}


def test_language_pairs_are_strata_of_their_own() -> None:
    targets = ["de"] * 8 + ["ja"] * 2
    pairs = frame("ecr-1x", [1] * 8 + [0] * 2, task="meaning", grain="fine", lang="en", target_lang=targets)
    assert build_panel(pairs).mean(0, "all") == 0.5


def test_order_of_records_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    a, b = (frame(arm, rng.integers(0, 2, 50).tolist()) for arm in ("ecr-1x", "finetune-3x"))
    records = pd.concat([a, b], ignore_index=True)
    other = records.sample(frac=1, random_state=1)
    first, second = (compare(build_panel(r), "ecr-1x", "finetune-3x", "fp32", "fp32", "all") for r in (records, other))
    assert first == second


def test_bad_records_name_the_problem() -> None:
    good = frame("ecr-1x", [1, 0, 1])
    with pytest.raises(UserError, match=r"finetune-3x in fp32, seed 0, answers item 'i2' .* not at all"):
        build_panel(pd.concat([good, frame("finetune-3x", [1, 0])]))
    with pytest.raises(UserError, match="twice"):
        build_panel(pd.concat([good, good]))
    with pytest.raises(UserError, match="no column 'cluster'"):
        build_panel(good.drop(columns="cluster"))
    with pytest.raises(UserError, match="no rows"):
        build_panel(good.iloc[:0])
    with pytest.raises(UserError, match="both grains"):
        build_panel(good.assign(grain=["coarse", "fine", "fine"]))
    with pytest.raises(UserError, match=r"unknown task 'slot': allowed are all, coarse, intent"):
        build_panel(good).mean(0, "slot")
    with pytest.raises(UserError, match="unknown arm 'ecr-1x in nf4': allowed are ecr-1x in fp32"):
        accuracy(build_panel(good), "ecr-1x", "nf4", "all")


def test_standard_error_of_independent_items_is_binomial() -> None:
    correct = [1] * 300 + [0] * 200
    found = accuracy(build_panel(frame("ecr-1x", correct)), "ecr-1x", "fp32", "all")
    assert found.value == pytest.approx(0.6)
    assert found.se == pytest.approx(np.sqrt(0.6 * 0.4 / 500), rel=0.06)
    assert found.covers == "items"
    assert found.mdd == pytest.approx(2.8 * found.se, rel=0.01)


def test_items_of_a_cluster_count_once() -> None:
    correct = np.repeat([1] * 60 + [0] * 40, 4)
    clusters = [f"c{k // 4}" for k in range(400)]
    found = accuracy(build_panel(frame("ecr-1x", correct.tolist(), cluster=clusters)), "ecr-1x", "fp32", "all")
    assert found.se == pytest.approx(np.sqrt(0.6 * 0.4 / 99), rel=0.06)
    assert (found.n_items, found.n_clusters) == (400, 100)


def test_pairing_makes_a_shared_difficulty_cancel() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2, 1000)
    b = a.copy()
    b[:50] = 0
    panel = build_panel(pd.concat([frame("ecr-1x", a.tolist()), frame("finetune-3x", b.tolist())]))
    found = compare(panel, "ecr-1x", "finetune-3x", "fp32", "fp32", "all")
    assert found.value == pytest.approx(a[:50].sum() / 1000)
    assert found.se == pytest.approx(np.sqrt(found.value * (1 - found.value) / 1000), rel=0.06)
    assert found.se < 0.4 * accuracy(panel, "ecr-1x", "fp32", "all").se
    assert found.p < 1e-4 and found.mcnemar_p < 1e-4 and found.mcnemar_by_seed == (found.mcnemar_p,)


def test_seeds_are_paired_by_number_else_in_order() -> None:
    cells = [frame("ecr-1x", [1, 1, 0], seed) for seed in (0, 1)] + [frame("random-1x", [0, 0, 1], seed=7)]
    panel = build_panel(pd.concat(cells))
    found = compare(panel, "ecr-1x", "random-1x", "fp32", "fp32", "all")
    assert len(found.mcnemar_by_seed) == 1
    assert found.n_seeds == 1


def test_extremes_stay_finite_and_honest() -> None:
    perfect = build_panel(pd.concat([frame("ecr-1x", [1] * 100), frame("finetune-3x", [1] * 100)]))
    alone = accuracy(perfect, "ecr-1x", "fp32", "all")
    assert alone.high == 1.0 and 0.95 < alone.low < 0.97  # exact bound for 100 of 100: .964
    both = compare(perfect, "ecr-1x", "finetune-3x", "fp32", "fp32", "all")
    assert both.value == 0 and both.p == 1 and both.low < 0 < both.high and both.mdd > 0
    one = pd.concat([frame("ecr-1x", [1, 0], cluster="c"), frame("finetune-3x", [0, 0], cluster="c")])
    lonely = compare(build_panel(one), "ecr-1x", "finetune-3x", "fp32", "fp32", "all")
    assert (lonely.low, lonely.high, lonely.p, lonely.mdd) == (-1, 1, 1, 1)
    for found in (alone, both, lonely):
        assert np.isfinite([found.value, found.low, found.high, found.df, found.p, found.mdd]).all()
