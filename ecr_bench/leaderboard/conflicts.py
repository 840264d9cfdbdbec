"""What speaks against counting the arms of two runs as one."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ecr_bench.arm import Arm
from ecr_bench.consistency import FIT, HOW_TRAINED, may_be_tuned
from ecr_bench.ecr.projection import PROJECTIONS
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.named_models import UNKNOWN, BothModels, Models, by_content
from ecr_bench.methods.distill import IN_PRETRAINING
from ecr_bench.methods.registry import default_options
from ecr_bench.nested import value_at
from ecr_bench.results.claim_settings import (
    asks_teacher,
    by_path,
    chosen_for,
    decides,
    effective,
    fits_anchors,
    own_settings,
    reads,
)
from ecr_bench.results.filled import filled_section
from ecr_bench.sizes import RATE, STAGES, STAGES_OF
from ecr_bench.stages.tokenizer import OwnTokenizer
from ecr_bench.yaml_files import CHOOSERS

PlainJson = Mapping[str, Any]
Differing = tuple[tuple[str, ...], Any, Any]
"""The steps of a dotted key, and two values."""

SECTIONS = (
    "corpus", "seen_languages", "tokenizer", "tasks", "pretrain", "finetune", "teacher", "anchors", "projection",
    "control_tokens",
)  # fmt: skip
"""What an arm may depend on beside its size and the options of its parts; which of it, ``reads`` says."""
OF_CODE = ("commit", "ecr_bench", "python")
"""What a run says of the code that made it, beside its packages."""
SEEDS = {"seed", "seed_per_cell"}
"""Settings of a section in which two runs may differ and be pooled: what seeds cover."""
LEARNED_FROM = "learned from"
"""In place of a section: plain models of sizes that an arm learns from."""


def conflicts(arm: Arm, ours: PlainJson, theirs: PlainJson, models: BothModels = UNKNOWN) -> Iterator[Differing]:
    """The settings in which an arm of this name differs between two experiments, but for seeds. Models go by what they
    stand for where both runs tell it: a folder may lie elsewhere, or hold something else by now.

    UserError where a section that it reads is not there: an older version kept of a board of several runs only what
    all share.
    """
    for experiment in (ours, theirs):
        needed = [*_needed(arm, experiment), "options", *(() if "cells" in experiment else ("tuned",))]
        lost = next((name for name in needed if name not in experiment), None)
        if lost is not None:
            raise UserError(
                f"{arm}: its {lost} settings are not known: of a board of several runs merge the runs instead"
            )
    yield from _difference(*_read_by((arm, arm), (ours, theirs), models))


def unlike(
    one: Arm, other: Arm, ours: PlainJson, theirs: PlainJson, models: BothModels = UNKNOWN
) -> Iterator[Differing]:
    """The settings that two arms both read, and would share in one experiment, in which they were run otherwise.

    One experiment can give an arm settings of its own, which its name then tells, and what may be tuned for it: these
    say nothing against comparing two (of steps that are tuned a board says so, ``results.budget``). Sections that one
    of the experiments does not tell are not compared (``not_told``).
    """
    for path, mine, yours in _difference(*_read_by((one, other), (ours, theirs), models)):
        within = path[2:] if path[0] == LEARNED_FROM else path
        if not all(within[0] in run for run in (ours, theirs)) or _chosen_for_each(path):
            continue
        if not any(_own_choice(arm, run, path) for arm, run in ((one, ours), (other, theirs))):
            yield path, mine, yours


def _needed(arm: Arm, experiment: PlainJson) -> list[str]:
    """Sections that an arm reads, or a plain model that it learns from."""
    whole = effective(arm, experiment)
    stages = _learned_from(arm, whole, _options(arm, whole)).values()
    theirs = {"sizes", *(name for of_size in stages for name in of_size)} if stages else set()
    paths = {name: ((name,), (name, "")) for name in (*SECTIONS, "sizes")}
    return [name for name in paths if name in theirs or any(_reads(arm, whole, path) for path in paths[name])]


def not_told(experiment: PlainJson) -> list[str]:
    """Sections that an experiment does not tell and that ``unlike`` can then not compare."""
    return [name for name in (*SECTIONS, "sizes", "options") if name not in experiment]


def learned_from(arm: Arm, experiment: PlainJson) -> list[str]:
    """Sizes whose plain models an arm learns from."""
    whole = effective(arm, experiment)
    return list(_learned_from(arm, whole, _options(arm, whole)))


def parts_of(arm: Arm, experiment: PlainJson) -> list[str]:
    """Methods and modifiers whose options an arm reads."""
    return list(_options(arm, effective(arm, experiment)))


def _chosen_for_each(path: tuple[str, ...]) -> bool:
    return path[0] in STAGES and path[1] in HOW_TRAINED


def _own_choice(arm: Arm, experiment: PlainJson, path: tuple[str, ...]) -> bool:
    """Whether the value is the arm's own, or one that may be tuned for it."""
    own, section = own_settings(arm), path[0]
    if section == LEARNED_FROM:  # what an arm sets holds for whom it learns from, what is tuned for it does not
        return decides(own, path[2:])
    if section in CHOOSERS and path[1:2] == ("options",) and (section, CHOOSERS[section]) in own:
        # options are of their owner: with another than the experiment's come others
        before = filled_section(section, experiment.get(section)) or {}
        if own[section, CHOOSERS[section]] != before.get(CHOOSERS[section]):
            return True
    tuned = map(by_path, chosen_for(arm, experiment))
    allowed = may_be_tuned(".".join(path), [arm.size])
    return decides(own, path) or (allowed and any(decides(chosen, path) for chosen in tuned))


