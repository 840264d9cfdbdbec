"""Runs of earlier formats: what they said is kept, in today's files and by today's rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecr_bench.arm import Arm, Role
from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.io import fingerprint
from ecr_bench.results import files
from ecr_bench.results.claims_file import judge, shipped_claims
from ecr_bench.results.migrate import arms_of, migrate
from ecr_bench.run import Run
from ecr_bench.verify import verify
from tests.helpers.world import ALL_CONTROLS, LEVELS, QUICK, Made, make, measured, run_of

CELLS = [
    {"method": "finetune", "sizes": ["1x", "3x"], "set": {}},
    {"method": "ecr", "sizes": ["1x"], "set": {"control_tokens.count": 8, "seen_languages": ["en", "de"]}},
    {"method": "ecr+lora-nf4", "sizes": ["1x"], "set": {}},
    {"method": "ecr+dropout", "sizes": ["1x"], "set": {"dropout.text": 0.3}},
]


def test_names_are_made_forward_and_looked_up_never_cut() -> None:
    known = arms_of({"cells": CELLS})
    assert known["finetune", "3x"] == Arm("finetune", "3x") and known["finetune", "3x"].role is Role.PLAIN
    varied = Arm.of("ecr", "1x", {"control_tokens.count": 8, "seen_languages": ["en", "de"]})
    for name in ("ecr[count=8,seen_languages=['en', 'de']]",
                 "ecr[control_tokens.count=8,seen_languages=['en', 'de']]"):  # fmt: skip
        assert known[name, "1x"] == varied
    assert known["ecr+lora-nf4", "1x"] == Arm("ecr", "1x", ("lora",), (("lora.base", "nf4"),))
    assert known["ecr+dropout[text=0.3]", "1x"] == Arm("ecr", "1x", ("dropout",), (("dropout.text", 0.3),))


@pytest.fixture(scope="module")
def made() -> Made:
    return make(LEVELS | ALL_CONTROLS | {"teacher-probe-1x": 0.9}, items=40)


def by_split(folder: Path) -> None:
    """Seen and unseen languages called ``split``, as until format 2."""

    def old(row: dict[str, Any]) -> dict[str, Any]:
        return {"split" if key == "group" else key: value for key, value in row.items()}

    def rewrite(name: str, change: Callable[[Any], Any]) -> None:
        if (folder / name).is_file():
            (folder / name).write_text(json.dumps(change(json.loads((folder / name).read_text()))))

    def board(whole: dict[str, Any]) -> dict[str, Any]:
        return whole | {part: list(map(old, whole[part])) for part in ("rows", "by_language", "contrasts")}

    def claims(report: dict[str, Any]) -> dict[str, Any]:
        for result in report["results"]:
            result["claim"] = old(result["claim"])
            result["evidence"] = [evidence | {"row": old(evidence["row"])} for evidence in result["evidence"]]
        said = [result["claim"] for result in report["results"]]
        return report | {"fingerprint": fingerprint({"claims": said})}

    rewrite("board.json", board)
    rewrite("claims.json", claims)
    rewrite("ablation.json", lambda found: found | {p: list(map(old, found[p])) for p in ("points", "references")})


def former(run: Run, folder: Path) -> None:
    """The files of ``run`` as format 1 had them."""
    run.write(folder)
    (folder / "run.json").unlink()
    (folder / "records.parquet").unlink()

    by_split(folder)

    def named(row: dict[str, Any]) -> dict[str, Any]:
        arm = run.arms[row.pop("arm")]
        return {"method": arm.name, "size": arm.size, **row}

    board = json.loads((folder / "board.json").read_text())
    board.pop("floors")
    board.pop("diverged", None)
    for part in ("rows", "by_language"):
        board[part] = [named(row) for row in board[part]]
    for c in board["contrasts"]:
        for name in ("p_smaller_holm", "attribution", "wider"):
            c.pop(name)
        c["verdict"], c["sentence"] = "supported", "as it was"
    board["verdict"] = {"question": "as it was"}
    claims = json.loads((folder / "claims.json").read_text())
    claims.pop("corrected")
    for result in claims["results"]:
        for side in ("a", "b"):
            result["claim"][side] = result.pop(side) or {"a": "ecr-1x", "b": "distill-1x"}[side]
        result["as_good"] = [*result.pop("not_beaten"), *result.pop("better")]
        result["controls"] = [named(c) for c in result["controls"]]
        for control in result["controls"]:
            control.pop("size")
        for evidence in result["evidence"]:
            if "arm" in evidence["row"]:
                evidence["row"] = named(evidence["row"])
        result.pop("on_board")
        result["claim"]["controls"] = []
    parts = {"board.json": board, "claims.json": claims}
    for name in ("cells.json", "measures.json"):
        parts[name] = [named(row) for row in json.loads((folder / name).read_text())]
    for name, content in parts.items():
        (folder / name).write_text(json.dumps(content))


def test_a_run_of_format_1_says_the_same_in_todays_files(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {(cell.arm, cell.seed): cell.cell for cell in made.cells}
    mexa = measured("mexa", {"ecr-1x": [0.5, 0.6, 0.7], "finetune-1x": [0.3, 0.4, 0.3]})
    measures = [replace(m, cell=labels[m.arm, m.seed]) for m in mexa]
    cells = [{"method": a.method, "sizes": [a.size], "seeds": [0, 1, 2], "set": {}} for a in made.arms.values()]
    run = run_of(made, measures, provenance={"experiment": QUICK | {"cells": cells}})
    run = replace(run, claims=judge("quick", made.facts(measures), shipped_claims()))
    folder = tmp_path / "quick"
    former(run, folder)
    with pytest.raises(UserError, match=r"format 1 \(it has no run.json"):
        Run.load(folder)
    migrate(folder)
    back = Run.load(folder)
    assert (back.arms, back.cells, back.measures) == (run.arms, run.cells, run.measures)
    assert back.board.rows == run.board.rows and back.board.floors == run.board.floors
    for one, other in zip(run.board.contrasts, back.board.contrasts, strict=True):
        assert (one.verdict, one.attribution, one.p_holm) == (other.verdict, other.attribution, other.p_holm), one.name
    assert back.board.verdict.answer == run.board.verdict.answer
    assert "Brought over from format 1" in back.board.notes[-1]
    assert back.claims and run.claims
    words = [{r.claim.id: r.verdict for r in claims.results} for claims in (run.claims, back.claims)]
    assert words[0]["beats-3x"] == words[1]["beats-3x"] == "not attributable to the language model"
    main(["verify", "quick", "--out", str(tmp_path)])
    assert "not recomputed: board.json and claims.json" in capsys.readouterr().out
    assert migrate(folder) == []
    with pytest.raises(UserError, match="no run in"):
        migrate(tmp_path)


@pytest.fixture()
def format_2(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Path]:
    """A whole run, and its folder in format 2."""
    run = run_of(made, provenance={"experiment": QUICK})
    run = replace(run, claims=judge("quick", made.facts(), shipped_claims()), made_from="abc")
    folder = tmp_path / "quick"
    run.write(folder)
    by_split(folder)
    with monkeypatch.context() as patched:
        patched.setattr(files, "FORMAT", 2)
        files.write_manifest(folder, run.name, run.arms.values(), files.DATA, run.made_from)
    return run, folder


def test_a_run_of_format_2_keeps_everything_but_a_word(format_2: tuple[Run, Path]) -> None:
    run, folder = format_2
    assert '"split"' in (folder / "board.json").read_text() + (folder / "claims.json").read_text()
    with pytest.raises(UserError, match=r"format 2, this version reads 3.*migrate"):
        Run.load(folder)
    assert set(migrate(folder)) == {path.name for path in folder.iterdir()} - {"run.json"}
    back = Run.load(folder)
    assert (back.board, back.claims, back.made_from) == (run.board, run.claims, "abc")
    assert any(e.row.get("group") == "unseen" for r in back.claims.results for e in r.evidence)
    assert "board.json: every number follows from the records" in (lines := verify(folder))
    assert "claims.json: every number follows from the records" in lines
    assert migrate(folder) == []


def test_what_was_changed_is_not_sealed_anew(format_2: tuple[Run, Path]) -> None:
    _, folder = format_2
    text = (folder / "cells.json").read_text()
    (folder / "cells.json").write_text(text.replace("0", "1", 1))
    with pytest.raises(files.DamagedError, match=r"cells\.json: was changed"):
        migrate(folder)
    (folder / "cells.json").write_text(text)
    manifest = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(manifest | {"format": files.FORMAT + 1}))
    with pytest.raises(UserError, match=rf"format {files.FORMAT + 1}, this version reads {files.FORMAT}$"):
        migrate(folder)
