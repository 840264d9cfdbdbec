"""Prompt templates of lm-eval, compiled once instead of once for each document and field."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ecr_bench.fast.switch import plain


def compiled_once(compile_template: Callable[[str], Any]) -> Callable[[str], Any]:
    """``compile_template`` that remembers; where everything is plain, as it is."""
    return compile_template if plain() else functools.lru_cache(maxsize=1024)(compile_template)
