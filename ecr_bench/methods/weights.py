"""What identifies a trained model. No torch here: the planner asks for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ecr_bench.errors import UserError


def weight_files(folder: Path, key: str) -> list[Path]:
    """The weights in a model folder; UserError that names the setting ``key`` when it holds none."""
    if not (files := sorted(folder.glob("*.safetensors"))):
        raise UserError(f"{key}: no weights (*.safetensors) in {folder}")
    return files


def weights_fingerprint(folder: Path) -> str:
    """Hash of a model folder's weights; UserError when it holds none."""
    digest = hashlib.sha256()
    for path in weight_files(folder, "options.distill.model"):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
