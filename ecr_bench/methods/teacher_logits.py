"""The larger model a student learns from: asked while training, or once for a cache on disk.

The teacher reads the plain prompt (no control tokens) of the same rows. Its logits belong to the same
answer tokens as the student's, so the two line up by their order, row by row, whatever was inserted
into the student's prompt; the answer tokens themselves are kept beside the logits to check it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ecr_bench.data.cutting import TextRow
from ecr_bench.data.encode import Example, encode_items, encode_texts
from ecr_bench.data.module import collate
from ecr_bench.data.tokenizer import difference, load_tokenizer, positions_of
from ecr_bench.divergence import check_finite
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.errors import UserError
from ecr_bench.fast.labelled import labelled_logits
from ecr_bench.io import atomic_path, fingerprint, read_json, write_json
from ecr_bench.methods.distill import Distill
from ecr_bench.methods.losses import Sparse, thin
from ecr_bench.methods.weights import weights_fingerprint
from ecr_bench.types import Item
from ecr_bench.weight_files import read_folder

FILE = "logits.safetensors"
BATCH = 64
CHUNK = 16 * BATCH
"""Rows of which the answers are kept together: what a kill can lose."""


def plain_rows(
    tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], texts: Sequence[TextRow], window: int
) -> list[Example]:
    """The rows as a plain model reads them, items first: row i is row i of every arm."""
    plain = Conditioner(tokenizer)
    return [*encode_items(plain, items, window), *encode_texts(plain, texts, window)]


def load_teacher(folder: Path, tokenizer: PreTrainedTokenizerBase, window: int) -> PreTrainedModel:
    """A frozen causal LM from ``folder`` that shares ``tokenizer`` and holds ``window`` tokens.

    Raises:
        UserError: no model there, weights that are no safetensors or not finite, another tokenizer, or a shorter
            window than the student's.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        theirs = load_tokenizer(folder)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"distill: {folder} is not a model folder with its tokenizer: {reason:.120}") from error
    if differing := difference(tokenizer, theirs):
        raise UserError(
            f"distill: the teacher in {folder} has another tokenizer ({differing}): logits can only be distilled "
            "between models with one tokenizer; choose distill.size, or a distill.model of the same experiment"
        )
    if (room := positions_of(config)) and room < window:
        raise UserError(f"distill: the teacher in {folder} reads {room} tokens, the student {window}; it needs as many")
    teacher = read_folder(AutoModelForCausalLM, folder).float().eval().requires_grad_(False)
    check_finite(teacher, f"distill: the teacher in {folder}")
    return teacher


