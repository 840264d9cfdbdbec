"""Adding a method, a teacher, a corpus and a task from one file outside the package."""

from __future__ import annotations

import pytest

from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.plugins import load_plugins

PLUGIN = '''
import hashlib
import numpy as np
import pandas as pd
from ecr_bench.corpora.base import make_corpus
from ecr_bench.corpora.registry import CORPORA
from ecr_bench.ecr.codes import RandomCodes
from ecr_bench.items.registry import TASKS
from ecr_bench.methods.base import Method
from ecr_bench.methods.registry import METHODS
from ecr_bench.teachers.registry import TEACHERS


class EvenOdd(Method):
    """A method from outside: codes that tell nothing but come in pairs."""

    @classmethod
    def source(cls, given):
        return RandomCodes(given.control_tokens.count, 2)


METHODS.add("even-odd", EvenOdd)
'''


def test_a_plugin_file_adds_a_method(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.replace("from ecr_bench.corpora.base import make_corpus\n", ""))
    main(["methods", "--plugin", str(path)])
    assert "even-odd" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [("import nothing_like_this", "ModuleNotFoundError"), ("1/0", "ZeroDivisionError"), ("def", "SyntaxError")],
)
def test_a_broken_plugin_is_one_line(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_plugins((str(path),))
    assert "broken.py" in str(caught.value)
