"""What can be known to be wrong with the data of a plan before any of its stages runs."""

from __future__ import annotations

from rich.console import Console

from ecr_bench.corpora.registry import build, languages_of
from ecr_bench.errors import UserError
from ecr_bench.items.enough import WantedItems, check_enough, check_languages
from ecr_bench.runner.plan import Plan
from ecr_bench.runner.store import Store
from ecr_bench.sections import CorpusConfig

DATA_STAGES = ("corpus", "items")


def check_data(plan: Plan, store: Store, console: Console) -> None:
    """UserError where the corpus cannot be read, lacks a language, or cannot give the items the tasks need.

    A corpus of the user's own is read for it, as its stage will read it again; one that is shipped is only asked for
    its languages. Nothing is looked at where the stages that read it are done.
    """
    if all(store.done(stage.id) for stage in plan.stages.values() if stage.kind in DATA_STAGES):
        return
    wanted: dict[str, tuple[CorpusConfig, list[WantedItems]]] = {}
    settings = [plan.experiment.tuned_for(spec, size) for spec in plan.experiment.cells for size in spec.sizes]
    for local in settings:
        asked = WantedItems(local.tasks, local.seen_languages, local.scoring.pairs)
        _, listed = wanted.setdefault(local.corpus.model_dump_json(), (local.corpus, []))
        if asked not in listed:
            listed.append(asked)
    for config, listed in wanted.values():
        _check(config, listed, console)


def _check(config: CorpusConfig, listed: list[WantedItems], console: Console) -> None:
    languages = languages_of(config)
    if languages is not None:
        for asked in listed:
            check_languages(asked.seen, languages)
    if not is_own(config):
        return
    console.print(f"[dim]reading {config.options['path']}[/]", highlight=False)
    frame = build(config).dataset.to_pandas()
    for asked in listed:
        try:
            check_enough(frame, asked)
        except UserError as error:
            raise UserError(f"corpus {config.options['path']}: {error}") from None


def is_own(config: CorpusConfig) -> bool:
    """Whether the corpus is read from a path the user gave."""
    return isinstance(config.options.get("path"), str)