def _read_by(
    arms: tuple[Arm, Arm], experiments: tuple[PlainJson, PlainJson], models: BothModels
) -> list[dict[str, Any]]:
    """What all of ``arms`` read, as each of the experiments had it for its arm: sections, the size that they are of,
    the sizes that they learn from, options of the parts that they are made of."""
    known: BothModels = UNKNOWN if None in models else models
    wholes = [by_content(effective(arm, run), told) for arm, run, told in zip(arms, experiments, known, strict=True)]
    options = [_options(arm, whole) for arm, whole in zip(arms, wholes, strict=True)]
    plain = [_plain_models(*side) for side in zip(arms, experiments, wholes, options, known, strict=True)]
    readers = list(zip(arms, wholes, strict=True))
    alike = arms[0].size == arms[1].size
    sides = []
    for whole, own, learned in zip(wholes, options, plain, strict=True):
        found: dict[str, Any] = {}
        for name in SECTIONS:
            if name in whole:
                _keep_read(found, name, without(whole[name], SEEDS), readers)
        found["sizes"] = {arms[0].size: _size_read(whole, readers)} if alike else {}
        found["options"] = {name: own[name] for name in own if all(name in each for each in options)}
        if "distill" in found["options"] and not all("distill" in arm.modifiers for arm in arms):
            found["options"]["distill"] = without(own["distill"], {"size", *IN_PRETRAINING})
        found[LEARNED_FROM] = {
            size: {name: model[name] for name in model if all(name in each[size] for each in plain)}
            for size, model in learned.items()
            if all(size in each for each in plain)
        }
        sides.append(found)
    return sides


def _reads(arm: Arm, whole: PlainJson, path: tuple[str, ...]) -> bool:
    """As ``reads``; and a projection that is fitted on states of the base model reads how that came about, any that is
    fitted the size whose tokenizer it is over, and a pretrained model brings its own tokenizer."""
    if path[0] == "tokenizer":
        return _made_here(whole, arm.size)
    if reads(arm, path) or (path[0] == "sizes" and fits_anchors(arm)):
        return True
    return path[0] == "pretrain" and fits_anchors(arm) and _projects_states(whole)


def _projects_states(whole: PlainJson) -> bool:
    """Whether the projection reads states of the base model; of a plugin that is not here it is supposed."""
    kind = str((whole.get("projection") or {}).get("kind"))
    return kind not in PROJECTIONS or PROJECTIONS.get(kind).reads_model


def _made_here(whole: PlainJson, size: str) -> bool:
    """Whether a size has the tokenizer that is trained here, as all of a former version have."""
    return "model" not in (value_at(whole, ("sizes", size)) or {})


def _options(arm: Arm, whole: PlainJson) -> dict[str, Any]:
    """Options of each part; ``distill`` has one in pre-training as well."""
    given = whole.get("options") or {}
    names = (arm.method, *arm.modifiers, *(("distill",) if _distilled(arm, whole) else ()))
    return {name: given.get(name, default_options(name)) for name in dict.fromkeys(names)}


def _distilled(arm: Arm, whole: PlainJson) -> str:
    """The size whose logits it learns from in pre-training."""
    return _text((whole.get("pretrain") or {}).get("distill")) if _reads(arm, whole, ("pretrain",)) else ""


