"""Embedding Consistency Regulation (arXiv 2601.00543)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecr_bench.arm import Role
from ecr_bench.methods.method import Ingredients, Method

if TYPE_CHECKING:
    from ecr_bench.ecr.codes import CodeSource


class Ecr(Method):
    """ECR: control tokens from the projection onto the teacher's semantic anchors; no teacher at test time."""

    role = Role.MAIN
    uses_anchors = True
    projects = True

    def source(self, given: Ingredients) -> CodeSource:
        from ecr_bench.ecr.codes import ProjectionCodes

        assert given.projection is not None and given.anchors is not None
        return ProjectionCodes(given.tokenizer, given.projection, given.anchors, given.control_tokens.count)
