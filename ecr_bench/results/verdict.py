"""The headline in plain words, qualified by what the controls show."""

from __future__ import annotations

from ecr_bench.arm import Arm, Role
from ecr_bench.results.contrasts import CONTROL, HEADLINE, LOW, MIXED
from ecr_bench.results.roles import Cast
from ecr_bench.results.schema import Contrast, TaskVerdict, Verdict
from ecr_bench.results.sentences import attribution_in_words


def build_verdict(contrasts: list[Contrast], cast: Cast) -> Verdict:
    """Answer 'does the small model with ECR beat the plain large one on unseen languages?' from the contrasts of a
    board."""
    unseen = [c for c in contrasts if c.group == "unseen"]
    small, large = cast.first(Role.MAIN, cast.small), cast.first(Role.PLAIN, cast.large)
    headline = [c for c in unseen if c.family == HEADLINE and (c.a, c.b) == (small, large)]
    if small is None or large is None or not headline:
        return _not_tested(small, large, _reason(cast, small))
    precision, ratio = headline[0].precision, cast.ratio(large.size)
    controls = [c for c in unseen if c.family == CONTROL and c.a == small and c.precision == precision]
    by_task = {c.task: _task_verdict(c, [o for o in controls if o.task == c.task]) for c in headline}
    overall = by_task["all"]
    tail = [f"On {task} tasks: {v.sentence} {v.qualification}" for task, v in by_task.items() if task != "all"]
    return Verdict(
        question=f"Does {small} beat {large}, a plain model {ratio:.1f} times as large, on unseen languages "
        f"({precision})?",
        small=small,
        large=large,
        ratio=ratio,
        answer=overall.answer,
        attributable=_attributable(headline),
        sentence=" ".join([f"{overall.answer.capitalize()}. {overall.sentence} {overall.qualification}", *tail]),
        by_task=by_task,
        low_precision=tuple(
            f"{_precisions(c)}: {c.verdict}. {c.sentence}"
            for c in unseen
            if c.family in (LOW, MIXED) and c.task == "all" and (c.a, c.b) == (small, large)
        ),
    )


def _precisions(c: Contrast) -> str:
    return c.precision if c.precision == c.precision_b else f"{c.precision} against {c.precision_b}"


def _reason(cast: Cast, small: Arm | None) -> str:
    forms = [arm for arm in cast.arms if arm.role is Role.MAIN and arm.size == cast.small and not arm.is_plain_form]
    if small is None and forms:
        return f"ECR was run here only with settings of its own, {len(forms)} of them; their accuracies are below"
    return "this board has no unseen language, or lacks ECR at a small or plain fine-tuning at a larger size"


def _not_tested(small: Arm | None, large: Arm | None, reason: str) -> Verdict:
    return Verdict(
        question="Does a small model with ECR beat a plain larger one on unseen languages?",
        small=small,
        large=large,
        ratio=None,
        answer="not tested",
        attributable=None,
        sentence=f"Not tested: {reason}.",
        by_task={},
        low_precision=(),
    )


def _task_verdict(main: Contrast, controls: list[Contrast]) -> TaskVerdict:
    found = main.attribution
    assert found is not None
    tests = {c.b.name: (c.difference, *c.ci) for c in controls}
    return TaskVerdict(
        task=main.task,
        answer=main.verdict,
        difference=main.difference,
        ci=main.ci,
        mdd=main.mdd,
        p_holm=main.p_holm,
        sentence=main.sentence,
        attribution=found,
        qualification=attribution_in_words(found, tests),
    )


def _attributable(headline: list[Contrast]) -> bool | None:
    found = [c.attribution for c in headline if c.attribution]
    if any(shown.anchors or shown.model for shown in found):
        return False
    return None if any(shown.untested for shown in found) else True
