"""Controls that run beside ECR (docs/protocol.md, 5): each removes one explanation of a gain."""

from __future__ import annotations

from ecr_bench.arm import Role
from ecr_bench.ecr.codes import (
    CodeSource,
    ConstantCodes,
    LanguageCodes,
    OracleCodes,
    RandomCodes,
    ShuffledCodes,
)
from ecr_bench.methods.base import Ingredients, Method
from ecr_bench.methods.ecr import Ecr


class Random(Method):
    """Control: codes drawn by a hash of the text; a gain here comes from extra positions, not meaning."""

    role = Role.ANCHOR_CONTROL

    @classmethod
    def source(cls, given: Ingredients) -> CodeSource:
        return RandomCodes(given.control_tokens.count, given.k)


class Constant(Method):
    """Control: the same codes for every text; a gain here comes from the mere presence of tokens."""

    role = Role.ANCHOR_CONTROL

    @classmethod
    def source(cls, given: Ingredients) -> CodeSource:
        return ConstantCodes(given.control_tokens.count, given.k)


class Language(Method):
    """Control: codes that tell the language only; a gain here comes from language tags."""

    role = Role.ANCHOR_CONTROL

    @classmethod
    def source(cls, given: Ingredients) -> CodeSource:
        return LanguageCodes(given.control_tokens.count, given.k, languages=list(given.languages))


class Shuffled(Method):
    """Control: ECR's codes of another text; a gain here comes from the code distribution, not the text."""

    role = Role.ANCHOR_CONTROL
    uses_anchors = True

    @classmethod
    def source(cls, given: Ingredients) -> CodeSource:
        assert given.pool is not None
        return ShuffledCodes(given.pool)


class Oracle(Method):
    """Upper bound: the teacher's own codes, teacher present at test time; not deployable."""

    role = Role.UPPER_BOUND
    uses_anchors = True
    uses_teacher = True

    @classmethod
    def source(cls, given: Ingredients) -> CodeSource:
        assert given.teacher is not None and given.anchors is not None
        return OracleCodes(given.teacher, given.anchors, given.control_tokens.count)


class CodesOnly(Ecr):
    """Control: ECR's control tokens without the text; what it scores needs no language model to read."""

    role = Role.MODEL_CONTROL
    drop_cue = True
