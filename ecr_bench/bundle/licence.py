"""The licence of what a bundle was made from: it goes where the weights go."""

from __future__ import annotations

import shutil
from pathlib import Path

from ecr_bench.io import write_text
from ecr_bench.methods.packaged_models import LICENCE, Packaged, packaged
from ecr_bench.outside import PACKAGED, is_packaged
from ecr_bench.reading import user_path
from ecr_bench.table import code

FILES = ("LICEN[CS]E*", "NOTICE*")
"""What model folders keep it in."""


def write_licence(base_model: str | None, folder: Path) -> None:
    """Leave the note of a packaged model, or the files of a model folder, in ``folder``."""
    if base_model is None:
        return
    if (model := _packaged(base_model)) is not None:
        write_text(folder / LICENCE, f"{model.licence}\n")
        return
    for pattern in FILES:
        for path in sorted(user_path(base_model).glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)


def identifier(base_model: str | None) -> str | None:
    """As the front matter of model cards names it, where that is known."""
    model = _packaged(base_model)
    return model.card_licence if model is not None else None


def sentence(base_model: str | None) -> str:
    """What the card says of where the weights come from; empty for a model from scratch."""
    if base_model is None:
        return ""
    if (model := _packaged(base_model)) is not None:
        return f"Made from {code(base_model)}, whose licence holds for this as well: {model.licence}. "
    return f"Fine-tuned from {code(base_model)}; its licence applies. "


def _packaged(base_model: str | None) -> Packaged | None:
    if base_model is None or not is_packaged(base_model):
        return None
    return packaged(base_model.removeprefix(PACKAGED))
