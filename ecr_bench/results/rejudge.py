"""Verdicts of a published board and of its claims, made anew from the numbers they were published with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import t as student

from ecr_bench.arm import Arm, Role
from ecr_bench.results.arms import ordered_precisions
from ecr_bench.results.contrasts import CONTROL, GAINS, LOW, MIXED, TASKS
from ecr_bench.results.judgement import SMALLEST_EFFECT, Standing, Thresholds, judge_difference, word_of
from ecr_bench.results.roles import attribute
from ecr_bench.results.schema import Attribution, BoardRow, Contrast, Group
from ecr_bench.results.sentences import attribution_in_words, contrast_in_words
from ecr_bench.statistics.multiple import holm

Json = dict[str, Any]


def rejudged(contrasts: Sequence[Json], rows: Sequence[BoardRow], arms: Mapping[str, Arm]) -> list[Contrast]:
    """Contrasts as format 1 has them (arms by name) with today's words: corrected p-values stay, the p of the smallest
    effect is worked out from interval and degrees of freedom."""
    standings = {(r.arm, r.precision, r.group, r.task): Standing(r.arm, r.n_seeds, r.ci[0] <= r.chance) for r in rows}
    controls = _controls(contrasts, arms)
    smaller = _smaller(contrasts)
    return [
        _contrast(raw, arms, p_smaller, standings, controls) for raw, p_smaller in zip(contrasts, smaller, strict=True)
    ]


Ends = dict[Arm, tuple[float, float]]


def _controls(contrasts: Sequence[Json], arms: Mapping[str, Arm]) -> dict[tuple[str, str, str, str], Ends]:
    """(arm, precision, group, task) -> its controls with the limits of its lead over them."""
    found: dict[tuple[str, str, str, str], Ends] = {}
    for c in contrasts:
        if c["family"] == CONTROL:
            key = c["a"], c["precision"], c["group"], c["task"]
            found.setdefault(key, {})[arms[c["b"]]] = (c["ci"][0], c["ci"][1])
    return found


def _smaller(contrasts: Sequence[Json]) -> list[float | None]:
    """P-values of the smallest effect, corrected within the families the published ones were corrected in."""
    families: dict[tuple[str, str, str], list[int]] = {}
    for i, c in enumerate(contrasts):
        if c["family"] != CONTROL:
            precision = "" if c["family"] in (LOW, MIXED) else c["precision"]
            families.setdefault((c["family"], precision, c["group"]), []).append(i)
    result: list[float | None] = [None] * len(contrasts)
    for members in families.values():
        for i, p in zip(members, holm([_p_against(contrasts[i], SMALLEST_EFFECT) for i in members]), strict=True):
            result[i] = p
    return result


def _p_against(c: Json, threshold: float) -> float:
    half = (c["ci"][1] - c["ci"][0]) / 2
    if not half:
        return 1.0
    se = half / float(student.ppf(0.975, c["df"]))
    return float(2 * student.sf(abs(c["difference"] - threshold) / se, c["df"]))


def _contrast(
    raw: Json,
    arms: Mapping[str, Arm],
    p_smaller: float | None,
    standings: Mapping[tuple[Arm, str, Group, str], Standing],
    controls: Mapping[tuple[str, str, str, str], Ends],
) -> Contrast:
    where = raw["group"], raw["task"]
    a = standings[arms[raw["a"]], raw["precision"], *where]
    b = standings[arms[raw["b"]], raw["precision_b"], *where]
    is_control = raw["family"] == CONTROL
    if is_control:
        b = Standing(b.arm, max(a.seeds, b.seeds), b.reaches_chance)
    thresholds = Thresholds(smallest=-math.inf) if is_control else Thresholds()
    judged = judge_difference(raw["difference"], raw["p_holm"], p_smaller or 1.0, thresholds, a, b)
    shown: Attribution | None = None
    if raw["family"] in GAINS:
        shown = attribute(controls.get((raw["a"], raw["precision"], *where), {}))
    given = {**raw, "p_smaller_holm": p_smaller, "attribution": shown, "verdict": word_of(judged.answer, shown)}
    contrast = Contrast.model_validate(given, context={"arms": arms})
    return contrast.model_copy(update={"sentence": contrast_in_words(contrast, judged)})


def rejudged_claims(report: Json, contrasts: Sequence[Contrast], times: Sequence[str]) -> Json:
    """A claims report of format 1 (arms by name already) by today's rules; ``times``: metrics that are judged only
    where they were measured to be compared."""
    board = {(str(c.a), str(c.b), c.precision, c.precision_b, c.group, c.task): c for c in contrasts}
    for result in report["results"]:
        _rejudge(result, board, times)
    tested = [r for r in report["results"] if r["finding"]]
    report["tested"], report["corrected"] = len(tested), sum(not r["on_board"] for r in tested)
    return report


def _rejudge(result: Json, board: Mapping[Any, Contrast], times: Sequence[str]) -> None:
    claim = result["claim"]
    held = result.pop("as_good")
    sign = 1 if claim["direction"] == "higher" else -1
    better = [
        name for c in result["controls"] if (name := c.pop("method")) and max(sign * c["low"], sign * c["high"]) < 0
    ]
    result |= {"better": better, "not_beaten": [name for name in held if name not in better], "on_board": False}
    if claim["metric"] in times and result["finding"]:
        _untest(result, f"{claim['metric']} was not measured to be compared (one machine, arms in turn, repeated)")
        return
    key = (result["a"], result["b"], claim["precision"], claim["precision_b"] or claim["precision"])
    found = board.get((*map(str, key), claim["group"], claim["task"]))
    if found and claim["metric"] == "accuracy" and claim["test"] == "superiority" and sign > 0:
        tests = {c.b.name: (c.difference, *c.ci) for c in board.values() if _is_control_of(c, found)}
        said = attribution_in_words(found.attribution, tests) if found.attribution else ""
        result |= {"verdict": found.verdict, "p_holm": found.p_holm, "p_smaller_holm": found.p_smaller_holm}
        result |= {"on_board": True, "sentence": f"{found.sentence} {said}".strip()}
        result["finding"]["mdd"] = found.mdd
    elif result["verdict"] == "supported" and result["untested_controls"]:
        result["verdict"] = "supported, not attributed"


def _is_control_of(c: Contrast, found: Contrast) -> bool:
    same = (c.a, c.precision, c.group, c.task) == (found.a, found.precision, found.group, found.task)
    return c.family == CONTROL and same


def floors_from(rows: Sequence[BoardRow]) -> dict[str, tuple[str, ...]]:
    """Group -> single tasks on which every arm that reads reaches chance, at the highest precision."""
    reference = ordered_precisions(row.precision for row in rows)[0]
    readers = [r for r in rows if r.precision == reference and r.arm.role is not Role.MODEL_CONTROL]
    result = {}
    for group in dict.fromkeys(r.group for r in readers):
        single_tasks = dict.fromkeys(r.task for r in readers if r.group == group and r.task not in TASKS)
        mine = {task: [r for r in readers if (r.group, r.task) == (group, task)] for task in single_tasks}
        if below := tuple(task for task, found in mine.items() if all(r.ci[0] <= r.chance for r in found)):
            result[str(group)] = below
    return result


def untie_the_lonely(rows: Sequence[Json]) -> None:
    """Who is tied with nobody is not tied."""
    together: dict[tuple[str, str, str], list[Json]] = {}
    for row in rows:
        together.setdefault((row["group"], row["precision"], row["task"]), []).append(row)
    for mine in together.values():
        if len(tied := [row for row in mine if row["tied_with_leader"]]) == 1:
            tied[0]["tied_with_leader"] = False


def _untest(result: Json, reason: str) -> None:
    empty: Json = {"finding": None, "p_holm": None, "p_smaller_holm": None, "controls": [], "better": []}
    result |= empty | {"not_beaten": [], "untested_controls": [], "evidence": [], "verdict": "not tested"}
    result["sentence"] = f"Not tested: {reason}."
