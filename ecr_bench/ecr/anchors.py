"""Semantic anchors: centroids of a teacher's space that stand for meaning across languages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ecr_bench.ecr.centring import centred, language_means
from ecr_bench.ecr.selection import select
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, fingerprint, read_json, write_json
from ecr_bench.sections import AnchorsConfig

CHUNK = 4096
LANGUAGE = "language/"


@dataclass(frozen=True)
class Anchors:
    """K centroids per level and what was subtracted before clustering.

    Attributes:
        centroids: (levels, K, d) float32; one level for ``nearest``.
        language_means: language -> (d,) float32; empty when centring is off.
        config: what they were fitted with.
        teacher: fingerprint of the teacher whose space this is.
        mini_batch: whether there were so many rows that they were not clustered as a whole (``ecr.streamed``).
    """

    centroids: torch.Tensor
    language_means: dict[str, torch.Tensor]
    config: AnchorsConfig
    teacher: str
    mini_batch: bool = False

    @property
    def levels(self) -> int:
        return self.centroids.shape[0]

    @property
    def fingerprint(self) -> str:
        """Hash of the numbers, the configuration and the teacher."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._tensors().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return fingerprint([digest.hexdigest(), self.config.model_dump(mode="json"), self.teacher])

    def centre(self, embeddings: torch.Tensor, langs: Sequence[str]) -> torch.Tensor:
        """Subtract each row's language mean: (N, d) -> (N, d) float32. For the teacher's side only.

        A language that was not in the fit gets the mean of the language means. The projection learns
        centred targets, so a user's text needs no language label.
        """
        return centred(embeddings, langs, self.language_means)

    def assign(self, vectors: torch.Tensor, count: int) -> torch.Tensor:
        """Codes (N, count) int64 in [0, K) of ``vectors`` (N, d), which are centred where the fit was.

        ``nearest``: the ``count`` nearest anchors in order of distance, ties by index. ``residual``:
        column i is the nearest anchor of level i to what levels before it left.

        Raises:
            UserError: ``count`` exceeds K (nearest) or the levels (residual).
        """
        residual = self.config.assignment == "residual"
        most = self.levels if residual else self.centroids.shape[1]
        if count > most:
            what = "levels of residual anchors" if residual else "semantic anchors (anchors.k)"
            raise UserError(f"control_tokens.count {count} is more than the {most} {what}")
        parts = [
            self._residual(chunk, count) if residual else self._nearest(chunk, count)
            for chunk in vectors.split(CHUNK)
            if len(chunk)
        ]
        return torch.cat(parts) if parts else torch.empty(0, count, dtype=torch.int64)

    def _nearest(self, vectors: torch.Tensor, count: int) -> torch.Tensor:
        """The order of float64 distances, found in float32 wherever float32 cannot be wrong about it."""
        centroids = self.centroids[0]
        order, sure = _quick_order(vectors, centroids, count)
        if len(unsure := (~sure).nonzero()[:, 0]):
            exact = _distances(vectors[unsure], centroids).sort(dim=1, stable=True).indices[:, :count]
            order[unsure] = exact
        return order

    def _residual(self, vectors: torch.Tensor, count: int) -> torch.Tensor:
        rest = vectors.double()
        codes = torch.empty(len(vectors), count, dtype=torch.int64)
        for level in range(count):
            codes[:, level] = _distances(rest, self.centroids[level]).sort(dim=1, stable=True).indices[:, 0]
            rest = rest - self.centroids[level][codes[:, level]].double()
        return codes

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {"centroids": self.centroids, **{LANGUAGE + k: v for k, v in self.language_means.items()}}

    def save(self, folder: Path) -> None:
        """Write ``anchors.safetensors`` and ``anchors.json``, atomically."""
        with atomic_dir(folder) as temporary:
            save_file({k: v.contiguous() for k, v in self._tensors().items()}, temporary / "anchors.safetensors")
            meta = {"config": self.config.model_dump(mode="json"), "teacher": self.teacher}
            found = {**meta, "fingerprint": self.fingerprint, "mini_batch": self.mini_batch}
            write_json(temporary / "anchors.json", found)

    @classmethod
    def load(cls, folder: Path) -> Anchors:
        """Read what ``save`` wrote; UserError when the two files do not belong together."""
        meta = read_json(folder / "anchors.json")
        path = folder / "anchors.safetensors"
        try:
            tensors = load_file(path)
            config, teacher, written = AnchorsConfig(**meta["config"]), meta["teacher"], meta["fingerprint"]
            centroids = tensors.pop("centroids")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder}: not a folder of semantic anchors: {' '.join(str(error).split()):.160}"
            ) from error
        means = {name.removeprefix(LANGUAGE): mean for name, mean in tensors.items()}
        anchors = cls(centroids, means, config, teacher, bool(meta.get("mini_batch", False)))
        if anchors.fingerprint != written:
            raise UserError(f"{path}: fingerprint {anchors.fingerprint} is not the {written} that anchors.json names")
        return anchors


