"""What a message names, and that it does so once."""

from __future__ import annotations

import pytest

from ecr_bench.errors import UserError, about


@pytest.mark.parametrize(("source", "message", "said"), [
    ("small", "sizes.1x: 3 GB are free: take a smaller model", "small: sizes.1x: 3 GB are free: take a smaller model"),
    ("long", "a longer window", "long: a longer window"),
    ("long", "longer windows", "long: longer windows"),
    ("teacher", "teacher.options.size: no such size", "teacher: teacher.options.size: no such size"),
    ("mine.yaml", "mine.yaml: no such key", "mine.yaml: no such key"),
    ("mine.yaml", "mine.yaml:3: no such key", "mine.yaml:3: no such key"),
    ("", "no such key", "no such key"),
])  # fmt: skip
def test_a_source_is_put_in_front_of_what_does_not_begin_with_it(source: str, message: str, said: str) -> None:
    with pytest.raises(UserError) as error, about(source):
        raise UserError(message)
    assert str(error.value) == said
