"""The plain baseline."""

from __future__ import annotations

from ecr_bench.arm import Role
from ecr_bench.methods.method import Ingredients, Method


class Finetune(Method):
    """Plain fine-tuning: no control tokens."""

    role = Role.PLAIN
    uses_control_tokens = False

    def source(self, given: Ingredients) -> None:
        return None
