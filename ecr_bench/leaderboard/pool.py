"""Several runs that answered the same questions as one run: arms pooled over seeds, or kept apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import pandas as pd

from ecr_bench.arm import by_name
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.conflicts import conflict, environments
from ecr_bench.results.board import build_board, own_baselines
from ecr_bench.results.cells import PROPERTY_OF, CellCosts, comparable, mixed_note
from ecr_bench.results.claims_file import judge, shipped_claims
from ecr_bench.run import Run

OF_ARMS = ("name", "cells", "sizes", "options")
"""Parts of an experiment that say nothing of an arm they do not name."""
FROM = "run"
"""Setting by which an arm that is kept apart says which run it is of."""


@dataclass(frozen=True)
class Contribution:
    """A run under the name by which a board speaks of it."""

    name: str
    run: Run
    records: pd.DataFrame


def contribution(name: str, run: Run, apart: bool) -> Contribution:
    """``apart``: every arm is one of its own, ``ecr-1x[run=NAME]``, which pools with nobody's."""
    records = run.records()
    if not apart:
        return Contribution(name, run, records)
    renamed = {old: replace(arm, settings=(*arm.settings, (FROM, name))) for old, arm in run.arms.items()}
    labels = {cell.cell: f"{renamed[str(cell.arm)]}-s{cell.seed}" for cell in run.cells}
    records = records.assign(
        arm=[str(renamed[arm]) for arm in records["arm"]], cell=[labels[cell] for cell in records["cell"]]
    )
    cells = [cell.model_copy(update={"arm": renamed[str(cell.arm)], "cell": labels[cell.cell]}) for cell in run.cells]
    measures = [replace(m, arm=renamed[str(m.arm)], cell=labels[m.cell]) for m in run.measures]
    return Contribution(name, replace(run, arms=by_name(renamed.values()), cells=cells, measures=measures), records)


def pooled(name: str, items: str, parts: Sequence[Contribution]) -> Run:
    """One run with the cells of all ``parts``, which answered the same questions: ``items`` is their hash.

    A cell that is in two runs counts once, with the answers of the first; a note says so, and whether they were equal.

    Raises:
        UserError: an arm of one name has other settings in another run.
    """
    for one, other in combinations(parts, 2):
        _check_settings(one, other)
    kept, notes = _without_repeats(parts)
    arms = {key: arm for part in parts for key, arm in part.run.arms.items()}
    records = pd.concat([part.records for part in kept], ignore_index=True)
    made = [cell for part in kept for cell in _with_hardware(part)]
    cells = comparable(made)
    labels = {cell.cell for cell in cells}
    told = {part.name: part.run.provenance for part in parts}
    differ = [f"environments differ in {line}" for line in environments(told)]
    board = build_board(
        name, records, arms, cells, own_baselines(parts[0].run.board), _provenance(parts, items),
        [*differ, *mixed_note(made), *notes, *_their_notes(parts)],
    )  # fmt: skip
    measures = [m for part in kept for m in part.run.measures if m.cell in labels]
    run = Run(name, arms, board, cells, measures, own_records=records)
    return replace(run, claims=judge(name, run.facts, shipped_claims()))


def _with_hardware(part: Contribution) -> list[CellCosts]:
    """Its cells; where an older version did not keep the hardware of a stage it is that of the run."""
    machine = part.run.provenance.get("machine") or {}
    name = machine.get("gpu") or machine.get("cpu") or f"what {part.name} ran on, which is not known"
    known = dict.fromkeys(PROPERTY_OF, name)
    return [
        cell.model_copy(update={place: name for place, name in known.items() if not getattr(cell, place)})
        for cell in part.run.cells
    ]


def _check_settings(one: Contribution, other: Contribution) -> None:
    for key, arm in one.run.arms.items():
        if key not in other.run.arms:
            continue
        if found := conflict(arm, one.run.experiment, other.run.experiment):
            setting, ours, theirs = found
            raise UserError(
                f"{key}: {setting} is {ours} in {one.name} and {theirs} in {other.name}; --apart keeps arms of "
                "different runs apart"
            )


