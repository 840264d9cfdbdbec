"""A run folder that was damaged, put together by hand or by a stranger: one line, nothing outside is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest

from ecr_bench import publish
from ecr_bench.bundle.export import export
from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.evaluation.records import read_records
from ecr_bench.io import fingerprint
from ecr_bench.publish import draw, judge_again, rewrite
from ecr_bench.results.claims_file import judge, shipped_claims
from ecr_bench.results.eval_folder import EvalFolder, write_evaluation
from ecr_bench.results.files import RUN, DamagedError, read_manifest, sha256
from ecr_bench.run import Run
from ecr_bench.runner.store import Store
from ecr_bench.verify import verify
from tests.helpers.damage import DAMAGES, damaged, link_out
from tests.helpers.world import make, measured, run_of

MEASURES = measured("mexa", {"ecr-1x": [0.5]}, null=(0.1, 0.0, 0.2))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "quick"
    made = make({"finetune-1x": 0.45, "finetune-3x": 0.5, "ecr-1x": 0.75, "random-1x": 0.45}, items=6, seeds=2)
    labels = {(cell.arm, cell.seed): cell.cell for cell in made.cells}
    measures = [replace(m, cell=labels[m.arm, m.seed]) for m in MEASURES]
    run = run_of(made, measures)
    run = replace(run, claims=judge("quick", made.facts(measures), shipped_claims()))
    run.write_data(folder)
    draw(run, folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs" / "quick"))


def reseal(folder: Path, **changes: Any) -> None:
    """``run.json`` as somebody writes it who knows how; hashes are those of the files as they are now."""
    raw = json.loads((folder / RUN).read_text())
    raw["files"] = {name: sha256(folder / name) for name in raw["files"] if (folder / name).is_file()}
    raw |= changes
    body = {key: value for key, value in raw.items() if key != "seal"}
    (folder / RUN).write_text(json.dumps({**body, "seal": fingerprint(body)}))


def said_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("ecr-bench: error: ") and len(said) < 900, said
    return caught.value.code, said


def test_the_run_is_whole(whole: Path) -> None:
    assert len(verify(whole)) > 3
    assert set(read_manifest(whole).files) >= {
        "board.json",
        "records.parquet",
        "claims.json",
        "report.html",
        "board.md",
    }


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_that_was_damaged_is_named(damage: str, folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    assert len(names) >= 8
    for name in names:
        for read in (verify, Run.load):
            with damaged(folder / name, damage), pytest.raises(UserError) as caught:
                read(folder)
            said = str(caught.value)
            assert "\n" not in said and (name in said or (name == RUN and str(folder) in said)), (name, said)
    Run.load(folder)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in ("deleted", "a folder")])
@pytest.mark.parametrize("name", ["board.json", "cells.json", "measures.json", "claims.json", "records.parquet"])
def test_a_damaged_file_with_the_right_hash_is_one_line_or_another_sound_run(
    damage: str, name: str, folder: Path
) -> None:
    DAMAGES[damage](folder / name)
    reseal(folder)
    for read in (verify, lambda path: Run.load(path).records()):
        try:
            read(folder)
        except UserError as error:
            assert "\n" not in str(error) and str(folder) in str(error)


class Killed(BaseException):
    """No error that anything catches."""


@pytest.mark.slow
@pytest.mark.parametrize("at", ["write_markdown", "write_page", "seal"])
@pytest.mark.parametrize("command", ["claims", "time", "run"])
def test_a_run_that_is_being_changed_is_whole_until_the_new_one_is(
    command: str, at: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    changed = replace(Run.load(folder), claims=None, made_from="later")
    collected = replace(changed, own_records=changed.records(), folder=None)
    for name, value in (("collect_run", collected), ("what_a_run_is_made_from", "later"), ("write_tensorboard", None)):
        monkeypatch.setattr(publish, name, lambda *given, value=value: value)
    commands: dict[str, Callable[[], object]] = {
        "claims": lambda: judge_again(folder, None),
        "time": lambda: rewrite(changed, folder),
        "run": lambda: publish.publish(cast(Any, None), Store(folder.parent), folder),
    }

    def killed(*given: Any) -> None:
        raise Killed

    monkeypatch.setattr(
        *{"write_markdown": (publish, "to_markdown"), "write_page": (publish, "write_page"), "seal": (Run, "seal")}[at],
        killed,
    )
    with pytest.raises(Killed):
        commands[command]()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.undo()
    rewrite(changed, folder)
    assert Run.load(folder).claims is None and not (folder / "claims.json").exists() and verify(folder)
    assert not list(folder.glob(".*"))


def test_records_of_a_later_format_are_refused_by_name(folder: Path) -> None:
    path = folder / "records.parquet"
    table = pq.read_table(path)
    assert table.schema.metadata == {b"ecr_bench.records": b"1"}
    pq.write_table(table.replace_schema_metadata(None), path)
    assert len(read_records(path)) == len(table)
    pq.write_table(table.replace_schema_metadata({"ecr_bench.records": "2"}), path)
    with pytest.raises(UserError, match=r"records\.parquet: records of format 2, this version reads 1"):
        read_records(path)


def test_a_file_that_lies_outside_is_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.parent / "secret").write_text("x")
    files = read_manifest(folder).files
    for name in ("../secret", str(folder.parent / "secret"), "C:\\x", ".", "x/../../secret"):
        reseal(folder, files={**files, name: "0" * 64})
        for command in ("verify", "board", "report", "claims"):
            code, said = said_of([command, "quick", "--out", str(folder.parent)], capsys)
            assert code == 2 and "no file of this folder" in said and RUN in said


@pytest.mark.parametrize("name", ["board.json", "records.parquet", "report.html"])
def test_a_link_out_of_the_folder_is_not_followed(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link_out(folder / name, folder.parent / "outside")
    code, said = said_of(["verify", "quick", "--out", str(folder.parent)], capsys)
    assert code == 2 and "a link out of this folder" in said and name in said


@pytest.mark.parametrize("stage", ["../../../etc", "/etc", "train/../../x", "train/", "..", "train/../.."])
def test_a_cell_whose_stage_lies_outside_of_the_store_is_not_exported(stage: str, folder: Path) -> None:
    raw = json.loads((folder / "cells.json").read_text())
    for cell in raw:
        cell["stage"] = stage
    (folder / "cells.json").write_text(json.dumps(raw))
    reseal(folder)
    with pytest.raises(UserError, match=r"cells\.json.*stage"):
        export(folder.parent, "quick", "ecr-1x-0", folder.parent / "bundle")
    assert not (folder.parent / "bundle").exists()


@pytest.mark.parametrize(
    "arms", [[{}], [{"method": "x"}], [{"method": 1, "size": 2, "modifiers": 3, "settings": 4}], [[]], [None]]
)
def test_arms_that_are_none_are_one_line(arms: list[Any], folder: Path) -> None:
    reseal(folder, arms=arms)
    with pytest.raises(UserError) as caught:
        Run.load(folder)
    assert RUN in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../up", "a/b", "x](http://y) [z", "<b>", "", "store"])
def test_a_name_that_no_run_has_is_one_line(name: str, folder: Path) -> None:
    """Links and folders are made of it."""
    reseal(folder, name=name)
    with pytest.raises(UserError, match=r"run\.json"):
        Run.load(folder)


ODD = "\x1b]0;owned\x07 [/bold] [red] <script>x</script> `a` | **b**"


def test_what_a_terminal_would_obey_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / "board.json").read_text()
    (folder / "board.json").write_text(text.replace('"a note"', json.dumps(ODD)))
    reseal(folder)
    code, said = said_of(["board", "quick", "--out", str(folder.parent)], capsys)
    assert code == 2 and "control character" in said and "\x1b" not in said


def test_markup_in_a_run_is_shown_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of rich in the terminal, of Markdown and of HTML on the page."""
    plain = ODD.replace("\x1b", "").replace("\x07", "")
    raw = json.loads((folder / "board.json").read_text())
    raw["notes"] = [plain]
    raw["verdict"]["sentence"] = raw["verdict"]["question"] = plain
    raw["verdict"]["by_task"] = {
        f"{task}{plain}" if task != "all" else task: v for task, v in raw["verdict"]["by_task"].items()
    }
    (folder / "board.json").write_text(json.dumps(raw))
    reseal(folder)
    main(["board", "quick", "--out", str(folder.parent)])
    assert "[/bold] [red] <script>" in capsys.readouterr().out.replace("\n", " ")
    main(["board", "quick", "--out", str(folder.parent), "--format", "markdown"])
    assert "<script>" not in capsys.readouterr().out
    main(["report", "quick", "--out", str(folder.parent)])
    page = (folder / "report.html").read_text()
    assert "<script>x" not in page and "&lt;script&gt;x" in page


def test_a_windows_path_in_a_run_is_no_control_character(folder: Path) -> None:
    text = (folder / "board.json").read_text()
    (folder / "board.json").write_text(text.replace('"a note"', json.dumps("read from C:\\build\\u0007")))
    reseal(folder)
    Run.load(folder)


@pytest.mark.parametrize("name", ["records.parquet", "eval.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_evaluation_is_named(damage: str, name: str, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "eval"
    write_evaluation(folder, Run.load(whole).records(), {"tasks": []})
    assert len(EvalFolder(folder).records())
    DAMAGES[damage](folder / name)
    with pytest.raises(UserError) as caught:
        EvalFolder(folder).records()
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(caught.value, DamagedError) or name == "eval.json"
