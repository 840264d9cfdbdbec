"""What identifies a trained model. No torch here: the planner asks for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ecr_bench.errors import UserError


def weights_fingerprint(folder: Path) -> str:
    """Hash of a model folder's weights; UserError when it holds none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"options.distill.model: no weights (*.safetensors) in {folder}")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
