"""Prints what a corpus holds."""

from __future__ import annotations

import json

import numpy as np
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
    langs = corpus.table["lang"].combine_chunks().dictionary_encode()
    for code, lang in enumerate(langs.dictionary.to_pylist()[:EXAMPLE_LANGUAGES]):
        places = np.flatnonzero(langs.indices.to_numpy() == code)
        chosen = places[:: max(1, len(places) // EXAMPLES)][:EXAMPLES]
        for text, label, kept in corpus.at(chosen, "text", "label", "slots").itertuples(index=False):
            slots = ", ".join(f"{key}={value}" for key, value in json.loads(kept).items())
            kind = " ".join(part for part in (label, f"({slots})" if slots else "") if part)
            console.print(Text.assemble(f"  {lang}  {visible(text)}", (f"  {visible(kind)}", "dim")))
