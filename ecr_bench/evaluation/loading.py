"""What lm-eval may read when it is left to open a model itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecr_bench.errors import UserError
from ecr_bench.weight_files import SUFFIX, check_adapter, check_weights, read_whole


def safe_options(pretrained: str, options: dict[str, Any]) -> dict[str, Any]:
    """HFLM's keyword arguments, such that it reads safetensors alone from ``pretrained``, a folder or a hub id.

    UserError for a folder with weights of another form, and for adapters and deltas that are not in a folder here.
    """
    folder = Path(pretrained) / (options.get("subfolder") or "")
    if folder.is_dir() and not options.get("gguf_file"):
        check_weights(folder)
    for name, check in (("peft", check_adapter), ("delta", check_weights)):
        if given := options.get(name):
            if not Path(given).is_dir():
                raise UserError(f"{name}={given}: no such folder; an adapter must lie here, with {SUFFIX} weights")
            check(Path(given))
    if basename := options.get("autogptq"):
        if basename is not True and not str(basename).endswith(SUFFIX):
            raise UserError(f"autogptq={basename}: only {SUFFIX} weights are read")
        return options
    return options if options.get("gptqmodel") else {**options, "use_safetensors": True}


@dataclass(frozen=True)
class Whole:
    """A model class of transformers that reads no model of which a weight is missing."""

    kind: Any

    def from_pretrained(self, source: str, **options: Any) -> Any:
        """See ``weight_files.read_whole``."""
        return read_whole(self.kind, source, source, **options)
