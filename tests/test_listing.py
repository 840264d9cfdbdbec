"""The commands that list what there is list all of it."""

from __future__ import annotations

import json

import pytest

from ecr_bench import __version__
from ecr_bench.cli import main
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.evaluation.public_tasks import PUBLIC_TASKS
from ecr_bench.items.registry import TASKS
from ecr_bench.schema import experiment_schema
from tests.helpers.commands import fails
from tests.helpers.outside import ROOT


@pytest.mark.parametrize(("command", "names"), [("corpora", CORPORA), ("tasks", [*TASKS, *PUBLIC_TASKS])])
def test_every_name_is_there(command, names, capsys):
    main([command])
    printed = capsys.readouterr().out.split()
    assert set(names) <= set(printed)


def test_runs_are_listed_with_their_verdicts(capsys, tmp_path):
    main(["runs", "--out", str(ROOT / "results")])
    lines = capsys.readouterr().out.splitlines()
    assert any("quick" in line and "not attributable" in line for line in lines)
    assert "no run in" in fails(capsys, "runs", "--out", str(tmp_path))


def test_the_schema_and_the_version_are_printed(capsys):
    main(["schema"])
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(experiment_schema()))
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code in (0, None) and capsys.readouterr().out.strip() == f"ecr-bench {__version__}"
