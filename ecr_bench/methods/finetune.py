"""The plain baseline."""

from __future__ import annotations

from ecr_bench.arm import Role
from ecr_bench.methods.base import Ingredients, Method


class Finetune(Method):
    """Plain fine-tuning: no control tokens."""

    role = Role.PLAIN
    uses_control_tokens = False

    @classmethod
    def source(cls, given: Ingredients) -> None:
        return None
