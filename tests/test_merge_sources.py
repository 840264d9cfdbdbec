"""What runs say of where their numbers come from: compared before arms are pooled, kept, and checked as data."""

from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace
from typing import Any

import pytest

from ecr_bench.arm import Arm, Role
from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.conflicts import environments
from ecr_bench.leaderboard.merge import merge
from ecr_bench.leaderboard.origins import origin_notes, other_origin, settled_by
from ecr_bench.methods.registry import role_of
from ecr_bench.results.claim_settings import asks_teacher
from ecr_bench.results.told import check_roles
from ecr_bench.run import Run
from tests.test_merge import part

ARMS = ("finetune-3x", "ecr-1x")
OTHER = "0123456789abcdef"


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Two runs of two arms, a seed each."""
    top = tmp_path_factory.mktemp("halves")
    return [
        part(name, top / name, lambda r, seed=seed: r["seed"] == seed and r["arm"] in ARMS)
        for seed, name in enumerate(("one", "two"))
    ]


def edited(folder, to, edit):
    """A copy of a run whose provenance was changed and the folder sealed again, as by its owner."""
    shutil.copytree(folder, to)
    run = Run.load(to)
    edit(run.board.provenance)
    run.write(to)
    return to


def prints(**values):
    return lambda provenance: provenance["fingerprints"].update(values)


def notes(folder):
    return Run.load(folder).board.notes


@pytest.mark.parametrize(("what", "values", "arm"), [
    ("corpus", {"corpus": OTHER}, "finetune-3x"),
    ("teacher", {"teachers": [OTHER]}, "ecr-1x"),
])  # fmt: skip
def test_another_corpus_or_teacher_behind_the_same_name_is_refused_unless_kept_apart(
    halves, tmp_path, what, values, arm
):
    one, two = halves
    other = edited(two, tmp_path / "other", prints(**values))
    with pytest.raises(UserError, match=rf"{arm}: the fingerprint of the {what} is .+ in one and {OTHER} in two; --ap"):
        merge([one, other], tmp_path / "board", apart=False)
    assert not (tmp_path / "board").exists()
    merge([one, other], tmp_path / "board", apart=True)
    merged = Run.load(tmp_path / "board" / "intents")
    said = "corpora" if what == "corpus" else "teachers"
    (note,) = (n for n in merged.board.notes if n.startswith(f"{said} differ by fingerprint: "))
    assert f"{OTHER} (two)" in note and "(one)" in note
    assert any(n.startswith(f"left out, since runs differ in {what}: ") for n in merged.board.notes)
    assert "mutual_knn_teacher" not in {m.metric for m in merged.measures}


def test_an_arm_that_asks_no_teacher_pools_whatever_the_teacher(halves, tmp_path):
    plain = part("plain", tmp_path / "plain", lambda r: r["seed"] == 1 and r["arm"] == ARMS[0])
    other = edited(plain, tmp_path / "other", prints(teachers=[OTHER]))
    merge([halves[0], other], tmp_path / "board", apart=False)
    assert not any(n.startswith("teachers differ") for n in notes(tmp_path / "board" / "intents"))


def test_fingerprints_are_kept_and_compared_again_on_a_board_of_boards(halves, tmp_path):
    one, two = halves
    plain = part("plain", tmp_path / "plain", lambda r: r["seed"] == 1 and r["arm"] == ARMS[0])
    merge([one, plain], tmp_path / "both", apart=False, name="both")
    both = Run.load(tmp_path / "both" / "both")
    alone = Run.load(one).provenance["fingerprints"]
    assert both.provenance["runs"]["one"]["fingerprints"] == alone and alone["corpus"]
    assert not any("fingerprint" in note for note in both.board.notes)
    other = edited(two, tmp_path / "other", prints(corpus=OTHER))
    with pytest.raises(UserError, match=rf"the corpus is {alone['corpus']} in one and {OTHER} in two"):
        merge([tmp_path / "both" / "both", other], tmp_path / "refused", apart=False)
    merge([tmp_path / "both" / "both", other], tmp_path / "apart", apart=True, name="all")
    sources = Run.load(tmp_path / "apart" / "all").provenance["runs"]
    assert {name: told["fingerprints"]["corpus"] for name, told in sources.items()} == {
        "one": alone["corpus"], "plain": alone["corpus"], "two": OTHER,
    }  # fmt: skip


def test_what_an_older_version_did_not_keep_is_said_and_not_refused(halves, tmp_path):
    one, two = halves
    older = edited(two, tmp_path / "older", lambda provenance: provenance.pop("fingerprints"))
    said = "fingerprints not known and so not compared: corpus (two), teacher (two)"
    for apart in (False, True):
        merge([one, older], tmp_path / str(apart), apart=apart)
        assert said in notes(tmp_path / str(apart) / "intents")
    assert "fingerprints" not in Run.load(tmp_path / "True" / "intents").provenance["runs"]["two"]


def told(read="c", asked=("t",), **experiment):
    return {"fingerprints": {"corpus": read, "teachers": list(asked)}, "experiment": experiment}


ECR = Arm("ecr", "1x", role=Role.MAIN)
SIZED = {"name": "checkpoint", "options": {"size": "3x"}}


@pytest.mark.parametrize(("one", "other", "what"), [
    (told(), told(), None),
    (told(), told("d"), "corpus"),
    (told(None), told(), None),
    (told("c", corpus={"seed": 0}), told("d", corpus={"seed": 1}), None),
    (told(), told(asked=["u"]), "teacher"),
    (told(), told(asked=["t", "u"]), None),
    (told(), told(asked=[]), None),
    (told(teacher=SIZED), told(asked=["u"], teacher=SIZED), None),
    (told(teacher=SIZED | {"name": "mine"}), told(asked=["u"]), "teacher"),
])  # fmt: skip
def test_what_is_another_origin(one, other, what):
    """Another draw of the corpus and a teacher of the experiment's own are what seeds cover, and settings say."""
    one, other = (of(name, said) for name, said in (("one", one), ("other", other)))
    for here, there in ((one, other), (other, one)):
        found = other_origin(ECR, ECR, here, there)
        assert (found and found[0]) == what


