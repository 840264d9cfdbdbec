"""Do the intervals cover, and do tests find what is not there? ``python -m benchmarks.intervals`` prints the tables of
docs/statistics.md: made-up runs whose truth is known go through the package's own panel and comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import norm

from ecr_bench.statistics.interval import ALPHA, Covers, VarianceComponent, estimate_from
from ecr_bench.statistics.multiple import holm
from ecr_bench.statistics.paired import Comparison, accuracy, compare
from ecr_bench.statistics.panel import Panel, Respondent
from ecr_bench.statistics.wider import compare_wider

BATCH = 50
"""Worlds drawn into one panel: they share the layout of the items and nothing else."""


@dataclass(frozen=True)
class World:
    """Probit items: arm level + effects of cluster, seed, cluster x seed, language, topic + noise.

    Standard deviations are in probit units; near one half, 0.1 of them is about 2.5 points of accuracy. Effects of
    language and of topic are each arm's own: they are what another language or topic would change in a difference.
    """

    levels: tuple[float, ...] = (0.1, 0.1)
    """One a arm."""
    seed_sd: tuple[float, ...] = (0.1, 0.1)
    """One a arm."""
    seeds: tuple[int, ...] = (2, 2)
    """One a arm."""
    clusters: int = 200
    languages: int = 8
    per_language: int = 60
    """Clusters asked in each language, drawn anew for each and each task."""
    topics: int = 20
    cluster_sd: float = 0.8
    arm_cluster_sd: float = 0.3
    interaction_sd: float = 0.3
    language_sd: float = 0.0
    topic_sd: float = 0.0
    shared: float = 0.0
    """Share of the variance of seed effect, interaction and noise that arms with the same seed have in common."""

    def truth(self, arm: int) -> float:
        """Expected accuracy of an arm over everything that is drawn."""
        of_clusters = (self.cluster_sd, self.arm_cluster_sd, self.interaction_sd)
        drawn = (*of_clusters, self.seed_sd[arm], self.language_sd, self.topic_sd)
        return float(norm.cdf(self.levels[arm] / np.sqrt(1 + sum(sd**2 for sd in drawn))))

    def items(self, rng: np.random.Generator) -> pd.DataFrame:
        """Layout: two tasks, languages, clusters; a cluster is of one topic."""
        rows = [
            (task, grain, f"l{language}", cluster)
            for task, grain in (("intent", "coarse"), ("slot", "fine"))
            for language in range(self.languages)
            for cluster in rng.choice(self.clusters, self.per_language, replace=False)
        ]
        items = pd.DataFrame(rows, columns=["task", "grain", "lang", "cluster"])
        topic = "t" + (items["cluster"] % self.topics).astype(str)
        return items.assign(stratum=items["lang"], target_lang=items["lang"], topic=topic, chance=0.25)

    def panel(self, rng: np.random.Generator, worlds: int = 1) -> Panel:
        """``worlds`` draws side by side; the arms of the w-th are called ``w/0``, ``w/1``, ..."""
        items = self.items(rng)
        respondents, rows = [], []
        for world in range(worlds):
            for name, correct in self._world(rng, items):
                respondents.append(Respondent(f"{world}/{name[0]}", "fp32", name[1]))
                rows.append(correct)
        return Panel(respondents, np.array(rows, dtype=np.float32), items)

    def _world(self, rng: np.random.Generator, items: pd.DataFrame) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        cluster = items["cluster"].to_numpy()
        language = items["lang"].str[1:].astype(int).to_numpy()
        topic = items["topic"].str[1:].astype(int).to_numpy()
        difficulty = rng.normal(0, self.cluster_sd, self.clusters)

        def deviation(seed_sd: float) -> np.ndarray:
            own = seed_sd * rng.normal() + rng.normal(0, self.interaction_sd, self.clusters)[cluster]
            return np.asarray(own + rng.normal(0, 1, len(items)))

        common = [deviation(self.seed_sd[0]) for _ in range(max(self.seeds))] if self.shared else []
        for arm, level in enumerate(self.levels):
            of_arm = (
                level
                + (difficulty + rng.normal(0, self.arm_cluster_sd, self.clusters))[cluster]
                + rng.normal(0, self.language_sd, self.languages)[language]
                + rng.normal(0, self.topic_sd, self.topics)[topic]
            )
            for seed in range(self.seeds[arm]):
                own = np.sqrt(1 - self.shared) * deviation(self.seed_sd[arm])
                both = np.sqrt(self.shared) * common[seed] if self.shared else 0.0
                yield (arm, seed), of_arm + own + both > 0


@dataclass(frozen=True)
class Outcome:
    """Of the comparison of arms 0 and 1, unless said otherwise."""

    found: float
    """Share of p < ALPHA."""
    covered: float
    """Share of intervals of the difference that hold the truth."""
    own_covered: float
    """Share of intervals of arm 0's accuracy that hold the truth."""
    half: float
    """Median half width of the difference's interval."""
    detectable: float
    """Median minimum detectable difference."""


def simulate(world: World, repeats: int, seed: int = 0) -> Outcome:
    """Compare arms 0 and 1 on all tasks in ``repeats`` draws."""
    rng = np.random.default_rng(seed)
    truth, own_truth = world.truth(0) - world.truth(1), world.truth(0)
    rows = []
    for start in range(0, repeats, BATCH):
        panel = world.panel(rng, min(BATCH, repeats - start))
        for i in range(min(BATCH, repeats - start)):
            found = compare(panel, f"{i}/0", f"{i}/1", "fp32", "fp32", "all")
            own = accuracy(panel, f"{i}/0", "fp32", "all")
            inside = found.low <= truth <= found.high
            rows.append(
                (found.p < ALPHA, inside, own.low <= own_truth <= own.high, (found.high - found.low) / 2, found.mdd)
            )
    table = np.array(rows, dtype=float)
    return Outcome(*(float(x) for x in table[:, :3].mean(axis=0)), *(float(x) for x in np.median(table[:, 3:], axis=0)))


