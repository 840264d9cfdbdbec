"""Keep libraries from talking over our progress display."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings

from ecr_bench.verbosity import Verbosity, verbosity


def lossless_streams() -> None:
    """Standard output and errors write out what their encoding lacks (Latin-1, ASCII, a Windows code page)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def quiet_libraries() -> None:
    """Only errors from lightning, transformers, datasets, bitsandbytes and lm-eval are shown; with ``-v`` all is."""
    if verbosity() is Verbosity.VERBOSE:
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # lightning sets its own level when it is imported, so it must be imported before it is told to be quiet
    import lightning  # noqa: F401

    lightning_names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    names = ("transformers", "datasets", "lm_eval", "lm-eval", "bitsandbytes", "urllib3", *lightning_names)
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    try:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
    except ImportError:
        pass