def _quick_order(vectors: torch.Tensor, centroids: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``count`` nearest of ``centroids`` (N, count) int64 by float32 distances, and whether that is certain (N,).

    It is where neighbours in the order are farther apart than rounding can move them: 2 (d + 8) u |x| |c| for
    each product (Higham 2002, equation 3.5, with room for the additions), u = 2^-24. Twice as quick as float64
    with a full sort, the same codes (tests/ecr/test_anchors.py).
    """
    rows, centroids = vectors.float(), centroids.float()
    distances = torch.addmm(centroids.square().sum(1)[None], rows, centroids.T, alpha=-2)
    values, order = [], []
    for _ in range(min(count + 1, len(centroids))):  # quicker than topk for a handful
        least = distances.min(1)
        values.append(least.values)
        order.append(least.indices)
        distances.scatter_(1, least.indices[:, None], torch.inf)
    longest = centroids.norm(dim=1).max()
    slack = 4 * (rows.shape[1] + 8) * 2.0**-24 * longest * (rows.norm(dim=1) + longest)
    gaps = torch.stack(values, 1).diff(dim=1)
    return torch.stack(order[:count], 1), (gaps > slack[:, None]).all(1)


def _distances(vectors: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Squared distances (N, K) less the row's own square.

    In float64: float32 rounding depends on the batch, and a code must not.
    """
    centroids = centroids.double()
    return torch.addmm(centroids.square().sum(1)[None], vectors.double(), centroids.T, alpha=-2)


def fit_anchors(
    embeddings: torch.Tensor, langs: Sequence[str], config: AnchorsConfig, levels: int, teacher_fingerprint: str
) -> Anchors:
    """Derive semantic anchors from teacher embeddings (N, d); the same for the same seed.

    Means of languages are subtracted first (without that some teachers give clusters of languages; it is an ablation);
    residual levels are those of residual vector quantisation (Juang & Gray 1982).

    Args:
        embeddings: (N, d) float32, any array torch understands.
        langs: language of each row.
        config: K, selection, centring, assignment, seed, Lloyd rounds.
        levels: residual levels to fit; ``nearest`` has one whatever is asked.
        teacher_fingerprint: kept with the anchors.

    Raises:
        UserError: fewer distinct rows than K, or vectors that are not finite.
    """
    vectors = torch.as_tensor(embeddings).float()
    if not torch.isfinite(vectors).all():
        raise UserError("semantic anchors: the embeddings hold values that are not finite")
    if len(vectors) < config.k:
        raise UserError(f"anchors.k {config.k} is larger than the {len(vectors)} embedded texts (teacher.rows)")
    means = language_means(vectors, langs) if config.centre else {}
    rest = centred(vectors, langs, means)
    distinct = len({row.tobytes() for row in rest.numpy()})
    if distinct < config.k:
        raise UserError(f"anchors.k {config.k} is larger than the {distinct} distinct embeddings")
    found = []
    for level in range(levels if config.assignment == "residual" else 1):
        centroids = select(rest, config, config.seed + level)
        found.append(centroids)
        if config.assignment == "residual" and level + 1 < levels:
            codes = torch.cat([_distances(part, centroids).argmin(1) for part in rest.split(CHUNK)])
            rest = rest - centroids[codes]
    return Anchors(torch.stack(found), means, config, teacher_fingerprint)
