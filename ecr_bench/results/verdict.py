"""The headline in plain words, qualified by what the controls show."""

from __future__ import annotations

from ecr_bench.arm import Role
from ecr_bench.results.contrasts import CONTROL, HEADLINE, LOW, MIXED, TASKS
from ecr_bench.results.roles import REQUIRED_CONTROLS, Cast, attribute
from ecr_bench.results.schema import Contrast, TaskVerdict, Verdict
from ecr_bench.results.words import interval, points

WORD = {"supported": "Yes", "refuted": "No, the opposite holds", "inconclusive": "Not shown"}


def build_verdict(contrasts: list[Contrast], cast: Cast) -> Verdict:
    """Answer 'does small ECR beat the plain large model on unseen languages?' from the contrasts of a board."""
    unseen = [c for c in contrasts if c.split == "unseen"]
    small, large = cast.first(Role.MAIN, cast.small), cast.first(Role.PLAIN, cast.large)
    headline = [c for c in unseen if c.family == HEADLINE and (c.a, c.b) == (small, large)]
    if not headline:
        return _not_tested()
    chosen = {c.task: c for c in headline}
    precision = headline[0].precision
    controls = [c for c in unseen if c.family == CONTROL and c.a == small and c.precision == precision]
    by_task = {t: _task_verdict(chosen[t], [c for c in controls if c.task == t]) for t in TASKS if t in chosen}
    overall = by_task["all"]
    tail = [f"On {task} tasks: {v.sentence} {v.qualification}" for task, v in by_task.items() if task != "all"]
    return Verdict(
        question=f"Does {small} beat {large} on unseen languages ({precision})?",
        answer=overall.answer,
        attributable=_attributable(by_task),
        sentence=" ".join([f"{WORD[overall.answer]}. {overall.sentence} {overall.qualification}", *tail]),
        by_task=by_task,
        low_precision=tuple(
            f"{_precisions(c)}: {WORD[c.verdict].lower()}. {c.sentence}"
            for c in unseen
            if c.family in (LOW, MIXED) and c.task == "all" and (c.a, c.b) == (small, large)
        ),
    )


def _precisions(c: Contrast) -> str:
    return c.precision if c.precision == c.precision_b else f"{c.precision} against {c.precision_b}"


def _not_tested() -> Verdict:
    reason = "this board has no unseen language, or lacks ECR at a small or plain fine-tuning at a larger size"
    return Verdict(
        question="Does a small model with ECR beat a plain larger one on unseen languages?",
        answer="not tested",
        attributable=None,
        sentence=f"Not tested: {reason}.",
        by_task={},
        low_precision=(),
    )


def _task_verdict(main: Contrast, controls: list[Contrast]) -> TaskVerdict:
    level = {c.b.name: c for c in controls}
    found = attribute({c.b: c.ci[0] for c in controls})
    parts = []
    if found.anchors:
        parts.append(f"Not attributable to anchors: {_show(found.anchors, level)}.")
    if found.model:
        parts.append(f"Not attributable to the language model: {_show(found.model, level)}.")
    if found.beaten and not found.anchors and not found.model:
        parts.append(f"ECR beats every control that was run ({', '.join(found.beaten)}).")
    if found.untested:
        parts.append(f"Attribution is untested for lack of {', '.join(found.untested)}.")
    return TaskVerdict(
        task=main.task,
        answer=main.verdict,
        difference=main.difference,
        ci=main.ci,
        mdd=main.mdd,
        sentence=main.sentence,
        not_attributable_to_anchors=found.anchors,
        not_attributable_to_language_model=found.model,
        ruled_out=found.beaten,
        qualification=" ".join(parts),
    )


def _show(names: tuple[str, ...], level: dict[str, Contrast]) -> str:
    """``shuffled does as well (ECR - shuffled +0.2 points, -1.0 to +1.4)``, joined."""
    return "; ".join(
        f"{name} {'does better' if level[name].ci[1] < 0 else 'is not shown to be worse'} "
        f"(ECR \N{MINUS SIGN} {name}: {points(level[name].difference)} points, {interval(level[name].ci)})"
        for name in names
    )


def _attributable(by_task: dict[str, TaskVerdict]) -> bool | None:
    if any(v.not_attributable_to_anchors or v.not_attributable_to_language_model for v in by_task.values()):
        return False
    complete = all(set(REQUIRED_CONTROLS) <= set(v.ruled_out) for v in by_task.values())
    return True if complete else None
