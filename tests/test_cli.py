"""The command line: every bad input is one line on stderr and exit code 2, and nothing is written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ecr_bench.cli import COMMANDS, main
from tests.helpers.commands import fails


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quik"], ["quik", "quick"]),
        (["run", "tiny", "--set", "finetune.stepz=1"], ["finetune.stepz", "steps"]),
        (["run", "tiny", "--set", "corpus.name=foo"], ["corpus", "foo", "intents"]),
        (["run", "tiny", "--set", "precisions=[fp8]"], ["precisions", "fp8", "nf4"]),
        (["run", "tiny", "--set", "control_tokens.placement=x"], ["placement", "prefix"]),
        (["run", "tiny", "--set", "x"], ["key=value"]),
        (["run", "tiny", "--workers", "0"], ["--workers 0", "1 or more"]),
        (["run", "tiny", "--workers", "many"], ["workers", "many", "int"]),
        (["run", "tiny", "--plugin", "nowhere.py"], ["nowhere.py", "no such file"]),
        (["plan", "quik"], ["quik", "quick"]),
        (["plan", "tiny", "--workers", "0"], ["--workers 0", "1 or more"]),
        (
            ["plan", "tiny", "--hardware", "h100"],
            ["--hardware h100", "nothing is measured", "auto, cpu", "--save-profile"],
        ),
        (["plan", "tiny", "--hardware", "h100.json"], ["h100.json", "no such file"]),
        (["plan", "tiny", "--set", "finetune.stepz=1"], ["finetune.stepz", "steps"]),
        (["run"], ["experiment"]),
        (["fly"], ["fly", "run"]),
        (["data", "foo"], ["corpus", "foo", "intents"]),
        (["data", "files", "--set", "corpus.options.path=no.csv"], ["no.csv"]),  # as an experiment writes it
        (["run", "tiny", "--set", ".finetune.steps=1"], [".finetune.steps"]),
        (["clean", "--out", "a\0b"], ["NUL"]),
        (["data", "intents", "--languages", "en", "xx"], ["xx", "en"]),
        (["data", "files", "--set", "path=nowhere.jsonl"], ["nowhere.jsonl"]),
        (["board", "never-ran"], ["never-ran", "ecr-bench run"]),
        (["tensorboard", "never-ran"], ["never-ran", "ecr-bench run"]),
    ],
)
def test_bad_input(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = fails(capsys, *arguments)
    assert all(word in line for word in words), line
    assert not any(tmp_path.iterdir())


def test_methods_are_listed_with_a_line_each(capsys):
    main(["methods"])
    output = capsys.readouterr().out
    for name in ("finetune", "ecr", "random", "constant", "language", "shuffled", "oracle", "codes-only"):
        assert name in output


def test_teachers_and_doctor(capsys):
    main(["teachers"])
    main(["doctor"])
    output = capsys.readouterr().out
    assert "usem3" in output and "torch" in output and "cores" in output


def test_every_command_documents_every_option(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as caught:
            main([name, "--help"])
        assert caught.value.code == 0
    assert "--help" in capsys.readouterr().out


@pytest.mark.slow
def test_importing_us_registers_ecr_hf_and_hides_none_of_lm_evals_own():
    code = "import ecr_bench; from lm_eval.api.registry import get_model as g; print(g('ecr-hf'), g('hf'), g('dummy'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "EcrLM" in done.stdout and "HFLM" in done.stdout and "DummyLM" in done.stdout
