"""Prints what a corpus holds."""

from __future__ import annotations

import json

from rich.console import Console
from rich.text import Text

from ecr_bench.corpora.base import SPLITS, Corpus
from ecr_bench.names import visible
from ecr_bench.table import Table, print_table

EXAMPLE_LANGUAGES, EXAMPLES = 4, 2
UNALIGNED = "without `meaning` the split cannot keep translations apart"


def print_card(corpus: Corpus, console: Console) -> None:
    """Languages x splits, totals, duplicates dropped, licence, and two examples in each of four languages."""
    card = corpus.card
    lines = tuple(
        (lang, *(f"{counts[split]:,}" for split in SPLITS), f"{sum(counts.values()):,}")
        for lang, counts in card.languages.items()
    )
    totals = (f"{sum(counts[split] for counts in card.languages.values()):,}" for split in SPLITS)
    sections = (lines, (("all", *totals, f"{card.rows:,}"),))
    print_table(Table(f"corpus {card.name}", ("language", *SPLITS, "rows"), sections), console)
    alone = "" if card.aligned else f"; {UNALIGNED}"
    facts = {
        "source": card.source,
        "licence": card.licence,
        "labels": f"{card.labels:,}",
        "meanings": f"{card.meanings:,}",
        "translations by meaning": f"{card.aligned:,} of {card.rows:,} rows" + alone,
        "duplicates dropped": f"{card.duplicates_dropped:,} within a split, "
        f"{card.cross_split_duplicates_dropped:,} across splits",
        "fingerprint": card.fingerprint,
    }
    for key, value in facts.items():
        console.print(Text.assemble((f"{key}: ", "bold"), visible(value)))
    _print_examples(corpus, console)


def _print_examples(corpus: Corpus, console: Console) -> None:
    console.print(Text("examples:", "bold"))
    columns = corpus.dataset.select_columns(["lang", "text", "label", "slots"]).to_dict()
    by_lang: dict[str, list[int]] = {}
    for index, lang in enumerate(columns["lang"]):
        by_lang.setdefault(lang, []).append(index)
    for lang in list(by_lang)[:EXAMPLE_LANGUAGES]:
        indices = by_lang[lang]
        for index in indices[:: max(1, len(indices) // EXAMPLES)][:EXAMPLES]:
            slots = ", ".join(f"{key}={value}" for key, value in json.loads(columns["slots"][index]).items())
            kind = " ".join(part for part in (columns["label"][index], f"({slots})" if slots else "") if part)
            console.print(Text.assemble(f"  {lang}  {visible(columns['text'][index])}", (f"  {visible(kind)}", "dim")))
