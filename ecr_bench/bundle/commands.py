"""The command ``gguf`` as a typed function, from which the command line makes its options."""

from __future__ import annotations

from pathlib import Path


def gguf(bundle: Path, folder: Path) -> None:
    """Write a Llama bundle as a GGUF file for llama.cpp, with the conditioner that makes its prompts beside it.

    Args:
        bundle: a bundle in fp32 or bf16, written by export.
        folder: a new folder for the model, its tokenizer and its conditioner.
    """
    from ecr_bench.bundle.gguf import write_gguf
    from ecr_bench.formats import size
    from ecr_bench.quiet import quiet_libraries

    quiet_libraries()
    path = write_gguf(bundle, folder)
    print(f"{path}: {size(path.stat().st_size)}; prompts: ecr_bench.bundle.gguf.open_prompts({str(folder)!r})")
