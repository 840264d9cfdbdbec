"""What comes from others is data: names in it are shown as they are, nothing of ours is given away."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ecr_bench import config
from ecr_bench.cli import main
from ecr_bench.config import CorpusConfig
from ecr_bench.corpora.card import print_card
from ecr_bench.corpora.registry import build
from ecr_bench.errors import UserError
from ecr_bench.names import file_inside, secret_at, visible
from ecr_bench.runner.provenance import environment, provenance

TOKENS = {
    "HF_TOKEN": "hf_" + "Zq9" * 11,
    "HUGGING_FACE_HUB_TOKEN": "hf_" + "Yw8" * 11,
    "GITHUB_TOKEN": "ghp_" + "Xv7" * 12,
    "AWS_SECRET_ACCESS_KEY": "u6" * 20,
    "WANDB_API_KEY": "t5" * 20,
}
GIVEN = [
    *(TOKENS[name] for name in ("HF_TOKEN", "GITHUB_TOKEN")),
    "https://me:secret@example.org/data",
    "sk-" + "a1" * 12,
    "AKIA" + "A1" * 8,
    "github_pat_" + "b2" * 12,
    "glpat-" + "c3" * 10,
]


def test_tokens_of_the_environment_are_in_no_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    told = json.dumps([provenance(config.load("tiny"), ["a/b@0"]), environment()])
    assert not any(value in told for value in TOKENS.values())
    assert secret_at(told) is None


@pytest.mark.parametrize("secret", GIVEN)
@pytest.mark.parametrize(
    "key", ["corpus.options.path", "teacher.options.model", "sizes.9x.model", "geometry.sts_path", "tasks.0"]
)
def test_a_token_in_an_experiment_is_refused_and_not_repeated(secret: str, key: str, tmp_path: Path) -> None:
    """Every record would publish it."""
    raw: dict[str, Any] = {"extends": "tiny", "name": "mine"}
    node = raw
    *above, last = key.split(".")
    for part in above:
        node = node.setdefault(part, {})
    node[last] = secret
    raw["tasks"] = [secret] if key == "tasks.0" else ["intent"]
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError) as caught:
        config.load(str(path))
    message = str(caught.value)
    assert key in message and "token" in message and "HF_TOKEN" in message
    assert secret not in message and "a.yaml" in message and "\n" not in message


def test_a_token_in_set_is_refused_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "tiny", "--set", f"corpus.options={{path: {GIVEN[0]}}}"])
    said = capsys.readouterr().err
    assert "corpus.options.path" in said and GIVEN[0] not in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "text", ["owner/model", "hf_hub", "sk-learn", "https://example.org/a:b@c", "/home/me/hf_models", "a@b.c"]
)
def test_what_is_no_token(text: str) -> None:
    assert secret_at({"a": [text]}) is None


ODD = "x\x1b]0;t\x07[/red]"


def test_a_label_that_a_terminal_would_obey_is_refused(tmp_path: Path) -> None:
    for column in ("label", "meaning", "unit"):
        path = tmp_path / f"{column}.jsonl"
        path.write_text(json.dumps({"text": "a", "lang": "en", column: ODD}))
        with pytest.raises(UserError, match=rf"{column}\.jsonl:1: '{column}' holds a control character") as caught:
            build(CorpusConfig(name="files", options={"path": str(path)}))
        assert "\x1b" not in str(caught.value)


def test_a_text_that_a_terminal_would_obey_is_shown_written_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "\n".join(json.dumps({"text": f"{ODD} {i}", "lang": "en", "label": "[/b] [red]x"}) for i in range(9))
    )
    out = io.StringIO()
    print_card(build(CorpusConfig(name="files", options={"path": str(path)})), Console(file=out, width=120))
    assert "\x1b" not in out.getvalue() and r"x\x1b]0;t\x07[/red]" in out.getvalue() and "[/b] [red]x" in out.getvalue()


def test_a_path_with_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    """rich would take it for the end of something."""
    folder = tmp_path / "[" / "red] a["
    folder.mkdir(parents=True)
    path = folder / "b].jsonl"
    path.write_text('{"text": "a", "lang": "en", "label": "x"}\n')
    experiment = config.load("tiny").with_overrides(
        {
            "corpus.name": "files",
            "corpus.languages": [],
            "corpus.options": {"path": str(path)},
            "seen_languages": ["en"],
            "tasks": ["label"],
            "anchors.k": 4,
        }
    )
    from ecr_bench.publish import Execution, run_and_publish

    out = io.StringIO()
    with pytest.raises(UserError, match="label"):
        run_and_publish(experiment, Execution(tmp_path / "runs", Console(file=out, width=400)))
    assert f"reading {path}" in out.getvalue()


@pytest.mark.parametrize("name", ["a", "a/b.json", "a b", "größe", "a..b", "...", "-x"])
def test_names_of_files_inside(name: str, tmp_path: Path) -> None:
    assert file_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "a/../../b",
        "../a",
        "a/..",
        "a//b",
        "./a",
        "a/",
        "C:/x",
        "C:x",
        "\\\\host\\x",
        "a\\b",
        "a\0",
    ],
)
def test_names_of_files_outside(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file of this folder"):
        file_inside(tmp_path, name)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links_of_folders_do_not_lead_out(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "own").mkdir(parents=True)
    (inner / "there").symlink_to(inner / "own")
    (inner / "out").symlink_to(tmp_path)
    assert file_inside(inner, "there/x") == inner / "there" / "x"
    with pytest.raises(ValueError, match="link out"):
        file_inside(inner, "out/x")


def test_visible_text_is_one_line_that_moves_nothing() -> None:
    assert visible("a\nb\tc\x1b[2J\u202eabc\x9b\ud800 é灯") == r"a b c\x1b[2J\u202eabc\x9b\ud800 é灯"
