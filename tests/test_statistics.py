from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm

from ecr_bench.errors import UserError
from ecr_bench.statistics.multiple import above_chance, holm, mcnemar
from ecr_bench.statistics.paired import accuracy, compare, seed_variance, tied_with_leader
from ecr_bench.statistics.panel import Panel, Unit, build_panel


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
        assert np.isfinite([found.value, found.low, found.high, found.se, found.df, found.p, found.mdd]).all()


@dataclass(frozen=True)
class World:
    """Probit items: arm level + cluster difficulty + seed effect + cluster-by-seed effect + noise."""

    clusters: int = 80
    per_cluster: int = 4
    seeds: int = 2
    arms: tuple[float, ...] = (0.4, 0.1, 0.1)
    cluster_sd: float = 0.8
    seed_sd: float = 0.1
    interaction_sd: float = 0.5
    shared: float = 0.0
    """Share of the variance of seed effect, interaction and noise that arms with the same seed have in common."""

    def truth(self, arm: int) -> float:
        """Expected accuracy of an arm over clusters, seeds and noise."""
        variance = 1 + self.cluster_sd**2 + self.seed_sd**2 + self.interaction_sd**2
        return float(norm.cdf(self.arms[arm] / np.sqrt(variance)))

    def sample(self, rng: np.random.Generator, resamples: int) -> Panel:
        n = self.clusters * self.per_cluster
        cluster = np.repeat(np.arange(self.clusters), self.per_cluster)
        place = np.tile(np.arange(self.per_cluster), self.clusters)
        items = pd.DataFrame({"lang": [f"l{k % 2}" for k in place], "cluster": cluster, "chance": 0.25})
        items["task"] = np.where(place < self.per_cluster // 2, "intent", "slot")
        items["grain"] = np.where(items["task"] == "intent", "coarse", "fine")
        items["stratum"] = items["lang"]
        difficulty = rng.normal(0, self.cluster_sd, self.clusters)[cluster]
        units, rows = [], []

        def deviation() -> np.ndarray:
            own = rng.normal(0, self.seed_sd) + rng.normal(0, self.interaction_sd, self.clusters)[cluster]
            return own + rng.normal(0, 1, n)

        common = [deviation() for _ in range(self.seeds)] if self.shared else [np.zeros(n)] * self.seeds
        for arm, level in enumerate(self.arms):
            for seed in range(self.seeds):
                own = np.sqrt(self.shared) * common[seed] + np.sqrt(1 - self.shared) * deviation()
                rows.append(level + difficulty + own > 0)
                units.append(Unit(f"arm{arm}", "fp32", seed))
        return Panel(units, np.array(rows, dtype=np.float32), items, resamples, int(rng.integers(2**31)))


def simulate(world: World, repeats: int, seed: int = 0, resamples: int = 300) -> tuple[float, float]:
    """(coverage of the difference of arms 0 and 1, share of A/A comparisons of arms 1 and 2 flagged at 5 %)."""
    rng = np.random.default_rng(seed)
    truth = world.truth(0) - world.truth(1)
    covered = flagged = 0
    for _ in range(repeats):
        panel = world.sample(rng, resamples)
        found = compare(panel, "arm0", "arm1", "fp32", "fp32", "all")
        covered += found.low <= truth <= found.high
        flagged += compare(panel, "arm1", "arm2", "fp32", "fp32", "all").p < 0.05
    return covered / repeats, flagged / repeats


@pytest.mark.parametrize("seeds", [2, 3])
def test_coverage_and_false_alarms(seeds: int) -> None:
    repeats = 250
    coverage, flagged = simulate(World(seeds=seeds), repeats)
    error = 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert 0.93 - error < coverage
    assert flagged < 0.05 + error


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "seed_sd"), [(2, 0.0), (2, 0.1), (2, 0.3), (3, 0.3)])
def test_coverage_and_false_alarms_at_length(seeds: int, seed_sd: float) -> None:
    repeats = 2000
    coverage, flagged = simulate(World(seeds=seeds, seed_sd=seed_sd), repeats)
    error = 2.5 * np.sqrt(0.05 * 0.95 / repeats)
    assert coverage > 0.93 - error
    if seed_sd:  # without any seed effect the few degrees of freedom make the interval wider than needed
        assert coverage < 0.97 + error
    assert flagged < 0.05 + error


