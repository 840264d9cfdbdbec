"""Every kind of number and of record that was tampered with is found and named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecr_bench.cli import main
from ecr_bench.evaluation.records import SCHEMA, read_records, write_records
from ecr_bench.results.claims_file import judge, shipped_claims
from ecr_bench.results.differences import first_difference
from ecr_bench.results.files import DATA, DamagedError, read_manifest, write_manifest
from ecr_bench.results.record_checks import first_fault
from ecr_bench.verify import _plain, _recomputed, verify
from tests.helpers.world import ALL_CONTROLS, LEVELS, Made, make, measured, run_of

MEASURES = measured("mexa", {"ecr-1x": [0.5, 0.6], "finetune-1x": [0.3, 0.4]}, null=(0.1, 0.0, 0.2))


@pytest.fixture(scope="module")
def made() -> Made:
    return make(LEVELS | ALL_CONTROLS, items=12)


@pytest.fixture(scope="module")
def whole(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "quick"
    claims = judge("quick", made.facts(measured_here(made)), shipped_claims())
    replace(run_of(made, measured_here(made)), claims=claims).write(folder)
    return folder


def measured_here(made: Made) -> list[Any]:
    """Measures under the labels of the cells."""
    labels = {(cell.arm, cell.seed): cell.cell for cell in made.cells}
    return [replace(m, cell=labels[m.arm, m.seed]) for m in MEASURES]


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "quick"
    copied.mkdir()
    for path in whole.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    return copied


def seal(folder: Path) -> None:
    """Hashes of the files as they are now, as somebody would who knows how."""
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.name, manifest.known_arms.values(), manifest.files, manifest.made_from)


@pytest.mark.parametrize("command", ["verify", "board", "claims", "report"])
def test_a_run_is_found_by_the_path_of_its_folder(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    main([command, f"{folder.parent.name}/{folder.name}"])
    monkeypatch.chdir(folder)
    main([command, "."])
    with pytest.raises(SystemExit, match="2"):
        main([command, "./nowhere"])


def test_a_run_as_it_was_published_passes(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", "quick", "--out", str(whole.parent)])
    said = capsys.readouterr().out
    assert "board.json: every number follows" in said and "claims.json: every number follows" in said
    assert "taken as given" in said


# --- records ------------------------------------------------------------------------------------------


def put(column: str, value: Any, row: int = 5) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(records: pd.DataFrame) -> pd.DataFrame:
        records = records.copy()
        given = value(records.at[row, column]) if callable(value) else value
        records[column] = records[column].astype(object)
        records.at[row, column] = given
        return records

    return change


def flipped(records: pd.DataFrame) -> pd.DataFrame:
    """Prediction and correctness changed together, so that only the log-likelihoods speak against them."""
    records = records.copy()
    wrong = records.index[~records["correct"]][0]
    records.loc[wrong, ["predicted", "correct"]] = [records.at[wrong, "gold"], True]
    return records


TAMPERED: list[tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str]] = [
    ("correct", put("correct", lambda old: not old), "correct is"),
    ("predicted", put("predicted", lambda old: (old + 1) % 4), "predicted is"),
    ("predicted and correct", flipped, "predicted is"),
    ("gold", put("gold", lambda old: (old + 1) % 4), "correct is|gold is"),
    ("gold out of range", put("gold", 7), "gold 7 of 4 options"),
    ("a score", put("loglikelihoods", [-1.0, -2.0, -3.0, float("nan")]), "not finite"),
    ("the best score", put("loglikelihoods", lambda old: [*old[1:], old[0]]), "predicted is|correct is"),
    ("a score above 0", put("loglikelihoods", [3.0, -2.0, -3.0, -4.0]), "above 0"),
    ("an option less", put("loglikelihoods", lambda old: old[:2]), "options|gold|predicted"),
    ("bytes", put("choice_bytes", [1]), "options and their bytes"),
    ("tokens", put("extra_tokens", lambda old: old + 1), "extra_tokens is"),
    ("an answer twice", lambda r: pd.concat([r, r.iloc[[3]]], ignore_index=True), "answered twice"),
    ("an answer less", lambda r: r.drop(index=3), "lacks item"),
    ("group", put("group", "dev"), "'dev' is none of"),
    ("another group", put("group", lambda old: "seen" if old == "unseen" else "unseen"), "group is"),
    ("cluster", put("cluster", "elsewhere"), "cluster is"),
    ("grain", put("grain", "fine"), "grain is"),
    ("language", put("lang", "xx"), "lang is"),
    ("topic", put("topic", "elsewhere"), "topic is"),
    ("bytes of the same options", put("choice_bytes", lambda old: [n + 1 for n in old]), "bytes is"),
    ("an unknown arm", put("arm", "magic-1x"), "arm 'magic-1x' is not in the table"),
    ("another arm", put("arm", "ecr-1x"), "of more than one arm or seed"),
    ("seed", put("seed", 9), "of more than one arm or seed"),
]  # fmt: skip


def test_good_records_have_no_fault(made: Made) -> None:
    assert first_fault(made.records, made.arms) is None


@pytest.mark.parametrize(("change", "words"), [t[1:] for t in TAMPERED], ids=[t[0] for t in TAMPERED])
def test_a_tampered_record_is_named(made: Made, change: Callable[[pd.DataFrame], pd.DataFrame], words: str) -> None:
    fault = first_fault(change(made.records), made.arms)
    assert fault and any(word in fault for word in words.split("|")), fault


@pytest.mark.parametrize("column", SCHEMA.names)
def test_an_empty_place_is_named(made: Made, column: str) -> None:
    assert f"no {column}" in str(first_fault(put(column, None)(made.records), made.arms))


def rebuilt(folder: Path, made: Made) -> None:
    """All that follows from other records or cells, published as if they were the run's."""
    run = run_of(made, measured_here(made))
    claims = judge("quick", made.facts(measured_here(made)), shipped_claims())
    replace(run, claims=claims).write(folder)


