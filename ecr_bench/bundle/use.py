"""Open a bundle, generate with it, score it: on the machine it was copied to, with nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import torch
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.bundle.files import Meta, read_meta
from ecr_bench.bundle.prompts import conditioned
from ecr_bench.data.tokenizer import context_window, load_tokenizer
from ecr_bench.device import device
from ecr_bench.divergence import check_finite
from ecr_bench.ecr.codes import SOURCES
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.errors import UserError
from ecr_bench.evaluation.generation import ids_without_text
from ecr_bench.evaluation.lm import EcrLM
from ecr_bench.evaluation.records import write_records
from ecr_bench.evaluation.run import by_kind, evaluate, load_item_tasks
from ecr_bench.evaluation.scorers import disk_bytes
from ecr_bench.io import check_folder, read_json
from ecr_bench.items.files import read_index
from ecr_bench.memory import peak_memory, reset_peak_memory
from ecr_bench.precision import PRECISIONS


@dataclass(frozen=True)
class Bundle:
    """A trained cell that runs alone. ``model`` and ``tokenizer`` go wherever transformers takes a pair of them."""

    folder: Path
    meta: Meta
    lm: EcrLM

    @property
    def bytes(self) -> int:
        """Size on disk: weights, tokenizer, conditioner."""
        return disk_bytes(self.folder)

    @property
    def model(self) -> PreTrainedModel:
        """The language model. It never generates a control token: these are inputs, they have no text."""
        return self.lm.model

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Adds the control tokens of each prompt when it is called, pads on the left, decodes as any other."""
        assert self.lm.conditioner is not None
        return conditioned(self.lm.tokenizer, self.lm.conditioner, self.window)

    @property
    def window(self) -> int:
        """Tokens the model reads at once, control tokens included."""
        return context_window(self.lm.model.config, self.lm.tokenizer)

    def generate(self, texts: str | Sequence[str], tokens: int = 40, **generation: Any) -> list[str]:
        """What follows each text, at most ``tokens`` tokens, all texts in one batch.

        Args:
            texts: prompts; the control tokens of each look at all of it. A long one loses text on its left.
            tokens: new tokens at most.
            generation: further arguments of transformers' ``generate`` (``do_sample=True``); greedy without any.

        Raises:
            UserError: an empty text, or a window that cannot hold ``tokens`` and the fixed part of a prompt.
        """
        inputs = self._inputs([texts] if isinstance(texts, str) else list(texts), tokens)
        output: Any = self._generate(inputs, tokens, generation)
        return self.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def stream(self, text: str, tokens: int = 40, **generation: Any) -> Iterator[str]:
        """The same for one text, piece by piece as it comes. Closing the iterator ends the generation."""
        from transformers import TextIteratorStreamer

        inputs = self._inputs([text], tokens)
        streamer = TextIteratorStreamer(self.lm.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stopped = _Unread()
        given = {**generation, "streamer": streamer, "stopping_criteria": [stopped]}
        thread = Thread(target=self._generate, args=(inputs, tokens, given), daemon=True)
        thread.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            stopped.now = True
            thread.join()

    def _inputs(self, texts: list[str], tokens: int) -> BatchEncoding:
        if not texts or not all(text.strip() for text in texts):
            raise UserError("text: must not be empty")
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            raise UserError("text: holds half of a character, or bytes that are no UTF-8") from None
        if not 1 <= tokens < self.window:
            raise UserError(f"--tokens {tokens}: must be 1 to {self.window - 1}, the model reads {self.window} tokens")
        call: Any = self.tokenizer
        found: BatchEncoding = call(
            texts, padding=True, truncation=True, max_length=self.window - tokens, return_tensors="pt"
        )
        return found.to(self.model.device)

    @torch.no_grad()
    def _generate(self, inputs: BatchEncoding, tokens: int, generation: dict[str, Any]) -> Any:
        model: Any = self.model
        return model.generate(**inputs, max_new_tokens=tokens, **{"do_sample": False, **generation})


@dataclass
class _Unread:
    """Ends a generation that nobody reads any more."""

    now: bool = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.now, device=input_ids.device)


def open_bundle(folder: str | Path) -> Bundle:
    """Check and load a bundle as it was scored. UserError when it is none, incomplete or damaged."""
    folder = Path(folder)
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
    _prepare_generation(model, tokenizer)
    lm = EcrLM(model, tokenizer=tokenizer, conditioner=conditioner, batch_tokens=meta.batch_tokens)
    return Bundle(folder, meta, lm)


def _prepare_generation(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    config = model.generation_config
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    config.suppress_tokens = ids_without_text(model, tokenizer) or None


def _check_alone(folder: Path) -> None:
    """UserError where control tokens would come from a teacher, which lies outside of the bundle."""
    source = read_json(folder / "conditioner" / "conditioner.json")["source"]
    if source is not None and not SOURCES.get(source["kind"]).deployable:
        raise UserError(f"{folder}: its control tokens come from a teacher outside of the bundle; export an ecr cell")


@dataclass(frozen=True)
class Generated:
    """``text`` is empty where the model ended at once. ``first_token_ms``: from text to first token, tokenisation and
    control tokens included, once warm."""

    text: str
    tokens: int
    first_token_ms: float
    tokens_per_second: float
    peak_memory: int


def generate(bundle: Bundle, text: str, tokens: int = 40) -> Generated:
    """Continue ``text`` greedily by at most ``tokens`` tokens; the whole text is what control tokens look at.

    UserError for an empty text, or a window that cannot hold ``tokens`` and the prompt's fixed part.
    """
    inputs = bundle._inputs([text], tokens)
    bundle._generate(inputs, 1, {})  # first calls build caches of the libraries
    started = time.perf_counter()
    bundle._generate(bundle._inputs([text], tokens), 1, {})
    first = time.perf_counter() - started
    output = bundle._generate(inputs, tokens, {})
    rest = time.perf_counter() - started - first
    ids = output[0, inputs["input_ids"].shape[1] :]
    (answer,) = bundle.tokenizer.batch_decode([ids], skip_special_tokens=True)
    return Generated(answer, len(ids), 1000 * first, len(ids) / rest, peak_memory())


def score(bundle: Bundle, task: str, items: Path | None, to: Path | None = None) -> pd.DataFrame:
    """Per-item records (``evaluation.records``) of ``task`` in the folder ``items``: of a language, of all, or ``all``.

    With a task or ``all`` the batches are those the cell was scored with, so that the log-likelihoods are the same to
    the last bit on the same machine; one language makes other batches, which moves the last digits. ``to``: Parquet
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
    groups = by_kind(tasks).values()
    scored = [evaluate(bundle.lm, group, metadata=own, task_manager=manager) for group in groups]
    found = pd.DataFrame([record for records in scored for record in records])
    if to is not None:
        write_records(to, found)
    return found
