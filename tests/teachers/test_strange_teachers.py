"""A teacher that gives what is no embedding is named in one line, and nothing of it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecr_bench.config import TeacherConfig
from ecr_bench.errors import UserError
from ecr_bench.teachers.cache import embed_cached
from ecr_bench.teachers.registry import TEACHERS, create
from tests.helpers.hash_teacher import HashTeacher

TEXTS = [f"text {i}" for i in range(20)]
GOOD = HashTeacher().embed(TEXTS)


def at(row: int, value: float) -> np.ndarray:
    vectors = GOOD.copy()
    vectors[row, 3] = value
    return vectors


GIVEN: dict[str, tuple[Any, str]] = {
    "nan": (at(7, np.nan), "not finite for the text 'text 7'"),
    "infinity": (at(0, np.inf), "not finite"),
    "overflow": (GOOD.astype(np.float64) * 1e300, "not finite"),
    "a row less": (GOOD[:-1], "shape"),
    "a row more": (np.vstack([GOOD, GOOD[:1]]), "shape"),
    "a dimension less": (GOOD[:, :-1], "shape"),
    "one dimension": (GOOD[:, 0], "shape"),
    "three dimensions": (GOOD[None], "shape"),
    "nothing": (None, "shape|not an array"),
    "text": (["a"] * 20, "not an array"),
    "ragged": ([[1.0], [1.0, 2.0]], "not an array"),
    "empty": ([], "shape"),
    "one vector": (np.repeat(GOOD[:1], 20, axis=0), "one and the same vector"),
    "zeros": (np.zeros_like(GOOD), "one and the same vector"),
    "complex": (GOOD * 1j, "not an array|one and the same"),
    "objects": (np.full(GOOD.shape, None), "not finite|not an array"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GIVEN)
def test_what_is_no_embedding_is_one_line(name: str, tmp_path: Path) -> None:
    given, words = GIVEN[name]

    class Strange(HashTeacher):
        fingerprint = f"strange-{name.replace(' ', '-')}"

        def embed(self, texts: Any, on_progress: Any = None) -> Any:
            return given

    with pytest.raises(UserError, match=words) as caught:
        embed_cached(Strange(), TEXTS, tmp_path)
    assert "\n" not in str(caught.value) and "teacher 'hash'" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("dim", 0, "'dim' is 0"),
        ("dim", -3, "'dim' is -3"),
        ("dim", True, "'dim'"),
        ("dim", 2.5, "'dim'"),
        ("fingerprint", "../../x", "name"),
        ("fingerprint", "", "name"),
        ("fingerprint", "a/b", "name"),
        ("fingerprint", "x" * 300, "name"),
        ("fingerprint", None, "'fingerprint'"),
        ("name", 3, "'name'"),
        ("embed", 3, "embed"),
    ],
)
def test_what_is_no_teacher_is_one_line(field: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(HashTeacher):
        """Of no use."""

        def __init__(self, options: Any) -> None:
            super().__init__()

    setattr(Odd, field, value)
    monkeypatch.setitem(TEACHERS.entries, "odd", Odd)
    with pytest.raises(UserError, match=words) as caught:
        create(TeacherConfig(name="odd"))
    assert "\n" not in str(caught.value)
