"""Several runs as one leaderboard: pooled like one run, checked first, conflicts named, strangers' files as data."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from dataclasses import replace

import pytest

from ecr_bench.arguments import command_parser
from ecr_bench.cli import COMMANDS
from ecr_bench.config import Experiment, load
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.archive import submit
from ecr_bench.leaderboard.index import DATA, PAGE, TEXT, entries
from ecr_bench.leaderboard.joint import joint_experiment
from ecr_bench.leaderboard.merge import merge
from ecr_bench.results.board import build_board
from ecr_bench.results.claims_file import judge, shipped_claims
from ecr_bench.results.contrasts import TASKS
from ecr_bench.results.files import DamagedError
from ecr_bench.run import Run
from ecr_bench.runner.plan import make_plan
from ecr_bench.verify import verify
from tests.helpers.outside import ROOT

WHOLE = ROOT / "results" / "quick-intel"
LANGS = ("en", "de", "it", "pl")


def part(name, folder, keep=lambda r: True, change=None):
    """A run of its own with some cells of quick, on four languages and two precisions, published to ``folder``."""
    run = Run.load(WHOLE)
    records = run.records()
    few = records.lang.isin(LANGS) & records.target_lang.isin(LANGS) & records.precision.isin(["fp32", "int8"])
    records = records[few]
    records = records[records.apply(keep, axis=1)]
    units = set(zip(records.cell, records.precision, strict=True))
    cells = [cell for cell in run.cells if (cell.cell, cell.precision) in units]
    kept = {cell.cell for cell in cells}
    arms = {key: arm for key, arm in run.arms.items() if key in set(records.arm)}
    provenance = json.loads(json.dumps(run.provenance))
    provenance["experiment"]["name"] = name
    for section, key, value in change or ():
        provenance["experiment"][section][key] = value
    baselines = {g: {t: n for t, n in tasks.items() if t not in TASKS} for g, tasks in run.board.baselines.items()}
    board = build_board(name, records, arms, cells, baselines, provenance, [])
    measures = [m for m in run.measures if m.cell in kept]
    run = Run(name, arms, board, cells, measures, own_records=records)
    run = replace(run, claims=judge(name, run.facts, shipped_claims()))
    folder.mkdir(parents=True)
    run.write(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One whole run, and the same in two halves by seed."""
    top = tmp_path_factory.mktemp("runs")
    first = part("first", top / "first", lambda r: r["seed"] == 0)
    second = part("second", top / "second", lambda r: r["seed"] == 1)
    return part("whole", top / "whole"), first, second


def test_seeds_of_two_runs_are_pooled_as_if_one_run_had_made_them(folders, tmp_path):
    whole, first, second = folders
    archive = tmp_path / "second.zip"
    assert "second.zip: " in submit(second, archive)[-1]
    (line,) = merge([first, archive], tmp_path / "board", apart=False)
    merged, alone = Run.load(tmp_path / "board" / "intents"), Run.load(whole)
    cells = len({cell.cell for cell in alone.cells})
    assert line.startswith(f"intents: {cells} cells of 2 runs (first, second): ")
    order = {str(r.arm): i for i, r in enumerate(alone.board.rows)}
    key = lambda r: (order[str(r.arm)], r.precision, r.group, r.task)  # noqa: E731
    assert sorted(merged.board.rows, key=key) == sorted(alone.board.rows, key=key)
    assert merged.board.verdict == alone.board.verdict
    assert verify(tmp_path / "board" / "intents")


@pytest.mark.slow
def test_a_board_of_several_runs_can_be_merged_with_another(folders, tmp_path):
    """It counts as the runs it was made of."""
    first = folders[1]
    plain = part("plain", tmp_path / "plain", lambda r: r["seed"] == 1 and r["arm"] != "ecr-1x")
    ecr = part("ecr", tmp_path / "ecr", lambda r: r["seed"] == 1 and r["arm"] == "ecr-1x")
    merge([first, plain], tmp_path / "two", apart=False, name="two")
    (line,) = merge([tmp_path / "two" / "two", ecr], tmp_path / "later", apart=False, name="all")
    merge([first, plain, ecr], tmp_path / "once", apart=False, name="all")
    later, once = (Run.load(tmp_path / folder / "all") for folder in ("later", "once"))
    assert "3 runs (first, plain, ecr)" in line
    assert later.provenance == once.provenance
    assert later.board.rows == once.board.rows and later.board.notes == once.board.notes
    with pytest.raises(UserError, match="two runs are called 'first'"):
        merge([tmp_path / "two" / "two", first], tmp_path / "again", apart=False)


