"""Where codes come from: the projection (ECR itself), or one of the controls that run beside it.

All give (B, m) int64 codes in [0, K) for B cue texts, so that every arm has the same number of extra
positions and the same new vocabulary (docs/protocol.md, 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from ecr_bench.ecr.anchors import Anchors
from ecr_bench.ecr.projection import Projection, load_projection, project
from ecr_bench.errors import UserError
from ecr_bench.registry import Registry
from ecr_bench.sections import TeacherConfig


class CodeSource(Protocol):
    """Codes of cue texts. ``kind`` names the class in ``SOURCES``; ``deployable`` is False for the oracle."""

    kind: str
    deployable: bool

    @property
    def side_parameters(self) -> int:
        """Numbers stored beside the model to compute codes; they count against the method's memory."""
        ...

    @property
    def side_bytes(self) -> int:
        """The same in bytes."""
        ...

    def __call__(self, cues: Sequence[str], langs: Sequence[str]) -> torch.Tensor: ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Write tensors under ``folder`` and return the plain JSON needed by ``load``."""
        ...


def text_hash(text: str, salt: str = "") -> int:
    """A 64-bit hash of ``text`` that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(f"{salt}\0{text}".encode(), digest_size=8).digest(), "little")


class ProjectionCodes:
    """ECR: project the student's own view of the text into teacher space, then quantise on the anchors."""

    kind = "projection"
    deployable = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase, projection: Projection, anchors: Anchors, count: int):
        self.tokenizer, self.projection, self.anchors, self.count = tokenizer, projection, anchors, count

    @property
    def side_parameters(self) -> int:
        return self.projection.parameters + self.anchors.centroids.numel()

    @property
    def side_bytes(self) -> int:
        return self.projection.bytes + self.anchors.centroids.numel() * self.anchors.centroids.element_size()

    def __call__(self, cues: Sequence[str], langs: Sequence[str]) -> torch.Tensor:
        return self.anchors.assign(project(self.projection, self.tokenizer, cues), self.count)

    def save(self, folder: Path) -> dict[str, Any]:
        self.anchors.save(folder / "anchors")
        self.projection.save(folder / "projection")
        return {"count": self.count}

    @classmethod
    def load(cls, folder: Path, meta: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> ProjectionCodes:
        return cls(tokenizer, load_projection(folder / "projection"), Anchors.load(folder / "anchors"), meta["count"])


class OracleCodes:
    """The teacher's own codes, teacher present at test time: the upper bound, not deployable.

    It is also told each text's language, which centring needs on the teacher's side; ECR is not.
    """

    kind = "oracle"
    deployable = False
    side_parameters = 0
    side_bytes = 0

    def __init__(self, teacher: TeacherConfig, anchors: Anchors, count: int):
        self.teacher, self.anchors, self.count = teacher, anchors, count

    def __call__(self, cues: Sequence[str], langs: Sequence[str]) -> torch.Tensor:
        from ecr_bench.teachers.cache import embed_cached
        from ecr_bench.teachers.registry import create

        vectors = torch.from_numpy(embed_cached(create(self.teacher), list(cues)))
        return self.anchors.assign(self.anchors.centre(vectors, langs), self.count)

    def save(self, folder: Path) -> dict[str, Any]:
        self.anchors.save(folder / "anchors")
        return {"count": self.count, "teacher": self.teacher.model_dump(mode="json")}

    @classmethod
    def load(cls, folder: Path, meta: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> OracleCodes:
        return cls(TeacherConfig(**meta["teacher"]), Anchors.load(folder / "anchors"), meta["count"])


class _Formula:
    """A control whose codes need nothing stored but a few plain numbers."""

    kind: str
    deployable = True
    side_parameters = 0
    side_bytes = 0

    def __init__(self, count: int, k: int, **options: Any):
        self.count, self.k, self.options = count, k, options

    def save(self, folder: Path) -> dict[str, Any]:
        return {"count": self.count, "k": self.k, **self.options}

    @classmethod
    def load(cls, folder: Path, meta: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> _Formula:
        return cls(**meta)

    def one(self, cue: str, lang: str) -> list[int]:
        raise NotImplementedError

    def __call__(self, cues: Sequence[str], langs: Sequence[str]) -> torch.Tensor:
        rows = [self.one(cue, lang) for cue, lang in zip(cues, langs, strict=True)]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.count)


class RandomCodes(_Formula):
    """Codes drawn by a hash of the text: as many and as stable as ECR's, with no meaning."""

    kind = "random"

    def one(self, cue: str, lang: str) -> list[int]:
        return [text_hash(cue, str(position)) % self.k for position in range(self.count)]


class ConstantCodes(_Formula):
    """The same codes for every text: only the extra positions remain."""

    kind = "constant"

    def one(self, cue: str, lang: str) -> list[int]:
        return [position % self.k for position in range(self.count)]


class LanguageCodes(_Formula):
    """Codes that tell the language and nothing else."""

    kind = "language"

    def __init__(self, count: int, k: int, **options: Any):
        super().__init__(count, k, **options)
        # one code for each language and one for a language that is not in the list, at every position
        self.groups = len(options["languages"]) + 1
        if self.groups > k:
            raise UserError(
                f"anchors.k: {k} codes cannot tell {self.groups - 1} languages apart; the language control needs at "
                f"least {self.groups}"
            )

    def one(self, cue: str, lang: str) -> list[int]:
        languages = self.options["languages"]
        index = languages.index(lang) if lang in languages else len(languages)
        return [(index + position * self.groups) % self.k for position in range(self.count)]


class ShuffledCodes:
    """ECR's codes of *another* text, picked by a hash of this one.

    Permuting anchor ids alone would be no control: token ids are arbitrary, so the model would learn
    the permuted ones just as well. Mismatching rows keeps how often each code (and each combination)
    occurs and removes what it says about the text.
    """

    kind = "shuffled"
    deployable = True

    def __init__(self, pool: torch.Tensor):
        self.pool = pool
        self.side_parameters = pool.numel()
        self.side_bytes = pool.numel() * pool.element_size()

    def __call__(self, cues: Sequence[str], langs: Sequence[str]) -> torch.Tensor:
        rows = [text_hash(cue, "shuffled") % len(self.pool) for cue in cues]
        return self.pool[torch.tensor(rows, dtype=torch.int64)]

    def save(self, folder: Path) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"pool": self.pool.contiguous()}, folder / "pool.safetensors")
        return {}

    @classmethod
    def load(cls, folder: Path, meta: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> ShuffledCodes:
        return cls(load_file(folder / "pool.safetensors")["pool"])


SOURCES = Registry(
    "code source",
    {
        source.kind: source
        for source in (ProjectionCodes, OracleCodes, RandomCodes, ConstantCodes, LanguageCodes, ShuffledCodes)
    },
)
SOURCES.add("soft", "ecr_bench.ecr.soft:SoftVectors")
