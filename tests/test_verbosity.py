"""``-q`` and ``-v`` of every command, and the scripts that complete them in a shell."""

from __future__ import annotations

import inspect
import io
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shtab
from rich.console import Console

from ecr_bench.cli import COMMANDS, main
from ecr_bench.errors import UserError
from ecr_bench.quiet import quiet_libraries
from ecr_bench.runner.execute import execute
from ecr_bench.runner.pool import Local
from ecr_bench.runner.store import Store
from ecr_bench.verbosity import VARIABLE, Verbosity, progress_console, speaking, verbosity
from tests.helpers.commands import fails


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_both(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    assert "-q, --quiet" in said and "-v, --verbose" in said
    assert "-q and -v" in fails(capsys, *_least(command), "-q", "-v")


def _least(command: str) -> list[str]:
    """The command with what must be given by place."""
    given = inspect.signature(COMMANDS[command]).parameters.values()
    return [command, *("x" for parameter in given if parameter.default is parameter.empty)]


def test_quiet_shows_results_without_progress(tmp_path: Path) -> None:
    shown = {}
    for quiet in (False, True):
        out = io.StringIO()
        with speaking(quiet, False):
            console = Console(file=out, width=200)
            execute({}, Store(tmp_path / str(quiet)), progress_console(console), Local(1))
            console.print("the result")
        shown[quiet] = out.getvalue()
    assert "to run" in shown[False] and "the result" in shown[False]
    assert shown[True] == "the result\n"


def test_verbose_leaves_libraries_their_voice() -> None:
    log = logging.getLogger("lm_eval")
    before = log.level
    try:
        log.setLevel(logging.INFO)
        with speaking(False, True):
            quiet_libraries()
        assert log.level == logging.INFO
    finally:
        log.setLevel(before)


def test_verbose_says_where_an_error_was_raised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["board", "never-ran", "-v"])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and "Traceback" in said and said.splitlines()[-1].startswith("ecr-bench: error: ")
    assert "Traceback" not in fails(capsys, "board", "never-ran")


def test_it_lasts_for_one_command_and_reaches_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert verbosity() is Verbosity.NORMAL
    with speaking(True, False):
        assert verbosity() is Verbosity.QUIET
        code = "from ecr_bench.verbosity import verbosity; print(verbosity())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "quiet"
    assert verbosity() is Verbosity.NORMAL
    monkeypatch.setenv(VARIABLE, "verbose")
    with speaking(False, False):
        assert verbosity() is Verbosity.VERBOSE
    monkeypatch.setenv(VARIABLE, "loud")
    with pytest.raises(UserError, match=r"loud.*quiet, normal, verbose"):
        verbosity()


COMPLETE = """
source {script}
COMP_WORDS=({words}); COMP_CWORD={place}
{function}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [(["ecr-bench", "ver"], {"verify"}), (["ecr-bench", "verify", "--o"], {"--out"})],
)
def test_bash_completes(
    words: list[str], expected: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    found = subprocess.run(
        ["bash", "-c", "source ./script; complete -p ecr-bench"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    function = found.stdout.split("-F ")[1].split()[0]
    asked = COMPLETE.format(script="./script", words=" ".join(words), place=len(words) - 1, function=function)
    done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_command_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell in shtab.SUPPORTED_SHELLS
    main(["completion", shell])
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS) and "max-disk" in script
    if tool := shutil.which(shell):
        subprocess.run([tool, "-n"], input=script, text=True, check=True)


def test_an_unknown_shell_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, "completion", "csh4")
    assert "csh4" in line and "bash" in line and "zsh" in line