def simulate_wider(world: World, repeats: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """What is covered -> share of intervals of arm 0 minus arm 1 that hold the truth, and median half width."""
    rng = np.random.default_rng(seed)
    truth = world.truth(0) - world.truth(1)
    limits: dict[str, list[tuple[float, float]]] = {}
    for start in range(0, repeats, BATCH):
        panel = world.panel(rng, min(BATCH, repeats - start))
        for i in range(min(BATCH, repeats - start)):
            a, b = (panel.rows(f"{i}/{arm}", "fp32") for arm in (0, 1))
            narrow = compare(panel, f"{i}/0", f"{i}/1", "fp32", "fp32", "all")
            for found in (narrow, *compare_wider(panel, a, b, "all")):
                limits.setdefault(str(found.covers), []).append((found.low, found.high))
    result = {}
    for covers, pairs in limits.items():
        low, high = np.array(pairs).T
        result[covers] = (float(((low <= truth) & (truth <= high)).mean()), float(np.median(high - low) / 2))
    return result


def power_at_detectable(world: World, tests: int, repeats: int, seed: int = 0) -> float | None:
    """How often Holm's procedure over ``tests`` tests supports the one whose true difference is the detectable one.

    Arms 0, 2, 4, ... are compared with the next; all but the first pair are alike. The true difference of the first,
    set through the level of arm 0, is the detectable one of a run that knows its variances: means over a first batch.
    None where that is more than accuracies can differ by.
    """
    rng = np.random.default_rng(seed)
    many = replace(world, levels=world.levels * tests, seed_sd=world.seed_sd * tests, seeds=world.seeds * tests)

    def comparisons(of: World, draws: int) -> Iterator[list[Comparison]]:
        panel = of.panel(rng, draws)
        for i in range(draws):
            yield [compare(panel, f"{i}/{2 * k}", f"{i}/{2 * k + 1}", "fp32", "fp32", "all") for k in range(tests)]

    first = [found.parts for rows in comparisons(many, BATCH) for found in rows]
    sources = [
        VarianceComponent(
            float(np.mean([part.variance for part in source])), float(np.median([part.df for part in source]))
        )
        for source in zip(*first, strict=True)
    ]
    wanted = estimate_from(0.0, sources, Covers.ITEMS_AND_SEEDS).detectable(tests)
    if many.truth(1) + wanted >= 1:
        return None
    spread = many.levels[0] / norm.ppf(many.truth(0)) if many.levels[0] else 1.0
    level = float(spread * norm.ppf(many.truth(1) + wanted))
    real = replace(many, levels=(level, *many.levels[1:]))
    supported = 0
    for start in range(0, repeats, BATCH):
        for rows in comparisons(real, min(BATCH, repeats - start)):
            supported += rows[0].value > 0 and holm([found.p for found in rows])[0] < ALPHA
    return supported / repeats


def print_tables(repeats: int) -> None:
    """Markdown, in %, and points."""
    print(f"{repeats} draws a line\n")
    print("| seed sd of a, b (points) | seeds | found | covered | own covered | half width | detectable |")
    print("|---|---|---|---|---|---|---|")
    for seed_sd in ((0.0, 0.0), (0.05, 0.05), (0.1, 0.1), (0.3, 0.3), (0.1, 0.025), (0.2, 0.05), (0.4, 0.1)):
        for seeds in (2, 3, 5):
            world = World(seed_sd=seed_sd, seeds=(seeds, seeds))
            o = simulate(world, repeats)
            sds = ", ".join(f"{100 * points(world, sd):.1f}" for sd in seed_sd)
            shares = " | ".join(f"{100 * x:.1f}" for x in (o.found, o.covered, o.own_covered))
            print(f"| {sds} | {seeds} | {shares} | {100 * o.half:.1f} | {100 * o.detectable:.1f} |", flush=True)
    print("\n| languages | topics | sd of them (points) | covered, half width: new sentences | languages | topics |")
    print("|---|---|---|---|---|---|")
    for languages, topics in ((5, 10), (12, 40)):
        for language_sd, topic_sd in ((0.0, 0.0), (0.15, 0.0), (0.0, 0.3)):
            world = World(
                languages=languages, topics=topics, language_sd=language_sd, topic_sd=topic_sd, seeds=(3, 3)
            )  # fmt: skip
            shown = " | ".join(f"{100 * c:.1f}, {100 * h:.1f}" for c, h in simulate_wider(world, repeats // 2).values())
            sds = f"{100 * points(world, language_sd):.1f}, {100 * points(world, topic_sd):.1f}"
            print(f"| {languages} | {topics} | {sds} | {shown} |", flush=True)
    print("\n| tests in the family | seeds | supported at the detectable difference |\n|---|---|---|")
    for tests in (1, 6):
        for seeds in (2, 3, 5):
            share = power_at_detectable(World(seeds=(seeds, seeds), seed_sd=(0.05, 0.05)), tests, repeats // 2)
            print(f"| {tests} | {seeds} | {'none there is' if share is None else f'{100 * share:.1f}'} |", flush=True)


def points(world: World, sd: float) -> float:
    """What ``sd`` probit units are in accuracy at an even level."""
    return float(
        sd * norm.pdf(0) / np.sqrt(1 + world.cluster_sd**2 + world.arm_cluster_sd**2 + world.interaction_sd**2)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intervals", description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    print_tables(parser.parse_args().repeats)
