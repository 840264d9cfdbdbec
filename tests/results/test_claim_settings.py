"""Claims about arms with settings of their own: what was required, which controls speak to them, who is compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ecr_bench.arm import Arm, Role
from ecr_bench.errors import UserError
from ecr_bench.results.claim_schema import ClaimResult
from ecr_bench.results.claims_file import judge
from ecr_bench.types import Measure
from tests.helpers.world import ALL_CONTROLS, LEVELS, QUICK, Made, arm, make, measured

STABLE = {"id": "c", "says": "ECR diverges less.", "a": {"role": "main", "at": "small"},
          "b": {"role": "plain", "at": "small"}, "metric": "diverged", "direction": "lower", "smallest_effect": 0.05,
          "pool_settings": True, "requires": {"finetune.clip": None},
          "controls": ["random", "constant", "language", "shuffled"]}  # fmt: skip
RATES = (1.0, 3.0)


@pytest.fixture(scope="module")
def made() -> Made:
    return make(LEVELS | ALL_CONTROLS, items=20, precisions=("fp32",))


def judged(folder: Path, made: Made, claim: dict[str, Any], measures: list[Measure], **finetune: Any) -> ClaimResult:
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [claim]}))
    facts = made.facts(measures)
    facts = replace(facts, experiment={**facts.experiment, "finetune": QUICK["finetune"] | finetune})
    (result,) = judge("x", facts, path).results
    return result


def at_rates_alone(made: Made, **settings: Any) -> Made:
    """ECR and plain 1x at every rate, and no control."""
    rates = [{"finetune.learning_rate": rate, **settings} for rate in RATES]
    return made.without(*ALL_CONTROLS).under("ecr-1x", *rates).under("finetune-1x", *rates)


@pytest.fixture(scope="module")
def rated(made: Made) -> Made:
    return at_rates_alone(made)


def at_rates(shares: dict[str, list[float]], **settings: Any) -> list[Measure]:
    """``diverged`` of each method's seeds at every rate, and nothing of a method in the experiment's own settings."""
    forms = {
        Arm.of(name, "1x", {"finetune.learning_rate": rate, **settings}, arm(f"{name}-1x").role): values
        for name, values in shares.items()
        for rate in RATES
    }
    return measured("diverged", forms)


ECR, PLAIN = [0.0, 0.1, 0.2, 0.1], [1.0, 1.0, 1.0, 0.9]


def test_runs_that_lack_what_a_claim_requires_do_not_speak_to_it(made: Made, rated: Made, tmp_path: Path) -> None:
    """Their own setting counts, not that of their experiment."""
    clipped = at_rates({"ecr": ECR, "finetune": PLAIN}, **{"finetune.clip": 1.0})
    nobody = at_rates({"ecr": [0.5, 0.4, 0.6, 0.5], "finetune": [0.5, 0.6, 0.4, 0.5]})
    both = judged(tmp_path, rated, STABLE, [*clipped, *nobody], clip=None)
    assert both.finding and both.finding.difference == pytest.approx(0.0) and both.verdict == "inconclusive"
    only = judged(tmp_path, at_rates_alone(made, **{"finetune.clip": 1.0}), STABLE, clipped, clip=None)
    assert (
        only.verdict == "not tested" and "has 1.0" in only.sentence and "it needs finetune.clip = None" in only.sentence
    )
    freed = at_rates({"ecr": ECR, "finetune": PLAIN}, **{"finetune.clip": None})
    assert judged(tmp_path, rated, STABLE, freed, clip=1.0).finding


@pytest.mark.parametrize(("share", "verdict"), [
    (ECR, "not attributable to anchors"), ([0.1, 0.0, 0.2, 0.1], "not attributable to anchors"),
    (PLAIN, "supported, not attributed"),
])  # fmt: skip
def test_controls_run_at_the_pooled_settings_are_found(
    rated: Made, tmp_path: Path, share: list[float], verdict: str
) -> None:
    result = judged(tmp_path, rated, STABLE, at_rates({"ecr": ECR, "finetune": PLAIN, "random": share}), clip=None)
    assert result.verdict == verdict, result.sentence
    assert [control.arm for control in result.controls] == [Arm("random", "1x", role=Role.ANCHOR_CONTROL)]
    assert set(result.untested_controls) == {"constant", "language", "shuffled"}


def test_a_control_in_the_arms_own_settings_goes_before_the_plain_one(made: Made, tmp_path: Path) -> None:
    """And one that was run in others alone counts as not run."""
    few = {"control_tokens.count": 2}
    forms = {Arm.of("ecr", "1x", few, Role.MAIN): [0.9, 0.93, 0.91], arm("finetune-1x"): [0.5, 0.52, 0.52],
             Arm.of("random", "1x", few, Role.ANCHOR_CONTROL): [0.91, 0.92, 0.9], arm("random-1x"): [0.1, 0.12, 0.1],
             arm("constant-1x"): [0.2, 0.21, 0.2]}  # fmt: skip
    claim = STABLE | {"a": "ecr-1x[control_tokens.count=2]", "b": "finetune-1x", "metric": "mexa", "requires": {}}
    claim |= {"direction": "higher", "pool_settings": False}
    result = judged(tmp_path, made, claim, measured("mexa", forms))
    assert {str(control.arm): control.beaten for control in result.controls} == {
        "random-1x[control_tokens.count=2]": False,
    }  # fmt: skip
    assert result.untested_controls == ("constant", "language", "shuffled")


def test_a_role_is_played_in_the_experiments_own_settings(made: Made, tmp_path: Path) -> None:
    """As on the board, which does not compare an arm of other settings with a plain one either."""
    longer = made.under("ecr-1x", {"finetune.steps": 9})
    claim = STABLE | {"b": {"role": "plain", "at": "large"}, "metric": "accuracy", "direction": "higher"}
    claim |= {"requires": {}, "pool_settings": False}
    result = judged(tmp_path, longer, claim, [])
    assert result.verdict == "not tested"
    assert "main at the small size was run only as ecr-1x[finetune.steps=9]" in result.sentence, result.sentence


def untested(folder: Path, made: Made, **change: Any) -> str:
    claim = STABLE | {"a": "ecr-1x", "b": "finetune-1x", "pool_settings": False, "requires": {}} | change
    metric = str(claim["metric"])
    values = dict.fromkeys(made.arms.values(), ECR) | {arm("finetune-1x"): PLAIN}
    shares = measured(metric, values) if metric == "diverged" else []
    return judged(folder, made, claim, shares).sentence


def test_a_requirement_is_compared_as_it_is_written(made: Made, tmp_path: Path) -> None:
    """Lists, options that an arm sets itself under its owner's name, and those that nobody sets."""
    assert "Not tested" not in untested(tmp_path, made, requires={"seen_languages": QUICK["seen_languages"]})
    assert "it needs seen_languages = ['de']" in untested(tmp_path, made, requires={"seen_languages": ["de"]})
    own = made.under("ecr-1x", {"dropout.tokens": 0.3}).under("random-1x", {"dropout.tokens": 0.3})
    claim = {"a": "ecr-1x[dropout.tokens=0.3]", "b": "random-1x[dropout.tokens=0.3]", "metric": "accuracy"}
    claim |= {"direction": "higher", "requires": {"options.dropout.tokens": 0.3}}
    assert "Not tested" not in untested(tmp_path, own, **claim)
    claim["requires"] = {"options.dropout.tokens": 0.4}
    assert "it needs options.dropout.tokens = 0.4, ecr-1x[dropout.tokens=0.3] has 0.3" in untested(
        tmp_path, own, **claim
    )


def test_a_bare_name_of_an_arm_that_was_run_in_other_settings_alone_says_so(made: Made, tmp_path: Path) -> None:
    few = made.under("ecr-1x", {"control_tokens.count": 2})
    for metric in ("accuracy", "diverged"):
        words = untested(tmp_path, few, metric=metric, direction="higher" if metric == "accuracy" else "lower")
        assert words not in ("Not tested: .", "") and "ecr-1x" in words


def test_accuracies_and_costs_are_of_one_form(made: Made, tmp_path: Path) -> None:
    for metric in ("accuracy", "parameters"):
        with pytest.raises(UserError, match=f"pool_settings: is for measures, not for {metric}"):
            untested(tmp_path, made, metric=metric, pool_settings=True)


def test_the_small_size_is_one_at_which_ecr_was_run_as_the_experiment_sets_it() -> None:
    few = {"control_tokens.count": 2}
    both = make(LEVELS | {"ecr-3x": 0.8, "finetune-9x": 0.6}, items=6, precisions=("fp32",))
    assert both.facts().cast.small == "1x" and both.under("ecr-1x", few).facts().cast.small == "3x"
    one = make(LEVELS, items=6, precisions=("fp32",)).under("ecr-1x", few)
    assert one.facts().cast.small == "1x"