def _without_repeats(parts: Sequence[Contribution]) -> tuple[list[Contribution], list[str]]:
    seen: dict[str, Contribution] = {}
    kept, notes = [], []
    for part in parts:
        labels = list(dict.fromkeys(cell.cell for cell in part.run.cells))
        again = [label for label in labels if label in seen]
        for first in dict.fromkeys(seen[label].name for label in again):
            mine = [label for label in again if seen[label].name == first]
            alike = sum(_same_answers(seen[label], part, label) for label in mine)
            notes.append(
                f"{len(mine)} cells of {part.name} are in {first} as well and count once, with the answers of {first}; "
                f"{alike} of them have the same answers to the last digit"
            )
        seen |= {label: part for label in labels if label not in seen}
        new = set(labels) - set(again)
        run = replace(part.run, cells=[cell for cell in part.run.cells if cell.cell in new])
        measures = [m for m in part.run.measures if m.cell in new]
        kept.append(
            replace(part, run=replace(run, measures=measures), records=part.records[part.records.cell.isin(new)])
        )
    return kept, notes


def _same_answers(one: Contribution, other: Contribution, label: str) -> bool:
    key = ["precision", "task_name", "item_id"]
    both = [
        part.records[part.records.cell == label].set_index(key)["loglikelihoods"].map(tuple).sort_index()
        for part in (one, other)
    ]
    return bool(both[0].equals(both[1]))


def _provenance(parts: Sequence[Contribution], items: str) -> dict[str, Any]:
    keys = ("identity", "commit", "ecr_bench", "python", "date", "machine", "packages")
    return {
        "items": items,
        "runs": {part.name: {key: part.run.provenance.get(key) for key in keys} for part in parts},
        "experiment": joint_experiment([part.run.experiment for part in parts]),
    }


def joint_experiment(experiments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first experiment with the cells of all, where they differ in nothing but what is of single arms; else the
    settings that all share, without a grid: a board of these is no experiment that could be run."""
    first, *others = experiments
    common = {
        key: value
        for key, value in first.items()
        if key not in ("name", "cells") and all(other.get(key) == value for other in others)
    }
    alike = all(set(one) <= {*common, *OF_ARMS} and one.get("cells") for one in experiments)
    sizes, options = _united([one.get("sizes", {}) for one in experiments]), _united(map(_options_used, experiments))
    if not alike or sizes is None or options is None:
        return common
    used = {name: value for name, value in options.items() if value is not None}
    return {**common, "name": first["name"], "sizes": sizes, "options": used, "cells": _cells(experiments)}


def _united(parts: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The entries of all; None where two have other values for a name."""
    found: dict[str, Any] = {}
    for part in parts:
        if any(found[name] != value for name, value in part.items() if name in found):
            return None
        found |= part
    return found


def _options_used(experiment: dict[str, Any]) -> dict[str, Any]:
    """Options of the methods and modifiers that its cells name; None of one that has none."""
    owners = [owner for spec in experiment.get("cells", ()) for owner in (spec["method"], *spec.get("with", ()))]
    names = [name for owner in owners for name in ([owner] if isinstance(owner, str) else owner)]
    return {name: experiment.get("options", {}).get(name) for name in names}


def _cells(experiments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The grids of all as one, with each cell once."""
    seen: list[tuple[dict[str, Any], str, int]] = []
    grids: list[dict[str, Any]] = []
    for spec in (spec for one in experiments for spec in one["cells"]):
        rest = {key: value for key, value in spec.items() if key not in ("sizes", "seeds")}
        for size in spec["sizes"]:
            seeds = [seed for seed in spec["seeds"] if (rest, size, seed) not in seen]
            seen += [(rest, size, seed) for seed in seeds]
            if seeds:
                grids.append({**rest, "sizes": [size], "seeds": seeds})
    return grids


def _their_notes(parts: Sequence[Contribution]) -> list[str]:
    """What runs say of themselves, once, with the names of those that say it."""
    by_note: dict[str, list[str]] = {}
    for part in parts:
        for note in part.run.board.notes:
            by_note.setdefault(note, []).append(part.name)
    return [note if len(names) == len(parts) else f"{', '.join(names)}: {note}" for note, names in by_note.items()]
