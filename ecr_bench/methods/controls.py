"""Controls that run beside ECR (docs/protocol.md, 5): each removes one explanation of a gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecr_bench.arm import Role
from ecr_bench.methods.ecr import Ecr
from ecr_bench.methods.method import Ingredients, Method

if TYPE_CHECKING:
    from ecr_bench.ecr.codes import CodeSource
    from ecr_bench.sections import ControlTokensConfig


class Random(Method):
    """Control: codes drawn by a hash of the text; a gain here comes from extra positions, not meaning."""

    role = Role.ANCHOR_CONTROL

    def source(self, given: Ingredients) -> CodeSource:
        from ecr_bench.ecr.codes import RandomCodes

        return RandomCodes(given.control_tokens.count, given.k)


class Constant(Method):
    """Control: the same codes for every text; a gain here comes from the mere presence of tokens."""

    role = Role.ANCHOR_CONTROL

    def source(self, given: Ingredients) -> CodeSource:
        from ecr_bench.ecr.codes import ConstantCodes

        return ConstantCodes(given.control_tokens.count, given.k)


class Language(Method):
    """Control: codes that tell the language only; a gain here comes from language tags."""

    role = Role.ANCHOR_CONTROL

    def source(self, given: Ingredients) -> CodeSource:
        from ecr_bench.ecr.codes import LanguageCodes

        return LanguageCodes(given.control_tokens.count, given.k, languages=list(given.languages))


class Shuffled(Method):
    """Control: ECR's codes of another text; a gain here comes from the code distribution, not the text."""

    role = Role.ANCHOR_CONTROL
    uses_anchors = True

    def source(self, given: Ingredients) -> CodeSource:
        from ecr_bench.ecr.codes import ShuffledCodes

        assert given.pool is not None
        return ShuffledCodes(given.pool)


class Oracle(Method):
    """Upper bound: the teacher's own codes, teacher present at test time; not deployable."""

    role = Role.UPPER_BOUND
    uses_anchors = True
    uses_teacher = True

    def source(self, given: Ingredients) -> CodeSource:
        from ecr_bench.ecr.codes import OracleCodes

        assert given.teacher is not None and given.anchors is not None
        return OracleCodes(given.teacher, given.anchors, given.control_tokens.count)


class CodesOnly(Ecr):
    """Control: ECR's control tokens without the text; what it scores needs no language model to read."""

    role = Role.MODEL_CONTROL
    drop_cue = True

    def pretrained_as(self, control_tokens: ControlTokensConfig) -> Method | None:
        return Ecr("ecr").pretrained_as(control_tokens)


class TeacherProbe(Method):
    """A linear probe on the projected embedding, without a language model: what ECR's outside knowledge is worth."""

    role = Role.MODEL_CONTROL
    uses_control_tokens = False
    uses_anchors = True
    trains_model = False

    def pretrained_as(self, control_tokens: ControlTokensConfig) -> Method | None:
        """ECR's base, which is there: of it only the width is read."""
        return Ecr("ecr").pretrained_as(control_tokens)

    @property
    def precisions(self) -> tuple[str, ...]:
        return ("fp32",)

    def source(self, given: Ingredients) -> None:
        return None