def diverged(made: Made) -> Made:
    cells = [cell.model_copy(update={"diverged": "nan"}) if cell.cell == "ecr-1x-0" else cell for cell in made.cells]
    return made._replace(cells=cells)


PARTS: dict[str, tuple[Callable[[Made], Made], str]] = {
    "a control": (lambda m: m._replace(records=m.records[m.records["arm"] != "random-1x"]), "random-1x-0 .*no answers"),
    "a seed": (lambda m: m._replace(records=m.records[m.records["cell"] != "ecr-1x-1"]), "ecr-1x-1 .*no answers"),
    "a precision": (
        lambda m: m._replace(records=m.records[(m.records["precision"] != "nf4") | (m.records["seed"] != 1)]),
        "in nf4 has no answers",
    ),
    "a cell": (lambda m: m._replace(cells=m.cells[:-2]), "is not in cells.json"),
    "a seed that diverged": (diverged, "has answers, though it diverged"),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_run_without_one_of_its_parts_is_found_out(part: str, made: Made, folder: Path) -> None:
    """Everything fits together but cells and records."""
    change, words = PARTS[part]
    rebuilt(folder, change(made))
    with pytest.raises(DamagedError, match=words):
        verify(folder)


@pytest.mark.parametrize("name", [name for name in DATA if name != "ablation.json"])
def test_a_file_that_was_put_beside_a_run_is_not_read(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or one that was taken out of run.json."""
    manifest = read_manifest(folder)
    kept = [file for file in manifest.files if file != name]
    write_manifest(folder, manifest.name, manifest.known_arms.values(), kept, manifest.made_from)
    if not (folder / name).exists():
        (folder / name).write_text("[]")
    for command in ("verify", "board", "report", "claims"):
        with pytest.raises(SystemExit) as caught:
            main([command, "quick", "--out", str(folder.parent)])
        said = capsys.readouterr().err
        assert caught.value.code == 3 and f"{name}: was not published with this run" in said, command


def test_tampered_records_end_in_exit_code_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Right in themselves, but not what the board rests on."""
    records = read_records(folder / "records.parquet")
    row = records.index[~records["correct"]][0]
    scores = np.full(4, -2.0)
    scores[records.at[row, "gold"]] = -1.0
    records.at[row, "loglikelihoods"] = scores
    records.loc[row, ["predicted", "correct"]] = [records.at[row, "gold"], True]
    write_records(folder / "records.parquet", records)
    seal(folder)
    with pytest.raises(SystemExit) as caught:
        main(["verify", "quick", "--out", str(folder.parent)])
    said = capsys.readouterr().err
    assert caught.value.code == 3 and said.count("\n") == 1 and "board.json: rows." in said and "records give" in said


# --- numbers of board and claims --------------------------------------------------------------------


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all values that are no container."""
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from leaves(node[key], (*path, key))
    else:
        yield path


def kinds(node: Any) -> list[tuple[Any, ...]]:
    """One place of each kind: ``rows.*.mean``, ``contrasts.*.ci.0``, ..."""
    found: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for path in leaves(node):
        found.setdefault(tuple("*" if isinstance(part, int) and i < 2 else part for i, part in enumerate(path)), path)
    return list(found.values())


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1e-3 if isinstance(value, float) else value + 1
    return "x" if value is None else f"{value} "


FROM_ELSEWHERE = {("name",), ("notes",), ("provenance",), ("baselines",), ("source",), ("fingerprint",)}


@pytest.mark.slow
def test_every_kind_of_number_is_compared(whole: Path) -> None:
    from ecr_bench.run import Run

    run = Run.load(whole)
    tried = 0
    for name, stored, found in _recomputed(run, run.records()):
        plain, again = _plain(stored), _plain(found)
        assert first_difference(plain, again) is None
        for path in kinds(plain):
            tampered = copy.deepcopy(plain)
            node = tampered
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = changed(node[path[-1]])
            said = first_difference(tampered, again)
            assert said and said.startswith(".".join(map(str, path))), (name, path, said)
            tried += 1
    assert tried > 100


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        ("board.json", ("rows", 3, "mean"), 0.99),
        ("board.json", ("contrasts", 0, "verdict"), "refuted"),
        ("board.json", ("verdict", "answer"), "inconclusive"),
        ("board.json", ("by_language", 0, "mean"), 0.1),
        ("claims.json", ("results", 0, "p_holm"), 0.5),
        ("claims.json", ("results", 0, "verdict"), "refuted"),
        ("measures.json", (0, "seed"), 9),
        ("cells.json", (0, "parameters"), 1),
    ],
)
def test_a_tampered_number_ends_in_exit_code_3(
    folder: Path, capsys: pytest.CaptureFixture[str], file: str, path: tuple[Any, ...], value: Any
) -> None:
    raw = json.loads((folder / file).read_text())
    node = raw
    for part in path[:-1]:
        node = node[part]
    assert node[path[-1]] != value
    node[path[-1]] = value
    (folder / file).write_text(json.dumps(raw))
    for sealed in (False, True):  # by a careless hand, and by one that knows the hashes
        if sealed:
            seal(folder)
        with pytest.raises(SystemExit) as caught:
            main(["verify", "quick", "--out", str(folder.parent)])
        said = capsys.readouterr().err
        assert caught.value.code == 3 and said.count("\n") == 1
        assert (("was changed after" in said) != sealed and file in said) or file == "cells.json"


@pytest.mark.parametrize("command", [["board"], ["report"], ["claims"], ["verify"]])
def test_commands_check_the_hashes(folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    text = (folder / "board.json").read_text()
    (folder / "board.json").write_text(text.replace("ecr-1x", "ecr-2x", 1))
    with pytest.raises(SystemExit) as caught:
        main([*command, "quick", "--out", str(folder.parent)])
    said = capsys.readouterr().err
    assert caught.value.code == 3 and said.count("\n") == 1 and "board.json: was changed" in said


def test_compare_checks_the_hashes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (folder / "records.parquet").open("ab") as handle:
        handle.write(b" ")
    with pytest.raises(SystemExit) as caught:
        main(["compare", f"{folder}:ecr-1x", f"{folder}:finetune-3x"])
    assert caught.value.code == 3 and "records.parquet: was changed" in capsys.readouterr().err


def test_a_run_without_records_says_what_it_cannot_recompute(folder: Path) -> None:
    (folder / "records.parquet").unlink()
    with pytest.raises(DamagedError, match=r"records.parquet: missing"):
        verify(folder)
    manifest = read_manifest(folder)
    files = set(manifest.files) - {"records.parquet"}
    write_manifest(folder, manifest.name, manifest.known_arms.values(), files)
    assert verify(folder)[-1] == "not recomputed: board.json and claims.json, published without records.parquet"
