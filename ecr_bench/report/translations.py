"""Prints what a teacher says of a corpus, below its card."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ecr_bench.config import TeacherConfig
from ecr_bench.corpora.base import Corpus
from ecr_bench.stages.translations import find_translations
from ecr_bench.teachers.registry import create


def print_translations(corpus: Corpus, teacher: str, console: Console) -> None:
    """Near translations of test rows in training, and how many translations ``teacher`` finds in each language."""
    frame = corpus.dataset.to_pandas()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"texts through {teacher}", total=None)
        config = TeacherConfig(name=teacher)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        found = find_translations(frame, create(config), config.rows, 0, report)
    for note in found.notes():
        console.print(Text(note))
    if found.retrieval:
        table = Table("language", "pairs", f"translations found ({found.pivot}, {teacher})", box=None, pad_edge=False)
        for one in found.retrieval:
            table.add_row(one.lang, f"{one.pairs:,}", f"{one.accuracy:.0%}")
        console.print(table)