def of(name, said, *arms):
    return SimpleNamespace(sources={name: said}, arms={str(arm): arm for arm in arms})


def test_an_arm_that_asks_no_teacher_hides_none():
    """Whose teacher was which is not told; that another arm was run beside them says nothing of it."""
    plain, bag = Arm("finetune", "1x"), Arm.of("ecr", "1x", {"teacher.name": "bag"}, role=Role.MAIN)
    one = of("one", told(asked=["t", "b"]) | {"arms": [str(ECR), str(bag)]}, ECR, bag)
    asked = told(asked=["u", "b"])
    for other in (
        of("other", asked | {"arms": [str(ECR), str(bag)]}, ECR, bag),
        of("other", asked | {"arms": [str(ECR), str(bag), str(plain)]}, ECR, bag, plain),
    ):
        assert other_origin(ECR, ECR, one, other)[0] == other_origin(ECR, ECR, other, one)[0] == "teacher"


HF = {"name": "hf", "options": {"model": "/m"}}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("experiment", "given", "what"), [({}, SIZED, None), (SIZED, HF, "teacher")])
def test_the_teacher_of_an_arm_is_its_own_however_it_is_set(experiment, given, what, whole):
    parts = {f"teacher.{key}": value for key, value in given.items()}
    arm = Arm.of("ecr", "1x", {"teacher": given} if whole else parts, role=Role.MAIN)
    one, other = (of(name, told(asked=[name], teacher=experiment), arm) for name in "tu")
    assert (other_origin(arm, arm, one, other) or (None,))[0] == what