DECAY = ("pretrain", "weight_decay")


@pytest.mark.slow
def test_boards_of_runs_that_differ_are_compared_run_by_run(folders, tmp_path):
    """What a joint experiment leaves out, because its runs differ in it, is no less a setting of their arms."""
    arms = {"ecr": "ecr-1x", "codes": "codes-only-1x"}
    ran = {
        name: part(
            name, tmp_path / name, lambda r, seed=seed, arm=arm: r["seed"] == seed and r["arm"] == arms[arm],
            [(*DECAY, decay)],
        )
        for name, seed, arm, decay in (
            ("a", 0, "ecr", 0.4), ("b", 0, "codes", 0.8), ("c", 1, "ecr", 0.8), ("d", 1, "codes", 0.4),
            ("e", 1, "ecr", 0.4),
        )
    }  # fmt: skip
    for name, both in (("m", "ab"), ("n", "cd")):
        merge([ran[one] for one in both], tmp_path / f"of-{name}", apart=False, name=name)
    m, n = tmp_path / "of-m" / "m", tmp_path / "of-n" / "n"
    assert "pretrain" not in Run.load(m).experiment
    with pytest.raises(UserError, match=r"ecr-1x: pretrain\.weight_decay is 0\.4 in a and 0\.8 in c; --apart"):
        merge([m, n], tmp_path / "refused", apart=False)
    merge([m, ran["e"]], tmp_path / "pooled", apart=False, name="all")
    merged = Run.load(tmp_path / "pooled" / "all")
    assert {cell.seed for cell in merged.cells if str(cell.arm) == "ecr-1x"} == {0, 1}
    assert merged.provenance["runs"]["a"]["experiment"]["pretrain"]["weight_decay"] == 0.4
    older = Run.load(m)
    for told in older.board.provenance["runs"].values():
        del told["experiment"], told["arms"]
    older.write(m)
    with pytest.raises(
        UserError, match="ecr-1x: its pretrain settings are not known: of a board of several runs merge"
    ):
        merge([m, ran["e"]], tmp_path / "unknown", apart=False)


@pytest.mark.slow
def test_boards_of_one_name_are_kept_apart_by_their_runs_and_once(folders, tmp_path):
    first, second = folders[1:]
    third = part("third", tmp_path / "third", lambda r: r["seed"] == 1 and r["arm"] == "ecr-1x")
    merge([first], tmp_path / "x", apart=False, name="same")
    merge([second, third], tmp_path / "y", apart=True, name="same")
    merge([tmp_path / "x" / "same", tmp_path / "y" / "same"], tmp_path / "both", apart=True, name="both")
    both = Run.load(tmp_path / "both" / "both")
    assert {str(arm) for arm in both.arms.values() if arm.name == "ecr"} == {
        "ecr-1x[run=first]", "ecr-1x[run=second]", "ecr-1x[run=third]",
    }  # fmt: skip
    assert not any("counted once" in note for note in both.board.notes)
    assert both.provenance["runs"]["third"]["arms"] == ["ecr-1x[run=third]"]
    assert verify(tmp_path / "both" / "both")


def test_a_board_that_has_the_name_of_anothers_run_goes_by_its_own_runs(folders, tmp_path):
    first, second = folders[1:]
    third = part("third", tmp_path / "third", lambda r: r["seed"] == 0 and r["arm"] == "ecr-1x")
    merge([first], tmp_path / "x", apart=True, name="x")
    merge([second, third], tmp_path / "y", apart=False, name="first")
    merge([tmp_path / "x" / "x", tmp_path / "y" / "first"], tmp_path / "both", apart=True, name="both")
    both = Run.load(tmp_path / "both" / "both")
    assert {str(arm) for arm in both.arms.values() if arm.name == "ecr"} == {
        "ecr-1x[run=first]", "ecr-1x[run=second+third]",
    }  # fmt: skip


