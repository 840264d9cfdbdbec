"""Open a bundle, generate with it, score it: on the machine it was copied to, with nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from ecr_bench.bundle.files import Meta, read_meta
from ecr_bench.data.joint import encode_contexts
from ecr_bench.data.tokenizer import context_window, load_tokenizer
from ecr_bench.device import device
from ecr_bench.divergence import check_finite
from ecr_bench.ecr.codes import SOURCES
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.errors import UserError
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.records import write_records
from ecr_bench.evaluation.run import evaluate, load_item_tasks
from ecr_bench.evaluation.scorers import disk_bytes
from ecr_bench.io import check_folder, read_json
from ecr_bench.items.files import read_index
from ecr_bench.memory import peak_memory, reset_peak_memory
from ecr_bench.precision import PRECISIONS
from ecr_bench.types import Prompt


@dataclass(frozen=True)
class Bundle:
    folder: Path
    meta: Meta
    lm: EcrLM

    @property
    def bytes(self) -> int:
        """Size on disk: weights, tokenizer, conditioner."""
        return disk_bytes(self.folder)


def open_bundle(folder: Path) -> Bundle:
    """Check and load a bundle as it was scored. UserError when it is none, incomplete or damaged."""
    meta = read_meta(folder)
    reset_peak_memory()
    try:
        tokenizer = load_tokenizer(folder)
        _check_alone(folder)
        if meta.precision in ("int8", "nf4"):
            from ecr_bench.precision.quantised import load_quantised

            model = load_quantised(folder, device())
        else:
            model = PRECISIONS.get(meta.precision)(folder, device())
        check_finite(model, str(folder))
        conditioner = Conditioner.load(folder / "conditioner", tokenizer)
    except UserError:
        raise
    except Exception as error:  # transformers, tokenizers, safetensors and bitsandbytes each raise their own kinds
        raise UserError(f"{folder}: cannot be loaded: {' '.join(str(error).split()):.160}; export it again") from error
    lm = EcrLM(model, tokenizer=tokenizer, conditioner=conditioner, batch_tokens=meta.batch_tokens)
    return Bundle(folder, meta, lm)


def _check_alone(folder: Path) -> None:
    """UserError where control tokens would come from a teacher, which lies outside of the bundle."""
    source = read_json(folder / "conditioner" / "conditioner.json")["source"]
    if source is not None and not SOURCES.get(source["kind"]).deployable:
        raise UserError(f"{folder}: its control tokens come from a teacher outside of the bundle; export an ecr cell")


@dataclass(frozen=True)
class Generated:
    """``first_token_ms``: from text to first token, tokenisation and control tokens included, once warm."""

    text: str
    tokens: int
    first_token_ms: float
    tokens_per_second: float
    peak_memory: int


def generate(bundle: Bundle, text: str, tokens: int = 40) -> Generated:
    """Continue ``text`` greedily by at most ``tokens`` tokens; the whole text is what control tokens look at.

    UserError for an empty text, or a window that cannot hold ``tokens`` and the prompt's fixed part.
    """
    lm = bundle.lm
    window = context_window(lm.model.config, lm.tokenizer)
    if not text.strip():
        raise UserError("text: must not be empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError("text: holds half of a character, or bytes that are no UTF-8") from None
    if not 1 <= tokens < window:
        raise UserError(f"--tokens {tokens}: must be 1 to {window - 1}, the model reads {window} tokens")
    _continue(lm, text, 1, window)  # first calls build caches of the libraries
    started = time.perf_counter()
    _continue(lm, text, 1, window)
    first = time.perf_counter() - started
    ids = _continue(lm, text, tokens, window)
    rest = time.perf_counter() - started - first
    answer = lm.tokenizer.decode(ids, skip_special_tokens=True)
    return Generated(answer, len(ids), 1000 * first, len(ids) / rest, peak_memory())


@torch.no_grad()
def _continue(lm: EcrLM, text: str, tokens: int, window: int) -> list[int]:
    conditioner = lm.conditioner
    assert conditioner is not None
    ids = encode_contexts(conditioner, [Prompt(text, text)], [window - tokens])[0].ids
    control = conditioner.tokens
    inputs = torch.tensor([ids], device=lm.model.device)
    output = lm.model.generate(
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=tokens,
        do_sample=False,
        # control tokens are inputs only: they have no text
        suppress_tokens=list(range(control.first_id, control.first_id + control.size)) if control else None,
        pad_token_id=lm.tokenizer.pad_token_id,
        eos_token_id=lm.tokenizer.eos_token_id,
    )
    return output[0, len(ids) :].tolist()


def score(bundle: Bundle, task: str, items: Path | None, to: Path | None = None) -> pd.DataFrame:
    """Per-item records (``evaluation.records``) of ``task`` in the folder ``items``: of a language, of all, or ``all``.

    With ``all`` the batches are those the cell was scored with, so that the log-likelihoods are the same to the
    last bit on the same machine; a part of the tasks makes other batches, which moves the last digits. ``to``: Parquet
    file for the records.
    """
    if to is not None:
        check_folder(to.parent, "--records to")
    if items is None:
        # the hook for public names: evaluation/public.py public_tasks([task]) gives tasks and manager in the same form
        raise UserError(
            f"task {task!r}: give the folder of its items: --items runs/store/items/KEY/test "
            "(public benchmarks: ecr-bench eval)"
        )
    index = sorted(read_index(items))
    names = [name for name in index if task in ("all", name) or name.startswith(f"ecr_{task}_")]
    if not names:
        raise UserError(f"unknown task {task!r}: allowed are all, a task, or one of {', '.join(index)}")
    manager, tasks = load_item_tasks(items, names)
    own = {name: getattr(bundle.meta, name) for name in ("cell", "arm", "precision", "seed", "seen_languages")}
    found = pd.DataFrame(evaluate(bundle.lm, tasks, metadata=own, task_manager=manager))
    if to is not None:
        write_records(to, found)
    return found