def test_the_corpus_of_a_run_is_that_of_arms_without_their_own():
    """Whatever else was run beside them, and whatever its settings spell."""
    plain, own = Arm("finetune", "1x"), Arm.of("finetune", "1x", {"corpus.rows": 9})
    odd = Arm.of("finetune", "1x", {"sizes.1x.model": "/data/corpus.old/teacher.m"})
    arms = (plain, own, odd)
    ours, theirs = (told(corpus) | {"arms": [str(arm) for arm in arms]} for corpus in "cd")
    for arm in arms:
        settled = list(settled_by((arm,), ours, ours, {str(a): a for a in arms}))
        assert (("corpus",) in settled) == (arm is not own)
        found = other_origin(arm, arm, of("one", ours, *arms), of("other", theirs, *arms))
        assert (found and found[0]) == (None if arm is own else "corpus")
    assert ("teacher", "name") in settled_by((ECR,), ours, ours, {str(odd): odd})


def test_which_arms_ask_a_teacher():
    assert not asks_teacher(Arm("finetune", "1x")) and not asks_teacher(Arm("random", "1x"))
    assert all(asks_teacher(Arm(method, "1x")) for method in ("ecr", "oracle", "embedding-distillation", "not-here"))
    assert asks_teacher(Arm("finetune", "1x", ("fusion",))) and not asks_teacher(Arm("finetune", "1x", ("distill",)))


def test_teachers_are_asked_only_of_runs_that_need_one():
    runs = {"a": told(asked=()) | {"arms": ["finetune-1x"]}, "b": told() | {"arms": ["ecr-1x"]}}
    arms = {"finetune-1x": Arm("finetune", "1x"), "ecr-1x": ECR}
    assert list(origin_notes(runs, arms)) == []
    runs["a"]["arms"] = ["ecr-1x"]
    assert list(origin_notes(runs, arms)) == ["fingerprints not known and so not compared: teacher (a)"]


def test_other_code_is_another_environment():
    runs = {"a": {"commit": "1", "ecr_bench": "0.1.0"}, "b": {"commit": "2", "ecr_bench": "0.2.0"}}
    assert list(environments(runs)) == ["commit: 1 (a), 2 (b)", "ecr_bench: 0.1.0 (a), 0.2.0 (b)"]
    assert list(environments({"a": runs["a"], "b": runs["a"]})) == []


def test_an_arm_that_is_in_no_source_is_compared_by_what_all_share(halves, tmp_path):
    one, two = halves
    merge([one], tmp_path / "x", apart=False, name="x")

    def disown(provenance):
        provenance["runs"]["one"]["arms"] = []

    board = edited(tmp_path / "x" / "x", tmp_path / "board", disown)
    run = Run.load(board)
    assert run.experiments("ecr-1x") == {"x": run.experiment} and run.experiment
    other = edited(two, tmp_path / "other", lambda p: p["experiment"]["pretrain"].update(steps=9))
    with pytest.raises(UserError, match=r"pretrain\.steps is \d+ in x and 9 in two; --apart"):
        merge([board, other], tmp_path / "refused", apart=False)
    foreign = edited(two, tmp_path / "foreign", prints(corpus=OTHER))
    with pytest.raises(UserError, match=rf"the corpus is .+ in one and {OTHER} in two; --apart"):
        merge([board, foreign], tmp_path / "refused", apart=False)


def _set(*path):
    *steps, last, value = path

    def edit(provenance):
        node = provenance
        for step in steps:
            node = node[step]
        node[last] = value

    return edit


TUNED = {"method": "ecr", "with": [{"lora": {}}], "sizes": ["1x"], "set": {}}
PLAIN = {"method": "ecr", "with": [], "sizes": ["1x"], "set": {}}
ODD = [{"teacher.options": ["x"]}, {"options": 3}, {"sizes.1x": 3}, {"tasks": "x"}]


