"""A signal is an interrupt wherever it comes, in a library's callback as well."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from pydantic import BaseModel, field_serializer

from ecr_bench import cli
from ecr_bench.interrupts import Stopped, handled


class Stopping(BaseModel):
    """Gets the signal while pydantic asks it for a value."""

    number: int

    @field_serializer("number")
    def _stop(self, number: int) -> int:
        os.kill(os.getpid(), number)
        return number


def raising(number: int) -> None:
    Stopping(number=number).model_dump()


def refusing(number: int) -> None:
    """As code that makes a line of whatever a library raises."""
    from ecr_bench.errors import UserError

    try:
        raising(number)
    except Exception as error:
        raise UserError("cannot be read") from error


@pytest.mark.parametrize("command", [raising, refusing])
@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupt_that_a_library_wraps_is_one(monkeypatch, capsys, command, number, code, said):
    monkeypatch.setattr(cli, "_call", lambda *_: command(number))
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor"])
    assert stop.value.code == code
    assert capsys.readouterr().err == f"ecr-bench: {said}; finished stages are kept, the same command resumes\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signal to a process")
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)])
def test_an_interrupt_in_a_finaliser_comes_again_where_it_can_be_raised(number, error, capfd):
    class Finalised:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            time.sleep(0.1)  # the signal is seen in here

    with handled(lambda: None) as asked:
        thing = Finalised()
        with pytest.raises(error):
            del thing
            time.sleep(5)
        assert [type(one) for one in asked] == [error]
    assert capfd.readouterr().err == ""


def test_what_else_goes_wrong_in_a_finaliser_is_shown_as_ever(monkeypatch):
    class Broken:
        def __del__(self) -> None:
            raise ValueError("no signal")

    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: shown.append(str(lost.exc_value)))
    with handled(lambda: None):
        thing = Broken()
        del thing
    assert shown == ["no signal"]