def cache_identity(teacher: Path, rows: Sequence[Example], settings: Distill.Options, seed: int) -> dict[str, Any]:
    """What a cache was made from: teacher weights, rows, and the settings it depends on."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(np.asarray([row.loss_from, len(row.ids), *row.ids], dtype=np.int64).tobytes())
    return {
        "teacher": weights_fingerprint(teacher),
        "rows": digest.hexdigest()[:16],
        **{name: getattr(settings, name) for name in ("temperature", "cache_top_k", "tail")},
        "seed": seed if settings.tail == "sample" else 0,
    }


@dataclass(frozen=True)
class LogitCache:
    """Sparse teacher probabilities of all answer tokens of all rows.

    Attributes:
        starts: (R + 1,) int64; row r has the positions ``starts[r]:starts[r + 1]``.
        tensors: ``labels`` (P,) int64, the answer tokens; ``ids`` (P, k) int32; and ``log_p`` (P, k),
            ``log_rest`` (P,), ``entropy`` (P,) float32 as far as ``Sparse`` has them.
    """

    starts: torch.Tensor
    tensors: dict[str, torch.Tensor]

    def take(self, rows: torch.Tensor) -> tuple[torch.Tensor, Sparse]:
        """Answer tokens (N,) and probabilities at the N positions of ``rows`` (B,), row by row."""
        spans = [torch.arange(int(self.starts[row]), int(self.starts[row + 1])) for row in rows.tolist()]
        at = torch.cat(spans)
        picked = {name: tensor[at] for name, tensor in self.tensors.items()}
        labels = picked.pop("labels")
        return labels, Sparse(picked.pop("ids").long(), **picked)

    def save(self, folder: Path, identity: dict[str, Any]) -> None:
        """Write ``logits.safetensors`` and, last, ``logits.json`` with the identity and its hash."""
        with atomic_path(folder / FILE) as temporary:
            save_file({"starts": self.starts, **{k: v.contiguous() for k, v in self.tensors.items()}}, temporary)
        write_json(folder / "logits.json", {**identity, "fingerprint": fingerprint(identity)})

    @classmethod
    def load(cls, folder: Path, identity: dict[str, Any]) -> LogitCache:
        """Read a cache; UserError when it is damaged or was made from something else than ``identity``."""
        found = read_json(folder / "logits.json")
        if differing := [name for name, value in identity.items() if found.get(name, None) != value]:
            was = ", ".join(f"{name} {found.get(name)!r} (now {identity[name]!r})" for name in differing)
            raise UserError(f"{folder / FILE}: stale cache of teacher logits, made with {was}; delete {folder}")
        try:
            tensors = load_file(folder / FILE)
            return cls(tensors.pop("starts"), tensors)
        except (OSError, SafetensorError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{folder / FILE}: not a cache of teacher logits: {reason:.160}; delete {folder}"
            ) from error


Tensors = dict[str, torch.Tensor]
KeepTensors = Callable[[str, Callable[[], Tensors]], Tensors]
"""Gives the tensors of a name as the function makes them, or as they were made before."""


@torch.no_grad()
def build_cache(
    teacher: PreTrainedModel, rows: Sequence[Example], settings: Distill.Options, vocabulary: int, seed: int,
    report: Any = lambda done, total: None, keep: KeepTensors = lambda name, make: make(),
) -> LogitCache:  # fmt: skip
    """Ask ``teacher`` once for every row and keep ``settings.cache_top_k`` ids a position.

    ``vocabulary``: the tokenizer's size; teacher rows beyond it are dropped and the rest renormalised.
    ``seed``: of the draws of ``tail: sample``. Every epoch sees the same draws.
    ``keep``: of the answers to each ``CHUNK`` rows, which do not depend on the others.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.nn.Module.to(teacher, device)  # transformers wraps its own `to` in a type that takes no device
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    parts: dict[int, Tensors] = {}
    for start in range(0, len(order), CHUNK):
        chosen = order[start : start + CHUNK]
        generator = torch.Generator(device).manual_seed(int(np.random.SeedSequence([seed, start]).generate_state(1)[0]))
        ask = partial(_answers, teacher, [rows[i] for i in chosen], settings, vocabulary, generator)
        kept = keep(f"rows {start}", ask)
        counts = [len(rows[i].ids) - rows[i].loss_from for i in chosen]
        split = {name: tensor.split(counts) for name, tensor in kept.items()}
        parts.update({row: {name: of[i] for name, of in split.items()} for i, row in enumerate(chosen)})
        report(start + len(chosen), len(order))
    starts = torch.tensor([0, *(len(parts[i]["labels"]) for i in range(len(rows)))]).cumsum(0)
    tensors = {name: torch.cat([parts[i][name] for i in range(len(rows))]) for name in parts[0]}
    return LogitCache(starts, tensors)


def _answers(
    teacher: PreTrainedModel, rows: Sequence[Example], settings: Distill.Options, vocabulary: int,
    generator: torch.Generator,
) -> Tensors:  # fmt: skip
    """The tensors of a cache for ``rows``, on the CPU; (P, …) each, P positions of all rows in their order."""
    answers: list[Tensors] = []
    for start in range(0, len(rows), BATCH):
        batch = {name: tensor.to(generator.device) for name, tensor in collate(rows[start : start + BATCH], 0).items()}
        logits, labels = labelled_logits(teacher, batch)
        thinned = thin(logits[:, :vocabulary], settings, generator)
        kept = {"labels": labels, **{name: tensor for name, tensor in vars(thinned).items() if tensor is not None}}
        kept["ids"] = kept["ids"].int()
        answers.append({name: tensor.cpu() for name, tensor in kept.items()})
    return {name: torch.cat([answer[name] for answer in answers]) for name in answers[0]}