@pytest.mark.parametrize(("change", "lost"), [
    (("teacher", "rows", 9), {"mutual_knn_teacher", "trustworthiness", "continuity"}),
    (("geometry", "per_language", 9), {"cka_base", "mexa", "mutual_knn_teacher", "bits_per_byte"}),
    (("geometry", "snapshots", 9), set()),
])  # fmt: skip
def test_what_other_teachers_and_texts_measure_is_not_compared(folders, tmp_path, change, lost):
    other = part("other", tmp_path / "other", lambda r: r["arm"] == "finetune-1x", [change])
    merge([folders[2], other], tmp_path / "board", apart=False)
    merged = Run.load(tmp_path / "board" / "intents")
    before = {m.metric for m in Run.load(folders[2]).measures} | {m.metric for m in Run.load(other).measures}
    assert lost <= before and not lost & {m.metric for m in merged.measures}
    assert {"rankc", "diverged"} & before <= {m.metric for m in merged.measures}
    assert any(f"runs differ in {change[0]}: " in note for note in merged.board.notes) == bool(lost)


@pytest.mark.slow
def test_a_board_of_one_can_be_given_a_name_that_names_a_folder(folders, tmp_path):
    merge(folders[1:], tmp_path / "board", apart=False, name="long")
    assert Run.load(tmp_path / "board" / "long").name == "long"
    with pytest.raises(UserError, match=r"--name \.\./x: "):
        merge(folders[1:], tmp_path / "other", apart=False, name="../x")
    other = part("other", tmp_path / "other-items", lambda r: r["lang"] != "it")
    with pytest.raises(UserError, match="--name long: these runs answered 2 sets of items"):
        merge([folders[1], other], tmp_path / "other", apart=False, name="long")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_costs_of_different_machines_stand_not_side_by_side(folders, tmp_path):
    """Where an older version did not keep what a stage ran on, the run alone says it."""
    elsewhere = part("elsewhere", tmp_path / "elsewhere", lambda r: r["seed"] == 1)
    run = Run.load(elsewhere)
    run.board.provenance["machine"]["cpu"] = "another"
    cells = [cell.model_copy(update={"trained_on": "", "scored_on": ""}) for cell in run.cells]
    replace(run, cells=cells).write(elsewhere)
    for other, there in ((folders[2], True), (elsewhere, False)):
        merge([folders[1], other], tmp_path / str(there), apart=False)
        merged = Run.load(tmp_path / str(there) / "intents")
        assert {cell.ms_per_item is not None for cell in merged.cells} == {there}
        assert any("on different hardware" in note for note in merged.board.notes) is not there
        assert all(cell.parameters for cell in merged.cells)


@pytest.mark.slow
def test_runs_that_differ_in_their_cells_alone_are_one_experiment(folders, tmp_path):
    """Then the page says how each arm is run again; where anything else differs there is nothing to run."""
    some = {"method": "ecr-like", "with": [], "options": {}, "set": {}, "sizes": ["3x"], "seeds": [0]}
    for name, section, key, value, one in (
        ("cells", "options", "ecr-like", {"a": 1}, True),
        ("settings", "finetune", "steps", 7, False),
    ):
        rival = part(name, tmp_path / name, lambda r: r["arm"].startswith("ecr"), [(section, key, value)])
        run = Run.load(rival)
        run.board.provenance["experiment"]["cells"] = [some]
        run.write(rival)
        merge([folders[1], rival], tmp_path / f"board-{name}", apart=not one)
        experiment = Run.load(tmp_path / f"board-{name}" / "intents").experiment
        assert (some in experiment.get("cells", ())) == one
        assert len(experiment.get("cells", ())) > 1 or not one
        assert experiment.get("options", {}).get("ecr-like") == ({"a": 1} if one else None)
    (spikes,) = (
        r for r in Run.load(tmp_path / "board-settings" / "intents").claims.results if r.claim.id == "spikes-less"
    )
    assert "it needs finetune.clip = None, this run has 1.0" in spikes.sentence


def test_long_and_its_rivals_are_one_experiment_that_can_be_planned():
    long, rivals = (load(name).model_dump(mode="json") for name in ("long", "rivals"))
    joint = Experiment.model_validate(joint_experiment([long, rivals]))
    both = {cell.label for name in ("long", "rivals") for cell in make_plan(load(name)).cells}
    planned = [cell.label for cell in make_plan(joint).cells]
    assert set(planned) == both and len(planned) == len(both) == 60 + 25  # ecr with seed 0 is in both
    assert joint.sizes["matched"] == load("rivals").sizes["matched"]
    stages = {stage for name in ("long", "rivals") for stage in make_plan(load(name)).stages}
    assert set(make_plan(joint).stages) == stages