@pytest.mark.parametrize(("edit", "key"), [
    (_set("runs", {"c": None}), "runs.c: "),
    (_set("runs", ["c"]), "runs: "),
    (_set("runs", {}), "runs: "),
    (_set("runs", None), "runs: "),
    (_set("runs", {"../c": {}}), r"runs.*: .*a name has"),
    (_set("runs", {"c": {"arms": None}}), r"runs\.c\.arms: "),
    (_set("runs", {"c": {"arms": ["a"], "experiment": None}}), r"runs\.c\.experiment: "),
    (_set("experiment", None), "experiment: "),
    (_set("experiment", "sizes", None), r"experiment\.sizes: "),
    (_set("experiment", "options", None), r"experiment\.options: "),
    (_set("experiment", "options", {"ecr": None}), r"experiment\.options\.ecr: "),
    (_set("experiment", "pretrain", None), r"experiment\.pretrain: "),
    (_set("experiment", "teacher", "options", ["x"]), r"experiment\.teacher\.options: "),
    (_set("experiment", "projection", "options", "x"), r"experiment\.projection\.options: "),
    (_set("experiment", "corpus", "options", None), r"experiment\.corpus\.options: "),
    (_set("experiment", "sizes", "1x", ["x"]), r"experiment\.sizes\.1x: "),
    *((_set("experiment", "tuned", [PLAIN | {"set": given}]), r"experiment\.tuned\.0\.set: ") for given in ODD),
    (_set("experiment", "cells", [PLAIN | {"seeds": [0], "set": ["x"]}]), r"experiment\.cells\.0\.set: "),
    (_set("experiment", "tuned", [TUNED]), r"experiment\.tuned\.0\.with\.0: "),
    (_set("experiment", "cells", [{"method": "ecr"}]), r"experiment\.cells\.0\.sizes: "),
    (_set("experiment", "name", ""), "experiment: .*no name"),
    (_set("machine", "x"), "machine: "),
    (_set("machine", {"cpu": {}}), r"machine\.cpu: "),
    (_set("packages", 3), "packages: "),
    (_set("fingerprints", "x"), "fingerprints: "),
    (_set("fingerprints", {"teachers": None}), r"fingerprints\.teachers: "),
])  # fmt: skip
@pytest.mark.parametrize("apart", [False, True])
def test_a_provenance_that_no_version_writes_is_one_line(damaged, tmp_path, edit, key, apart):
    folder, two = damaged
    board = json.loads((folder / "board.json").read_text())
    run = Run.load(folder)
    edit(run.board.provenance)
    run.write(folder)
    try:
        with pytest.raises(UserError, match=rf"^\S*run: provenance\.{key}.*no version") as error:
            merge([folder, two], tmp_path / "board", apart=apart)
    finally:
        run.board.provenance.clear()
        run.board.provenance.update(board["provenance"])
        run.write(folder)
    assert error.value.exit_code == 2 and not (tmp_path / "board").exists()


@pytest.mark.parametrize("value", ['["x"]', "x", 3])
@pytest.mark.parametrize("key", ["teacher.options", "options", "sizes.1x", "tuned", "tasks.x"])
def test_an_arm_with_a_setting_that_its_section_cannot_have_is_one_line(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^here: \S+: {re.escape(key)}: .* no version") as caught:
        check_roles([Arm.of("ecr", "1x", {key: value}, role_of("ecr"))], "here")
    assert "\n" not in str(caught.value)
    check_roles([Arm.of("ecr", "1x", {"teacher.options": '{"model":"a"}', "lora.rank": 2}, role_of("ecr"))], "here")


@pytest.fixture(scope="module")
def damaged(halves, tmp_path_factory):
    to = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(halves[0], to)
    return to, halves[1]


@pytest.mark.parametrize("command", [
    ["merge", "./run", "--out", "board"], ["verify", "./run"], ["submit", "./run"],
    ["compare", "./run:ecr-1x", "./run:finetune-3x"],
])  # fmt: skip
def test_every_command_that_reads_it_ends_with_that_line(halves, tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    edited(halves[0], tmp_path / "run", _set("runs", {"c": None}))
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "run: provenance.runs.c: " in capsys.readouterr().err