@pytest.mark.parametrize("shared", [0.9, 0.99])
def test_arms_that_share_their_seed_effect_are_covered_and_not_over_cautious(shared: float) -> None:
    repeats = 150
    world = World(seed_sd=0.3, shared=shared)
    coverage, flagged = simulate(world, repeats, resamples=200)
    error = 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert coverage > 0.95 - error and flagged < 0.05 + error

    def reach(of: World) -> float:
        rng = np.random.default_rng(0)
        return float(np.median([_arm_difference(of.sample(rng, 200)) for _ in range(40)]))

    assert reach(world) < 0.75 * reach(World(seed_sd=0.3))


def _arm_difference(panel: Panel) -> float:
    return compare(panel, "arm0", "arm1", "fp32", "fp32", "all").se


def test_identical_arms_differ_by_nothing_within_what_no_cluster_showed() -> None:
    """ECR with no token against plain fine-tuning: the answers are the same ones, whatever other arms scatter."""
    panel = World(seeds=2, seed_sd=0.3).sample(np.random.default_rng(4), 400)
    twin = [Unit("twin", unit.precision, unit.seed) for unit in panel.units if unit.arm == "arm1"]
    both = Panel(
        [*panel.units, *twin], np.vstack([panel.correct, panel.correct[panel.rows("arm1", "fp32")]]), panel.items, 400
    )
    found = compare(both, "arm1", "twin", "fp32", "fp32", "all")
    bound = 1 - 0.025 ** (1 / 80)  # Clopper-Pearson for 0 of 80 clusters
    assert found.value == 0 and found.p == 1 and (found.low, found.high) == pytest.approx((-bound, bound))
    nearly = both.correct.copy()
    nearly[-1, 0] = 1 - nearly[-1, 0]
    almost = compare(Panel(both.units, nearly, panel.items, 400), "arm1", "twin", "fp32", "fp32", "all")
    assert almost.low < almost.value < almost.high and almost.high - almost.low < 0.1 and almost.p > 0.05


def test_resampling_seeds_would_undercover() -> None:
    """The reason for the t interval: with two seeds and a strong seed effect, items alone miss the truth often."""
    rng = np.random.default_rng(1)
    world, repeats = World(seed_sd=0.3), 150
    truth = world.truth(0) - world.truth(1)
    items_only = full = 0
    for _ in range(repeats):
        panel = world.sample(rng, 200)
        found = compare(panel, "arm0", "arm1", "fp32", "fp32", "all")
        full += found.low <= truth <= found.high
        net = seed_variance(panel, "fp32", "all").net
        items_only += abs(found.value - truth) <= 1.96 * np.sqrt(max(found.se**2 - net, 0))
    assert items_only / repeats < 0.8
    assert full / repeats > 0.89


def test_seed_variance_is_recovered_without_the_part_of_items() -> None:
    rng = np.random.default_rng(2)
    slope = norm.pdf(0) / np.sqrt(1 + World.cluster_sd**2 + World.interaction_sd**2)
    for seed_sd in (0.0, 0.4):
        world = World(seeds=8, seed_sd=seed_sd, arms=(0.0, 0.0))
        found = [seed_variance(world.sample(rng, 200), "fp32", "all") for _ in range(60)]
        raw, net = np.mean([f.raw for f in found]), np.mean([f.net for f in found])
        assert {f.df for f in found} == {14}
        if seed_sd:
            assert net == pytest.approx((slope * seed_sd) ** 2, rel=0.25)
        else:  # not 0, because it is never allowed below 0
            assert net < 0.25 * raw


def test_tie_groups() -> None:
    rng = np.random.default_rng(3)
    world = World(clusters=400, arms=(0.8, 0.8, 0.0), seed_sd=0.0)
    tied = tied_with_leader(world.sample(rng, 500), ["arm0", "arm1", "arm2"], "fp32", "all")
    assert tied == {"arm0": True, "arm1": True, "arm2": False}
    assert tied_with_leader(world.sample(rng, 100), [], "fp32", "all") == {}
