"""The command that repeats an arm."""

from __future__ import annotations

import shlex

from ecr_bench.arm import Arm
from ecr_bench.config import load, parse_set
from ecr_bench.results.commands import arm_commands
from tests.helpers.page_sample import EVIL
from tests.helpers.world import arm, board_of, make


def test_commands_run_what_they_say() -> None:
    changed = load("quick").with_overrides({"finetune.steps": 7, "corpus.languages": ["en", "de", "fr", "zh", "ja"]})
    more = {"method": "ecr", "sizes": ("1x",), "seeds": (3,), "set": {"control_tokens.count": 8, "anchors.k": 16}}
    dump = changed.model_dump(mode="json")
    dump["cells"].append(more | {"sizes": ["1x"], "seeds": [3]})
    commands = arm_commands(board_of(make(precisions=("fp32",), items=4), provenance={"experiment": dump}))
    words = shlex.split(commands[Arm.of("ecr", "1x", {"anchors.k": 16, "control_tokens.count": 8})])
    assert words[:4] == ["ecr-bench", "run", "quick", "--set"]
    experiment = load(words[2]).with_overrides(parse_set(words[4:]))
    assert experiment.finetune.steps == 7 and experiment.corpus.languages == ("en", "de", "fr", "zh", "ja")
    assert [cell.model_dump() for cell in experiment.cells] == [more | {"with": (), "options": {}}]
    assert experiment.name == "quick-ecr-1x-anchors.k-16-control_tokens.count-8"
    assert [word.split("=")[0] for word in words[4:]] == ["corpus.languages", "finetune.steps", "name", "cells"]
    plain = load("quick").with_overrides(parse_set(shlex.split(commands[arm("finetune-3x")])[4:]))
    assert [(c.method, c.sizes, c.seeds) for c in plain.cells] == [("finetune", ("3x",), (0, 1, 2))]


def test_commands_of_other_experiments_and_plugins() -> None:
    dump = load("quick").model_dump(mode="json") | {"name": "mine", "cells": [{"method": EVIL, "sizes": ["1x"]}]}
    (command,) = arm_commands(board_of(make(precisions=("fp32",), items=4), provenance={"experiment": dump})).values()
    assert command.startswith("ecr-bench run mine.yaml --set name=mine-") and command.endswith(" --plugin FILE.py")
    assert parse_set(shlex.split(command)[5:6])["cells"][0]["method"] == EVIL
