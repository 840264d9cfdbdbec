"""Stage ``items``: the multiple-choice questions of all arms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ecr_bench.errors import UserError
from ecr_bench.io import write_json
from ecr_bench.items.files import write_items
from ecr_bench.items.pairs import pairs as language_pairs
from ecr_bench.items.registry import TASKS, build_items
from ecr_bench.section import Section
from ecr_bench.stages.work import Chosen, Report, Work
from ecr_bench.types import Item

VALIDATION_ITEMS = 256
"""Of each task, over all languages."""


class ItemsSettings(Section):
    tasks: tuple[str, ...]
    test_items: int
    """Of each task, per language or language pair."""
    train_items: int
    """Of each task, over all seen languages."""
    pairs: tuple[str, ...]
    seen: tuple[str, ...]
    """Languages with training and validation items."""


@dataclass(frozen=True)
class ItemsInputs:
    corpus: Path


class ItemsBuilt(Section):
    test: int
    train: int
    validation: int
    seen_without_items: tuple[str, ...]
    """Seen languages that gave no training item."""


class ItemsStage(Work[ItemsSettings, ItemsInputs, ItemsBuilt]):
    """Write ``test/`` of every language, ``train/`` and ``validation/`` of the seen ones, and ``surface.json``."""

    kind = "items"
    Settings, Inputs, Result = ItemsSettings, ItemsInputs, ItemsBuilt

    @staticmethod
    def run(settings: ItemsSettings, inputs: ItemsInputs, folder: Path, report: Report) -> ItemsBuilt:
        from ecr_bench.corpora.base import Corpus
        from ecr_bench.items.surface import surface_baselines

        rows = Corpus.load(inputs.corpus / "corpus").dataset.to_pandas()
        languages, seen = sorted(rows.lang.unique()), settings.seen
        if missing := sorted(set(seen) - set(languages)):
            raise UserError(f"seen_languages: no text in {', '.join(missing)}: the corpus has {', '.join(languages)}")
        across = language_pairs(languages, settings.pairs)
        within = [f"{a}-{b}" for a in seen for b in seen if a != b]
        built: dict[str, list[Item]] = {"test": [], "train": [], "validation": []}
        for task in settings.tasks:
            parts = max(1, len(within) if task == "meaning" else len(seen))
            for split, names, pairs, count in (
                ("test", languages, across, settings.test_items),
                ("train", seen, within, -(-settings.train_items // parts)),
                ("validation", seen, within, -(-VALIDATION_ITEMS // parts)),
            ):
                built[split] += build_items(task, rows, split=split, languages=names, count=count, seed=0, pairs=pairs)
        for split, items in built.items():
            write_items(folder / split, items)
        group = {lang: "seen" if lang in seen else "unseen" for lang in languages}
        write_json(folder / "surface.json", surface_baselines(built["test"], built["train"], group))
        unlabelled = sorted(set(seen) - {item.lang for item in built["train"]})
        counts = {split: len(items) for split, items in built.items()}
        return ItemsBuilt(**counts, seen_without_items=tuple(unlabelled))

    @classmethod
    def chosen(cls, settings: ItemsSettings) -> Iterable[Chosen]:
        return [(TASKS, settings.tasks)]