def test_options_are_of_the_runs_that_use_them():
    long, rivals = (load(name).model_dump(mode="json") for name in ("long", "rivals"))
    rivals["options"]["random"] = {"seed": 7}  # no cell of it is in rivals
    assert "random" not in joint_experiment([long, rivals])["options"]
    rivals["options"]["ecr"] = {"x": 1}  # ecr is in both, and in long without
    assert "cells" not in joint_experiment([long, rivals])


def test_a_size_is_that_of_the_run_whose_cells_have_it():
    long, rivals = (load(name).model_dump(mode="json") for name in ("long", "rivals"))
    long["sizes"]["matched"] = rivals["sizes"]["matched"] | {"learning_rate": None}
    assert joint_experiment([long, rivals])["sizes"]["matched"] == rivals["sizes"]["matched"]
    long["options"]["distill"] = {"size": "matched"}  # now its cells may learn from it
    assert "cells" not in joint_experiment([long, rivals])


def test_what_is_tuned_for_an_arm_stays_with_it():
    long, rivals = (load(name).model_dump(mode="json") for name in ("long", "rivals"))
    entry = {"method": "teacher-init", "with": [], "sizes": ["1x"], "set": {"sizes.1x.learning_rate": 0.003}}
    assert joint_experiment([long, rivals])["tuned"] == rivals["tuned"] == [entry]
    long["tuned"] = [entry | {"method": "soft-cue"}]  # no cell of it is in long
    assert joint_experiment([long, rivals])["tuned"] == [entry]
    long["tuned"] = [entry | {"method": "ecr"}]  # ecr is in both, and in rivals without
    assert "cells" not in joint_experiment([long, rivals])


def test_the_first_page_ranks_with_ties_and_says_where_runs_come_from(folders, tmp_path):
    merge(folders[1:], tmp_path / "board", apart=False)
    entries = json.loads((tmp_path / "board" / DATA).read_text())
    fp32 = [entry for entry in entries if entry["precision"] == "fp32"]
    assert [entry["accuracy"] for entry in fp32] == sorted((e["accuracy"] for e in fp32), reverse=True)
    assert {e["rank"] for e in fp32 if e["role"].endswith("control")} == {""}
    assert {e["rank"] for e in fp32 if e["arm"] == "ecr-1x"} <= {"1", "1="}
    page, text = ((tmp_path / "board" / name).read_text("utf-8") for name in (PAGE, TEXT))
    assert "first: commit" in page and "[Board](intents/board.md)" in text


@pytest.mark.slow
def test_a_cell_that_is_in_two_runs_counts_once(folders, tmp_path):
    again = part("again", tmp_path / "again", lambda r: r["seed"] == 0 and r["arm"] == "ecr-1x")
    merge([*folders[1:], again], tmp_path / "board", apart=False)
    found = Run.load(tmp_path / "board" / "intents")
    assert any(n.startswith("1 cell of again also in first: ") and n.endswith("in 1") for n in found.board.notes)
    assert len(found.records()) == len(Run.load(folders[0]).records())


def test_other_settings_are_a_conflict_unless_kept_apart(folders, tmp_path):
    other = part("other", tmp_path / "other", lambda r: r["seed"] == 1, [("pretrain", "steps", 9)])
    steps = Run.load(WHOLE).provenance["experiment"]["pretrain"]["steps"]
    with pytest.raises(UserError, match=f"finetune-3x: pretrain.steps is {steps} in first and 9 in other; --apart"):
        merge([folders[1], other], tmp_path / "board", apart=False)
    assert not (tmp_path / "board").exists()
    merge([folders[1], other], tmp_path / "board", apart=True)
    assert "ecr-1x[run=other]" in Run.load(tmp_path / "board" / "intents").arms


def test_anchors_are_no_matter_to_a_plain_model_and_seeds_to_nobody(folders, tmp_path):
    plain = lambda r: r["seed"] == 1 and r["arm"].startswith("finetune")  # noqa: E731
    other = part("other", tmp_path / "a", plain, [("anchors", "k", 7), ("pretrain", "seed", 3)])
    merge([folders[1], other], tmp_path / "board", apart=False)


