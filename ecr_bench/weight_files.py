"""Weights on disk: read from safetensors and from nothing else, because a pickle runs any code when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ecr_bench.errors import UserError
from ecr_bench.io import read_json

SUFFIX = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
"""Other forms of weights; named where one stands in the place of safetensors."""
ADAPTER_CONFIG, ADAPTER = "adapter_config.json", f"adapter_model{SUFFIX}"
CONVERT = "where you trust it, convert it with transformers: load it there and save_pretrained() it into a new folder"


def read_folder(kind: Any, folder: Path, **options: Any) -> Any:
    """``kind.from_pretrained(folder, **options)`` from safetensors alone, offline.

    ``kind``: a model class of transformers. UserError for weights of another form and for weights that are not all
    there; what transformers raises otherwise.
    """
    check_weights(folder)
    return read_whole(kind, str(folder), str(folder), use_safetensors=True, local_files_only=True, **options)


def read_whole(kind: Any, source: str, who: str, **options: Any) -> Any:
    """``kind.from_pretrained(source, **options)``; UserError that begins with ``who`` where a weight is not there.

    transformers draws such a weight at random. A pooler may be missing: hidden states do not go through it.
    """
    model, said = kind.from_pretrained(source, **{"trust_remote_code": False, **options}, output_loading_info=True)
    lost = sorted(name for name in said["missing_keys"] if "pooler" not in name.split("."))
    if lost:
        more = f" and {len(lost) - 1} more weights" if len(lost) > 1 else ""
        raise UserError(
            f"{who}: {lost[0]}{more} of {type(model).__name__} not among its weights and would be drawn at "
            "random: the files are not whole, or config.json is of another model"
        )
    return model


def check_weights(folder: Path) -> Path:
    """Return ``folder`` if the weights of the model in it are safetensors, an adapter's beside them too.

    UserError names the file that is not, or says that there are none.
    """
    weights = sorted(folder.glob(f"*{SUFFIX}"))
    if not any(path.name != ADAPTER for path in weights):
        raise _refused(folder)
    for path in weights:
        check_whole(path)
    for index in sorted(folder.glob(f"*{SUFFIX}.index.json")):
        read = read_json(index)
        found = read.get("weight_map") if isinstance(read, dict) else None
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
            raise UserError(f"{index}: has no weight_map of names of files")
        shards = found.values()
        if strange := next((name for name in shards if not name.endswith(SUFFIX) or Path(name).name != name), None):
            raise UserError(f"{index}: names {strange!r}: only *{SUFFIX} in the same folder are read; {CONVERT}")
    # transformers takes an adapter that lies in the folder of a model for a part of it
    return check_adapter(folder) if (folder / ADAPTER_CONFIG).is_file() else folder


def check_whole(path: Path) -> None:
    """UserError where a file is no safetensors or is cut off; only its header is read."""
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not safetensors, or not whole: {' '.join(str(error).split()):.120}") from None


def check_adapter(folder: Path) -> Path:
    """Return ``folder`` if the weights of the adapter in it are safetensors; UserError names the file that is not."""
    if not (folder / ADAPTER).is_file():
        raise _refused(folder, "adapter_model*")
    return folder


def _refused(folder: Path, pattern: str = "*") -> UserError:
    others = sorted(path for path in folder.glob(pattern) if path.suffix in PICKLES)
    # a trainer's own state, or a table of a tokenizer, may lie beside the weights
    first = min(others, key=lambda path: ("model" not in path.name, path.name), default=None)
    if first is None:
        missing = f"no weights ({pattern.removesuffix('*') or '*'}{SUFFIX}) here"
        return UserError(f"{folder}: {missing}; it must be a transformers folder as save_pretrained() writes it")
    return UserError(
        f"{first}: only {SUFFIX} weights are read, this form can run any code when it is opened; {CONVERT}"
    )
