"""The command line, called in this process."""

from __future__ import annotations

import pytest

from ecr_bench.cli import main


def fails(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 2
    output = capsys.readouterr()
    lines = output.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("ecr-bench: error: ")
    return lines[0]