@pytest.mark.slow
def test_runs_on_other_items_get_a_board_of_their_own(folders, tmp_path):
    fewer = part("fewer", tmp_path / "fewer", lambda r: r["lang"] != "pl" and r["target_lang"] != "pl")
    lines = merge([folders[1], fewer], tmp_path / "board", apart=False)
    assert [line.partition(":")[0] for line in lines] == ["first", "fewer"]


def test_what_does_not_follow_from_its_records_is_refused(folders, tmp_path):
    board = json.loads((folders[1] / "board.json").read_text())
    board["rows"][0]["mean"] += 0.2
    folder = part("better", tmp_path / "better", lambda r: r["seed"] == 0)
    (folder / "board.json").write_text(json.dumps(board))
    with pytest.raises(DamagedError):
        merge([folder, folders[2]], tmp_path / "board", apart=False)
    assert not (tmp_path / "board").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "..", "sub/../../evil", "sub/", "C:evil", "a\\\\b"])
def test_an_archive_is_data(folders, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(UserError, match="is no plain file at the top of the archive"):
        merge([tmp_path / "a.zip"], tmp_path / "in" / "board", apart=False)
    assert not (tmp_path / "in").exists() and not list(tmp_path.glob("evil"))


ENCRYPTED, UNKNOWN, SHORT = (8, b"\x01\0"), (10, b"\x63\0"), (20, b"\x02\0\0\0")
"""Where in the entry of a file in the directory of the archive, and what stands there then."""


@pytest.mark.parametrize("entry", [ENCRYPTED, UNKNOWN, SHORT, None], ids=["encrypted", "unknown", "short", "flipped"])
@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_archive_is_one_line(folders, tmp_path, entry, packing):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("run.json", " ".join(map(str, range(300))))
    raw = bytearray(path.read_bytes())
    if entry is None:
        raw[45:60] = b"\xff" * 15
    else:
        at = raw.index(b"PK\x01\x02") + entry[0]
        raw[at : at + len(entry[1])] = entry[1]
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"a\.zip: 'run\.json' cannot be unpacked: .+") as error:
        merge([path], tmp_path / "board", apart=False)
    assert str(error.value).isprintable()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_an_archive_is_one_line(folders, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for content in ("sound", "another"):
            archive.writestr("run.json", content)
    with pytest.raises(UserError, match=r"a\.zip: 'run\.json' is there twice"):
        merge([tmp_path / "a.zip"], tmp_path / "board", apart=False)


def test_no_archive_no_run_and_no_new_folder_are_one_line(folders, tmp_path):
    (tmp_path / "x.zip").write_text("x")
    with pytest.raises(UserError, match="neither the folder of a run nor an archive"):
        merge([tmp_path / "x.zip"], tmp_path / "board", apart=False)
    with pytest.raises(UserError, match="two runs are called 'first'"):
        merge([folders[1], folders[1]], tmp_path / "board", apart=False)
    with pytest.raises(UserError, match="is there already"):
        merge([folders[1]], tmp_path, apart=False)


def test_an_archive_of_the_same_run_is_the_same_file(folders, tmp_path):
    for name in ("a.zip", "b.zip"):
        submit(folders[1], tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize("place", ["a.zip/x", "a\0b/x", "a/" * 1500], ids=["file", "nul", "deep"])
def test_an_archive_in_an_impossible_place_is_one_line(folders, tmp_path, place):
    (tmp_path / "a.zip").touch()
    with pytest.raises(UserError, match=r"--to .*: cannot write there"):
        submit(folders[1], tmp_path / place)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_published_example_is_what_its_records_say_and_its_commands_are_commands(monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = ROOT / "results" / "leaderboard"
    assert sum("every number follows from the records" in line for line in verify(folder / "intents")) == 2
    run = Run.load(folder / "intents")
    assert json.loads((folder / DATA).read_text()) == [e.model_dump(mode="json") for e in entries("intents", run)]
    assert set(run.provenance["runs"]) == {"tiny", "tiny-b", "tiny-c"}
    blocks = re.findall(r"^```\n(.*?)^```$", (folder / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    asked = [command_parser(COMMANDS).parse_args(words) for program, *words in lines if program == "ecr-bench"]
    assert len(asked) == len(lines) == 8
    experiments = [load(one.run.experiment) for one in asked if one.command == "run"]
    assert {experiment.name for experiment in experiments} == set(run.provenance["runs"])
