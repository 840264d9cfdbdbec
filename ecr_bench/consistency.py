"""Values of an experiment that are sound each by itself and impossible together. Each check raises ValueError."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ecr_bench.sizes import Fitting, SizeConfig

if TYPE_CHECKING:
    from ecr_bench.config import Experiment

OF_THE_WHOLE = ("name", "cells", "device", "tuned")
"""Keys that hold for a whole run and that no cell can have its own value of."""
HOW_TRAINED = frozenset({"learning_rate", "warmup", "weight_decay", "clip", "dropout"})
"""Settings of the training stages that are chosen for each arm by itself (docs/protocol.md, 13). So are the steps, but
a board says so."""
FIT = frozenset({"accumulate", "checkpointing", "devices"})
"""How the training of a size fits the machine: no gradient depends on it."""


def check_sizes(experiment: Experiment) -> None:
    """Cells name sizes that are there; windows have room; layers that are looked at exist; batches can be parted."""
    for spec in experiment.cells:
        if odd := [name for name in spec.sizes if name not in experiment.sizes]:
            raise ValueError(f"cells name size {odd[0]!r}; 'sizes' defines {', '.join(experiment.sizes) or 'none'}")
    count = experiment.control_tokens.count
    least = 2 * (count + 2)
    trained = {name for spec in experiment.cells for name in spec.sizes}
    for name, size in experiment.sizes.items():
        if size.max_length < least:
            raise ValueError(
                f"sizes.{name}.max_length: a window of {size.max_length} has no room for {count} control tokens, text "
                f"and answer: at least {least}"
            )
        if size.accumulate > (rows := experiment.finetune.batch_size):
            raise ValueError(f"sizes.{name}.accumulate: {size.accumulate} parts of a batch of {rows} rows")
        _check_devices(experiment, name, size)
        if isinstance(size, SizeConfig):
            if name in trained:
                _check_layers(experiment, name, size.layers)
            if not experiment.pretrain.steps:
                raise ValueError(f"pretrain.steps: size {name} is from scratch and needs 1 or more")
    larger = experiment.pretrain.distill
    if larger and larger not in experiment.sizes:
        raise ValueError(f"pretrain.distill: no size {larger!r}: 'sizes' defines {', '.join(experiment.sizes)}")
    if larger and not experiment.pretrain.steps:
        raise ValueError("pretrain.distill: needs pretrain.steps of 1 or more")


def _check_layers(experiment: Experiment, name: str, layers: int) -> None:
    looked_at = {"geometry.layer": experiment.geometry.layer}
    if isinstance(layer := experiment.projection.options.get("layer"), int):
        looked_at["projection.options.layer"] = layer
    for key, layer in looked_at.items():
        if not -layers - 1 <= layer <= layers:
            raise ValueError(f"{key}: {layer} is no layer of size {name}: allowed are {-layers - 1} to {layers}")


def _check_devices(experiment: Experiment, name: str, size: Fitting) -> None:
    """Each device has a row in each part of a batch; what is drawn does not depend on where a row is computed."""
    count = size.devices.count
    if count == 1:
        return
    stages = {"pretrain": experiment.pretrain, "finetune": experiment.finetune}
    for key, stage in stages.items():
        if stage.steps and stage.batch_size // count < size.accumulate:
            parts = f" in {size.accumulate} parts each" if size.accumulate > 1 else ""
            raise ValueError(
                f"sizes.{name}.devices.count: {count} devices{parts} share the {stage.batch_size} rows of "
                f"{key}.batch_size: at least {count * size.accumulate} are needed"
            )
        if stage.steps and stage.dropout == "model":
            raise ValueError(
                f"{key}.dropout: model: its masks depend on where a row is computed: with sizes.{name}.devices.count "
                f"{count}, allowed is none"
            )


def check_data(experiment: Experiment) -> None:
    """Seen languages are loaded; batches have labelled rows; there are texts and anchors enough for the codes."""
    named = experiment.corpus.languages
    if named and (odd := sorted(set(experiment.seen_languages) - set(named))):
        raise ValueError(f"seen_languages: {', '.join(odd)} not in corpus.languages: {', '.join(named)}")
    batch, share = experiment.finetune.batch_size, experiment.finetune.text_share
    if round(share * batch) >= batch:
        raise ValueError(f"finetune.text_share: {share} of batch_size {batch} leaves no labelled row: lower it")
    k, rows = experiment.anchors.k, experiment.teacher.rows
    if k > rows:
        raise ValueError(f"anchors.k: {k} anchors cannot be derived from teacher.rows = {rows} texts: lower the one")
    count = experiment.control_tokens.count
    if experiment.anchors.assignment == "nearest" and count > k:
        raise ValueError(f"control_tokens.count: {count} of {k} semantic anchors (anchors.k) is more than there are")


def check_tuned(experiment: Experiment) -> None:
    """Sizes that are there, each arm once, and nothing but how an arm is trained: a method and its controls differ in
    nothing else."""
    arms: set[tuple[str, frozenset[str], str]] = set()
    for tuned in experiment.tuned:
        for size in tuned.sizes:
            if size not in experiment.sizes:
                raise ValueError(f"tuned names size {size!r}; 'sizes' defines {', '.join(experiment.sizes) or 'none'}")
            arm = (tuned.method, frozenset(tuned.modifiers), size)
            if arm in arms:
                raise ValueError(f"tuned: {tuned.method} at {size} stands there twice")
            arms.add(arm)
        _check_keys("tuned.set", tuned.set)
        for key in tuned.set:
            if not may_be_tuned(key, tuned.sizes):
                raise ValueError(
                    f"tuned.set: {key} is not how its arm is trained (steps, {', '.join(sorted(HOW_TRAINED))}, options "
                    "of its methods, but not whom it learns from): set it in the experiment or in a cell"
                )


def may_be_tuned(key: str, sizes: Iterable[str]) -> bool:
    """Whether two arms that are compared may differ there: not in shape, data, seeds, the size of a batch, or whom they
    learn from."""
    match key.split("."):
        case ["pretrain" | "finetune", name]:
            return name in HOW_TRAINED | {"steps"}
        case ["sizes", size, name, *_]:
            return size in sizes and name in FIT | {"learning_rate"}
        case ["options", "distill", *name]:
            return bool(name) and name[0] not in ("size", "model")
        case ["options", _, *_]:
            return True
    return False


def check_overrides(experiment: Experiment) -> None:
    """No cell sets what holds for the whole run, or a thing as a whole and in part."""
    _check_keys("cells.set", [key for spec in experiment.cells for key in spec.set])
    for spec in experiment.cells:
        check_once("cells.set", spec.set)
    for tuned in experiment.tuned:
        check_once("tuned.set", tuned.set)


def check_once(where: str, keys: Iterable[str]) -> None:
    """Nothing is set as a whole and in part: which of them would count depends on their order."""
    given = list(keys)
    for whole, part in itertools.permutations(given, 2):
        if part.startswith(f"{whole}."):
            raise ValueError(f"{where}: {whole} is set as a whole and {part} by itself: put the one into the other")


def _check_keys(where: str, keys: Iterable[str]) -> None:
    for key in keys:
        if key.partition(".")[0] in OF_THE_WHOLE:
            raise ValueError(f"{where}: {key} holds for a whole run: set it in the experiment")
