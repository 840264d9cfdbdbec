"""What can be known to be wrong with the data and the models of a plan before any of its stages runs."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from ecr_bench.config import Experiment
from ecr_bench.corpora.registry import build, languages_of
from ecr_bench.device import check_device
from ecr_bench.errors import UserError, about
from ecr_bench.hub import read_pretrained
from ecr_bench.items.enough import WantedItems, check_enough, check_languages
from ecr_bench.outside import is_packaged
from ecr_bench.reading import user_path
from ecr_bench.runner.model_checks import check_models
from ecr_bench.runner.needs import check_memory
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.runner.store import Store
from ecr_bench.runner.used import used_models, used_sizes
from ecr_bench.sections import CorpusConfig
from ecr_bench.sizes import PretrainedSize
from ecr_bench.weight_files import check_weights

DATA_STAGES = ("corpus", "items")


def checked_plan(experiment: Experiment, store: Store, console: Console, source: str, here: bool = True) -> Plan:
    """The plan of an experiment that can run, before any stage of it does. UserError names what is wrong with it.

    Args:
        source: name or file of the experiment, which errors begin with.
        here: whether its stages run on this machine, whose memory must then do.
    """
    with about(source):
        check_device(experiment)
        plan = make_plan(experiment)
        if here:
            check_memory(plan)
        check_model_folders(plan)
        check_models(plan, store, console, here)
        check_data(plan, store, console)
    return plan


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
    console.print(escape(f"reading {config.options['path']}"), style="dim", highlight=False)
    frame = build(config).dataset.to_pandas()
    for asked in listed:
        try:
            check_enough(frame, asked)
        except UserError as error:
            raise UserError(f"corpus {config.options['path']}: {error}") from None


def check_model_folders(plan: Plan) -> None:
    """UserError where a folder that a size, the teacher or a distillation names holds no model that can be read whole.

    Of weights only what their files say of themselves is looked at.
    """
    sizes = [(used.name, used.size) for used in used_sizes(plan)]
    trained = {shape.model: name for name, shape in reversed(sizes) if isinstance(shape, PretrainedSize)}
    for source, name in trained.items():
        with about(f"sizes.{name}"):
            _check_model(source, f"model {source!r}", own=True)
    for model in used_models(plan):
        if model.source not in trained:
            with about(model.key):
                _check_model(model.source, model.key)


def _check_model(source: str, who: str, own: bool = False) -> None:
    """``own``: whether it is trained here, with its tokenizer. What is no folder is left alone."""
    from transformers import AutoConfig, AutoTokenizer

    from ecr_bench.data.tokenizer import DEFAULT_WINDOW, own_tokenizer

    if is_packaged(source) or not (folder := user_path(source)).is_dir():
        return
    read_pretrained(AutoConfig, str(folder), who)
    if own:
        own_tokenizer(str(folder), DEFAULT_WINDOW)
    else:
        read_pretrained(AutoTokenizer, str(folder), who)
    check_weights(folder)


def is_own(config: CorpusConfig) -> bool:
    """Whether the corpus is read from a path the user gave."""
    return isinstance(config.options.get("path"), str)
