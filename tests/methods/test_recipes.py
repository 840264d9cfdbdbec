"""What goes together, what does not, what an arm is called, and that options reach only the arms that use them."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ecr_bench.arm import Arm, Role
from ecr_bench.config import CellSpec, Experiment, load
from ecr_bench.errors import UserError
from ecr_bench.methods.former import FORMER, modern_spec
from ecr_bench.methods.recipe import Recipe, arms_of
from ecr_bench.methods.registry import METHODS, MODIFIERS, recipe_names
from ecr_bench.results.roles import REQUIRED_CONTROLS
from ecr_bench.runner.plan import make_plan
from ecr_bench.section import Section
from tests.helpers.outside import ROOT

GOES_TOGETHER = {
    "finetune": {"stand-in", "distill", "lora", "fusion"},
    "ecr": {"stand-in", "dropout", "refresh", "distill", "lora", "fusion"},
    "random": {"stand-in", "dropout", "distill", "lora", "fusion"},
    "constant": {"stand-in", "dropout", "distill", "lora", "fusion"},
    "language": {"stand-in", "dropout", "distill", "lora", "fusion"},
    "shuffled": {"stand-in", "dropout", "distill", "lora", "fusion"},
    "oracle": {"stand-in", "dropout", "distill", "lora", "fusion"},
    "codes-only": {"refresh", "distill", "lora", "fusion"},
    "teacher-probe": set(),
    "soft-cue": {"stand-in", "dropout", "distill", "fusion"},
    "relational": {"stand-in", "lora", "fusion"},
    "embedding-distillation": {"stand-in", "lora", "fusion"},
    "teacher-init": {"stand-in", "distill", "lora", "fusion"},
}


@pytest.mark.parametrize("method", list(METHODS))
def test_each_modifier_goes_with_a_method_or_says_in_one_line_why_not(method: str) -> None:
    for modifier in MODIFIERS:
        if modifier in GOES_TOGETHER[method]:
            assert Recipe.of(method, [modifier]).name == f"{method}+{modifier}"
            continue
        with pytest.raises(UserError, match=rf"^{method}\+{modifier}: ") as caught:
            Recipe.of(method, [modifier])
        assert "\n" not in str(caught.value)


def test_all_sets_of_modifiers_compose_but_for_the_pairs_that_do_not() -> None:
    apart = {frozenset({"refresh", "lora"}), frozenset({"refresh", "stand-in"})}
    for count in range(2, len(list(MODIFIERS)) + 1):
        for chosen in itertools.combinations(MODIFIERS, count):
            if any(pair <= set(chosen) for pair in apart):
                with pytest.raises(UserError, match="does not go with this"):
                    Recipe.of("ecr", chosen)
            else:
                assert Recipe.of("ecr", chosen).name == "+".join(("ecr", *chosen))


@given(st.permutations(["dropout", "distill", "lora"]))
def test_the_order_in_which_modifiers_are_listed_does_not_matter(listed: list[str]) -> None:
    assert Recipe.of("ecr", listed).to_json() == Recipe.of("ecr", ["dropout", "distill", "lora"]).to_json()


def test_a_recipe_comes_back_from_json_with_its_options() -> None:
    recipe = Recipe.of("ecr", ["lora", "dropout"], {"lora": {"base": "nf4", "rank": 3}, "dropout": {"text": 0.5}})
    again = Recipe.from_json(recipe.to_json())
    assert again.to_json() == recipe.to_json() and again.name == "ecr+dropout+lora"
    assert again.base_precision == "nf4" and again.precisions == ("nf4",)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic': allowed are .*ecr"),
        ({"method": "ecr", "with": ["magic"]}, "unknown modifier 'magic': allowed are .*dropout"),
        ({"method": "ecr", "with": ["lora", "lora"]}, "lora is listed twice"),
        ({"method": "ecr", "with": ["lora", {"lora": {"rank": 2}}]}, "lora is listed twice"),
        ({"method": "ecr", "options": {"weight": 1.0}}, "method 'ecr' has no such option: allowed are none"),
        ({"method": "relational", "options": {"wait": 1.0}}, "options.relational.wait: .*weight, temperature"),
        ({"method": "ecr", "with": [{"lora": {"rank": 0}}]}, "options.lora.rank: .*greater than or equal to 1"),
        ({"method": "ecr", "with": [{"lora": {"rank": "8"}}]}, "options.lora.rank: .*valid integer"),
        (
            {"method": "ecr", "with": [{"lora": {"rank": 8}}], "set": {"options.lora.rank": 4}},
            "lora.rank stands in 'set' and beside its name",
        ),
        *(
            (
                {"method": "finetune", "with": [{"lora": {"alpha": 3.0}}], "set": whole},
                "finetune: options.* stands in 'set', and options of lora beside its name",
            )
            for whole in ({"options.lora": {"rank": 2}}, {"options": {"lora": {"rank": 2}}})
        ),
        (
            {"method": "relational", "with": ["distill"]},
            "relational and distill do not go together: each brings a loss",
        ),
        *(({"method": name}, f"method '{re.escape(name)}' is now written .*method.: ") for name in FORMER),
    ],
)
def test_what_cannot_be_run_is_one_line_before_anything_runs(group: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_plan(load("tiny").with_overrides({"cells": [group]}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"options.lorra.rank": 2}, "options: unknown method or modifier 'lorra': allowed are .*lora"),
        ({"options.lora.rnk": 2}, "options.lora.rnk: modifier 'lora' has no such option: allowed are base, rank"),
        ({"options.lora.rank.x": 2}, "unknown key 'options.lora.rank.x'"),
        ({"options.lora": 2}, "options.lora: .*valid dictionary"),
        ({"options.ecr.x": 2}, "options.ecr.x: method 'ecr' has no such option: allowed are none"),
    ],
)
def test_options_of_an_experiment_are_read_against_their_owners(overrides: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load("tiny").with_overrides(overrides)


def arms(*groups: dict, **overrides: object) -> list[str]:
    experiment = load("tiny").with_overrides({"cells": list(groups), **overrides})
    return [str(arm) for group in experiment.cells for arm in arms_of(group, experiment)]


def test_arms_print_what_tells_them_from_their_experiment() -> None:
    lora = {"method": "ecr", "with": [{"lora": {"base": "int8"}}]}
    assert arms(lora) == ["ecr+lora-1x[lora.base=int8]"]
    assert arms(lora, **{"options.lora.base": "int8"}) == ["ecr+lora-1x"]
    assert arms({"method": "ecr", "with": [{"lora": {"base": "dense"}}]}) == ["ecr+lora-1x"]
    assert arms({"method": "ecr", "with": ["lora"], "set": {"options.lora.rank": 2}}) == ["ecr+lora-1x[lora.rank=2]"]
    assert arms({"method": "relational", "options": {"weight": 2.0}}) == ["relational-1x[relational.weight=2.0]"]
    assert arms({"method": "ecr", "set": {"control_tokens.count": 1}}) == ["ecr-1x[control_tokens.count=1]"]


@pytest.mark.parametrize(
    ("owner", "key", "tuned", "usual"), [("lora", "rank", 2, 16), ("relational", "weight", 3.0, 1.0)]
)
def test_an_arm_that_goes_back_from_what_is_tuned_for_it_says_so(owner, key, tuned, usual) -> None:
    modifies = owner in MODIFIERS
    plain = {"method": "finetune", "with": [owner]} if modifies else {"method": owner}
    entry = {**plain, "sizes": ["1x"], "set": {f"options.{owner}.{key}": tuned}}
    for value, name in ((tuned, ""), (usual, f"[{owner}.{key}={usual}]")):
        beside = {**plain, "with": [{owner: {key: value}}]} if modifies else {**plain, "options": {key: value}}
        (arm,) = arms(beside, tuned=[entry])
        assert arm == f"{Arm(plain['method'], '1x', tuple(plain.get('with', ())))}{name}"


def test_options_that_are_set_as_a_whole_are_told_as_a_whole() -> None:
    """What they do not name goes back to its default, which another experiment may have set."""
    usual = {"options.lora": {"rank": 4, "alpha": 3.0}}
    whole, single = ({"options.lora": {"rank": 3}}, {"options.lora.rank": 3})
    named = [arms({"method": "ecr", "with": ["lora"], "set": given}, **usual) for given in (whole, single)]
    assert named == [['ecr+lora-1x[options.lora={"rank":3}]'], ["ecr+lora-1x[lora.rank=3]"]]
    both = [{"method": "ecr", "with": ["lora"], "set": given} for given in (whole, single)]
    first, second = make_plan(load("tiny").with_overrides({"cells": both, **usual})).cells
    assert first.train != second.train


@pytest.mark.parametrize("given", [
    {"sizes.1x.layers": 1, "sizes.1x": {"hidden_size": 32, "layers": 3, "heads": 2, "intermediate_size": 64}},
    {"finetune": {"steps": 4}, "finetune.batch_size": 8},
    {"options.lora.rank": 3, "options": {"lora": {"alpha": 2.0}}},
])  # fmt: skip
def test_what_is_set_as_a_whole_and_in_part_is_refused(given: dict) -> None:
    for key, value in (
        ("cells", {"method": "ecr", "with": ["lora"], "set": given}),
        ("tuned", {"method": "ecr", "with": ["lora"], "sizes": ["1x"], "set": given}),
    ):
        with pytest.raises(UserError, match=rf"{key}.set: \S+ is set as a whole and \S+ by itself") as caught:
            load("tiny").with_overrides({"cells": [{"method": "ecr"}], key: [value]})
        assert "\n" not in str(caught.value)


def test_settings_stay_as_they_were_given() -> None:
    given = {"sizes.1x": {**load("tiny").model_dump(mode="json")["sizes"]["1x"], "layers": 3}}
    assert load("tiny").with_overrides({**given, "sizes.1x.layers": 1}).sizes["1x"].layers == 1
    assert given["sizes.1x"]["layers"] == 3


def test_ways_to_set_an_option_give_the_same_stage() -> None:
    beside = {"method": "ecr", "with": [{"dropout": {"text": 0.5}}]}
    inside = {"method": "ecr", "with": ["dropout"], "set": {"options.dropout.text": 0.5}}
    plain = {"method": "ecr", "with": ["dropout"]}
    tiny = load("tiny")
    plans = [make_plan(tiny.with_overrides({"cells": [group]})) for group in (beside, inside)]
    plans.append(make_plan(tiny.with_overrides({"cells": [plain], "options.dropout.text": 0.5})))
    assert len({plan.cells[0].train for plan in plans}) == 1
    assert make_plan(tiny.with_overrides({"cells": [plain]})).cells[0].train != plans[0].cells[0].train


def test_options_are_part_of_the_arms_that_use_them_only() -> None:
    groups = [{"method": "finetune"}, {"method": "relational"}]
    groups += [{"method": "ecr", "with": [name]} for name in ("dropout", "distill", "lora")]
    tiny = load("tiny").with_overrides({"cells": groups})
    before = {cell.arm: cell.train for cell in make_plan(tiny).cells}
    for key, value in {
        "relational.weight": 2.0, "dropout.text": 0.1, "distill.weight": 0.9, "lora.rank": 2, "refresh.times": 1,
    }.items():  # fmt: skip
        after = make_plan(tiny.with_overrides({f"options.{key}": value})).cells
        changed = {cell.arm for cell in after if cell.train != before[cell.arm]}
        owner = key.partition(".")[0]
        assert changed == {arm for arm in before if owner in (arm.method, *arm.modifiers)}


def test_an_experiment_with_recipes_survives_its_own_dump() -> None:
    cells = [{"method": "ecr", "with": ["dropout", {"lora": {"base": "nf4"}}], "options": {}}]
    experiment = load("tiny").with_overrides({"cells": cells, "options.lora.rank": 2})
    dump = experiment.model_dump(mode="json")
    assert dump["cells"][0]["with"] == ["dropout", {"lora": {"base": "nf4"}}]
    assert Experiment.model_validate(yaml.safe_load(yaml.safe_dump(dump))) == experiment


def test_roles_are_what_the_classes_state() -> None:
    assert REQUIRED_CONTROLS == ("random", "constant", "language", "shuffled", "codes-only")
    assert Recipe.of("ecr").role is Role.MAIN and Recipe.of("ecr", ["dropout"]).role is Role.CONTENDER
    assert Recipe.of("finetune", ["lora"]).role is Role.CONTENDER
    # not deployable and no contender, whatever is added
    assert Recipe.of("oracle", ["lora"]).role is Role.UPPER_BOUND
    assert Recipe.of("shuffled", ["dropout"]).role is Role.ANCHOR_CONTROL

    class Variant(METHODS.get("ecr")):  # type: ignore[misc]
        """A variant of ECR."""

    assert Variant.role is Role.CONTENDER


def test_every_former_name_has_a_recipe_and_every_recipe_a_name() -> None:
    names = set(recipe_names())
    for name in FORMER:
        spec = CellSpec.model_validate(modern_spec({"method": name, "set": {"lora.rank": 2, "anchors.k": 8}}))
        assert Recipe.of_spec(spec, {}).name in names
        assert set(spec.set) == {"options.lora.rank", "anchors.k"}
    assert {"ecr", "finetune+distill", "ecr+dropout+lora"} <= names


def test_an_arm_of_a_recipe_is_the_arm_a_run_keeps() -> None:
    arm = Recipe.of("ecr", ["lora"]).arm("1x", {"lora.base": "nf4"})
    assert arm == Arm("ecr", "1x", ("lora",), (("lora.base", "nf4"),)) and Arm.from_json(arm.to_json()) == arm


@pytest.mark.parametrize("registry", [METHODS, MODIFIERS], ids=lambda registry: registry.kind)
def test_every_option_is_documented(registry: object) -> None:
    for name in registry:  # type: ignore[attr-defined]
        kind: type[Section] = registry.get(name).Options  # type: ignore[attr-defined]
        assert all(field.description for field in kind.model_fields.values()), name


LIGHT = """
import sys
from ecr_bench.config import load
from ecr_bench.methods.recipe import Recipe
from ecr_bench.methods.registry import METHODS, MODIFIERS
from ecr_bench.options import listing
from ecr_bench.owners import check_options

print(*(line for registry in (METHODS, MODIFIERS) for line in listing(registry)), sep="\\n")
Recipe.of("ecr", ["dropout", "distill"])
heavy = {"torch", "transformers", "lightning", "peft"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def test_methods_are_listed_checked_and_composed_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\('  rank', 'int ≥ 1 ≤ \d+, default 16: Rank of the two factors\.'\)", done.stdout)
