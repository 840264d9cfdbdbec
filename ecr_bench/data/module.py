"""The LightningDataModule every arm shares: same rows, same order, batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ecr_bench import ranks
from ecr_bench.data.encode import Example
from ecr_bench.data.packed import lengths_of, tokens_of

Variation = Callable[[int, Example, np.random.Generator], Example]
"""(row index, row, generator) -> the row as this draw of it is seen; for dropout of inputs in training."""
IGNORED = -100
"""Label of positions without loss (torch's own convention)."""


@dataclass(frozen=True)
class Mixture:
    """Training rows of one arm: labelled examples and unlabelled text, and the share of the latter."""

    labelled: Sequence[Example]
    text: Sequence[Example]
    text_share: float


class _Rows(Dataset[tuple[int, Example]]):
    def __init__(self, rows: Sequence[Example], variation: Variation | None = None, seed: int = 0):
        self.rows, self.variation, self.generator = rows, variation, np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, Example]:
        row = self.rows[index]
        return index, row if self.variation is None else self.variation(index, row, self.generator)


class _Order:
    """Batches of row indices, of which the first ``done`` are over."""

    def __init__(self, batches: Sequence[list[int]]):
        self.batches, self.done = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches[self.done :])


class OrderedLoader(DataLoader[tuple[int, Example]]):
    """Batches in a planned order; its state is the place in it, and that of the generator rows are varied by."""

    def __init__(self, rows: _Rows, batches: Sequence[list[int]], collate_fn: Callable[..., dict[str, torch.Tensor]]):
        self.order = _Order(batches)
        super().__init__(rows, batch_sampler=self.order, collate_fn=collate_fn)

    def __iter__(self) -> Any:
        return self._counted(super().__iter__())  # begun here, not at the first batch: it draws from the random state

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self.order.done += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.order.done, "generator": self.dataset.generator.bit_generator.state}  # type: ignore[attr-defined]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order.done = state["done"]
        self.dataset.generator.bit_generator.state = state["generator"]  # type: ignore[attr-defined]


def plan_batches(
    lengths: Sequence[int] | np.ndarray, labelled: int, text_share: float, batch_size: int, steps: int, seed: int
) -> list[list[int]]:
    """Row indices of each step. Depends on the seed and the arm-independent lengths only.

    Each batch holds ``round(text_share * batch_size)`` text rows (indices >= ``labelled``). Within a
    window of 16 batches, rows are sorted by length and the batches then shuffled: batches hold rows
    of similar length while the order over time stays random at the scale of a window.
    """
    rng = np.random.default_rng(seed)
    n_text = round(text_share * batch_size) if labelled < len(lengths) else 0
    n_text = batch_size if labelled == 0 else n_text
    streams = []
    for low, high, count in ((0, labelled, batch_size - n_text), (labelled, len(lengths), n_text)):
        streams.append(_stream(rng, low, high, count * steps).reshape(steps, count))
    order: list[list[int]] = []
    size = np.asarray(lengths)
    for start in range(0, steps, 16):
        window = [_sorted_split(rows[start : start + 16], size) for rows in streams]
        batches = np.concatenate(window, axis=1)
        order += batches[rng.permutation(len(batches))].tolist()
    return order


def _stream(rng: np.random.Generator, low: int, high: int, count: int) -> np.ndarray:
    """``count`` indices in [low, high): whole shuffled passes, one after another."""
    if count == 0:
        return np.empty(0, dtype=np.int64)
    passes = -(-count // (high - low))
    return np.concatenate([rng.permutation(np.arange(low, high)) for _ in range(passes)])[:count]


def _sorted_split(rows: np.ndarray, size: np.ndarray) -> np.ndarray:
    flat = rows.reshape(-1)
    return flat[np.argsort(size[flat], kind="stable")].reshape(rows.shape)


def collate(rows: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Right-padded ``input_ids`` and ``labels`` (B, T) int64; labels are already shifted by one.

    ``labels[b, t]`` is the token that position t must predict, or ``IGNORED``; the last id of a row is a label and
    no input, so T is one less than the longest row. No attention mask is needed: with padding on the right, causal
    attention never looks at it.
    """
    width = max(len(row.ids) for row in rows) - 1
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    labels = np.full((len(rows), width), IGNORED, dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids) - 1] = row.ids[:-1]
        labels[index, row.loss_from - 1 : len(row.ids) - 1] = row.ids[row.loss_from :]
    return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


class ExamplesDataModule(L.LightningDataModule):
    """Encoded training rows in a planned order, and validation rows.

    Args:
        mixture: training rows of this arm.
        validation: rows of the validation split, possibly none.
        pad_id: id to pad with (never attended to).
        batch_size: rows per step.
        steps: optimiser steps; the loader yields exactly as many batches.
        seed: seed of the row order, shared by all arms with the same fine-tuning seed.
        variation: how a training row changes from draw to draw.
        validation_variation: the same for validation rows, for arms whose encoding moves during training.
    """

    def __init__(
        self,
        mixture: Mixture,
        validation: Sequence[Example],
        pad_id: int,
        batch_size: int,
        steps: int,
        seed: int,
        variation: Variation | None = None,
        validation_variation: Variation | None = None,
    ):
        super().__init__()
        self.rows = [*mixture.labelled, *mixture.text] if mixture.labelled else mixture.text
        self.validation = validation
        self.pad_id, self.batch_size = pad_id, batch_size
        self.seed, self.variation, self.validation_variation = seed, variation, validation_variation
        self.labelled, self.text_share = len(mixture.labelled), mixture.text_share
        self.batches = self._planned(steps)

    def _planned(self, steps: int) -> list[list[int]]:
        lengths = lengths_of(self.rows)
        return plan_batches(lengths, self.labelled, self.text_share, self.batch_size, steps, self.seed)

    def heaviest(self, steps: int) -> list[int]:
        """Of a training of ``steps`` steps, the batch of the most tokens: row indices."""
        tokens = tokens_of(self.rows)
        return max(self._planned(steps), key=lambda batch: int(tokens[batch].sum()))

    def _collate(self, rows: Sequence[tuple[int, Example]]) -> dict[str, torch.Tensor]:
        """Adds ``rows`` (B,) int64, each row's place in its data, for losses that know more about it.

        Of several devices, each gets its share of the batch; all have drawn how the whole of it varies.
        """
        indices, examples = zip(*ranks.share(rows), strict=True)
        return {**collate(examples, self.pad_id), "rows": torch.tensor(indices)}

    def train_dataloader(self) -> DataLoader[tuple[int, Example]]:
        return OrderedLoader(_Rows(self.rows, self.variation, self.seed), self.batches, self._collate)

    def val_dataloader(self) -> DataLoader[tuple[int, Example]] | list[None]:
        if not self.validation:
            return []
        order = sorted(range(len(self.validation)), key=lambda i: len(self.validation[i].ids))
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        if len(batches) > 1 and len(batches[-1]) < ranks.count():
            batches[-2:] = [batches[-2] + batches[-1]]  # each device needs a row of each batch
        rows = _Rows(self.validation, self.validation_variation)
        return DataLoader(rows, batch_sampler=batches, collate_fn=self._collate)