def _plain_models(
    arm: Arm, experiment: PlainJson, whole: PlainJson, options: PlainJson, models: Models
) -> dict[str, Any]:
    """The plain models of sizes that an arm learns from: shape, and settings of the stages that these go through."""
    own = tuple((key, value) for key, value in arm.settings if key != "pretrain.distill")
    found = {}
    for size, stages in _learned_from(arm, whole, options).items():
        plain = by_content(effective(Arm("finetune", size, settings=own), experiment), models)
        read = (*stages, *(("tokenizer",) if _made_here(plain, size) else ()))
        told = {name: without(plain[name], SEEDS | {"distill"}) for name in read if name in plain}
        found[size] = {"sizes": _shape(plain, size), **told}
    return found


def _learned_from(arm: Arm, whole: PlainJson, options: PlainJson) -> dict[str, tuple[str, ...]]:
    """Sizes, and the stages that they go through before they are learned from."""
    sizes, found = whole.get("sizes") or {}, dict[str, tuple[str, ...]]()
    teacher = ((whole.get("teacher") or {}).get("options") or {}) if asks_teacher(arm) else {}
    for size in sizes:  # a plugin may name one wherever it likes
        if json.dumps(size) in json.dumps([teacher, {name: options[name] for name in options if name != "distill"}]):
            found[size] = STAGES
    if (size := _text(teacher.get("size"))) in found or (size and "sizes" not in whole):
        found[size] = STAGES_OF.get(_text(teacher.get("state")), STAGES)
    if distilled := _distilled(arm, whole):
        read_as_it_came = "model" in (sizes.get(distilled) or {})
        found.setdefault(distilled, () if read_as_it_came else ("pretrain",))
    distill = options["distill"] if "distill" in arm.modifiers else {}
    if (size := _text(distill.get("size"))) and not distill.get("model"):
        found[size] = STAGES
    return found


def _text(value: Any) -> str:
    """Empty for what no version writes there."""
    return value if isinstance(value, str) else ""


def _shape(whole: PlainJson, size: str) -> Any:
    """A size but for how it fits a machine, and its learning rate, which is in the stages' (``effective``)."""
    return without((whole.get("sizes") or {}).get(size), FIT | {RATE})


def _size_read(whole: PlainJson, readers: Collection[tuple[Arm, PlainJson]]) -> Any:
    """What all arms read of the size that they are of: where one trains no model, its tokenizer."""
    (arm, _), *_ = readers
    shape = _shape(whole, arm.size)
    if all(reads(one, ("sizes",)) or (fits_anchors(one) and _projects_states(its)) for one, its in readers):
        return shape
    if _made_here(whole, arm.size) or not all(_reads(*reader, ("sizes",)) for reader in readers):
        return {}
    return {key: value for key, value in shape.items() if key in OwnTokenizer.model_fields}


def _keep_read(found: dict[str, Any], name: str, section: Any, readers: Collection[tuple[Arm, PlainJson]]) -> None:
    """Put into ``found`` what of a section all arms read."""
    if not isinstance(section, Mapping):
        if all(_reads(*reader, (name,)) for reader in readers):
            found[name] = section
        return
    read = {key: value for key, value in section.items() if all(_reads(*reader, (name, key)) for reader in readers)}
    if read:
        found[name] = read


def environments(runs: Mapping[str, PlainJson]) -> Iterator[str]:
    """Lines that name what differs between the code, packages and machines of runs, by their provenance."""
    told = {
        name: {**(p.get("packages") or {}), **{key: p.get(key) for key in OF_CODE}, **_machine(p)}
        for name, p in runs.items()
    }
    for key in sorted(set().union(*(facts.keys() for facts in told.values()))):
        values = {name: facts.get(key) for name, facts in told.items()}
        if len({str(value) for value in values.values()}) > 1:
            yield f"{key}: " + ", ".join(f"{value} ({name})" for name, value in values.items())


def without(section: Any, keys: Collection[str]) -> Any:
    """A mapping but for ``keys``; anything else as it is."""
    return (
        {key: value for key, value in section.items() if key not in keys} if isinstance(section, Mapping) else section
    )


def _difference(ours: PlainJson, theirs: PlainJson) -> Iterator[Differing]:
    """Where two mappings differ, as the steps there, and both values; in their order."""
    one, other = (dict(_flat(side)) for side in (ours, theirs))
    for path in (*one, *(path for path in other if path not in one)):
        if one.get(path) != other.get(path):
            yield path, one.get(path), other.get(path)


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(below, (*path, str(key)))
    else:
        yield path, value


def _machine(provenance: PlainJson) -> dict[str, Any]:
    machine = provenance.get("machine") or {}
    return {key: machine.get(key) for key in ("cpu", "gpu")}
