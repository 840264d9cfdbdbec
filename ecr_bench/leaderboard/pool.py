"""Several runs that answered the same questions as one run: arms pooled over seeds, or kept apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import pandas as pd

from ecr_bench.arm import Arm, by_name
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.conflicts import conflicts, environments, not_told, unlike
from ecr_bench.leaderboard.joint import joint_experiment
from ecr_bench.leaderboard.origins import (
    OF_ORIGINS,
    incomparable,
    models_of,
    origin_notes,
    other_origin,
    settled_by,
    unmeasured,
)
from ecr_bench.metrics.registry import PLAIN
from ecr_bench.results.board import build_board, own_baselines
from ecr_bench.results.budget import STEPS, step_notes
from ecr_bench.results.cells import PROPERTY_OF, CellCosts, comparable, mixed_note
from ecr_bench.results.claims_file import judge, shipped_claims
from ecr_bench.run import Run
from ecr_bench.types import Measure

DIFFER, APART = "environments differ in", "settings differ in"
NOT_TOLD = "settings not known and so not compared:"
OF_SOURCE = ("experiment", "arms", "fingerprints")
"""What decides whether arms of a run may be pooled; an older version did not keep it."""
FROM = "run"
"""Setting by which an arm that is kept apart says which run it is of."""


@dataclass(frozen=True)
class Contribution:
    """A run, or a board of several, called as the new board speaks of it."""

    run: Run
    records: pd.DataFrame

    @property
    def name(self) -> str:
        return self.run.name


def contribution(name: str, run: Run, apart: bool) -> Contribution:
    """``apart``: every arm is one of its own, ``ecr-1x[run=NAME]``, which pools with nobody's; one that says already
    which run it is of stays as it is.

    Cells are called by their arm in full, whatever name an older version gave them: it told only the last step of a
    setting's key, and two arms may share that.
    """
    own = {old: arm if FROM in dict(arm.settings) else _of_run(arm, name) for old, arm in run.arms.items()}
    return _renamed(replace(run, name=name), run.records(), own if apart else run.arms)


def _renamed(run: Run, records: pd.DataFrame, renamed: Mapping[str, Arm]) -> Contribution:
    """``renamed``: printed form -> the arm that it is from now on."""
    labels = {cell.cell: renamed[str(cell.arm)].cell(cell.seed) for cell in run.cells}
    if all(old == str(new) for old, new in (*renamed.items(), *labels.items())):
        return Contribution(run, records)
    records = records.assign(
        arm=[str(renamed[arm]) for arm in records["arm"]], cell=[labels[cell] for cell in records["cell"]]
    )
    cells = [cell.model_copy(update={"arm": renamed[str(cell.arm)], "cell": labels[cell.cell]}) for cell in run.cells]
    measures = [replace(m, arm=renamed[str(m.arm)], cell=labels[m.cell]) for m in run.measures]
    board = run.board.model_copy(update={"provenance": _renamed_sources(run.provenance, renamed)})
    run = replace(run, arms=by_name(renamed.values()), board=board, cells=cells, measures=measures)
    return Contribution(run, records)


def _of_run(arm: Arm, name: str) -> Arm:
    return replace(arm, settings=tuple(sorted((*arm.settings, (FROM, name)))))


def _under_one_name(parts: Sequence[Contribution]) -> list[Contribution]:
    """Equal arms, which older versions may have printed otherwise (0 and 0.0), as the first run has them."""
    first: dict[Arm, Arm] = {}
    names = [
        {old: replace(first.setdefault(arm, arm), role=arm.role) for old, arm in part.run.arms.items()}
        for part in parts
    ]
    return [_renamed(part.run, part.records, renamed) for part, renamed in zip(parts, names, strict=True)]


def _renamed_sources(provenance: dict[str, Any], renamed: Mapping[str, Arm]) -> dict[str, Any]:
    """The provenance of a board of several runs under the new names of their arms; of one run as it is."""
    if "runs" not in provenance:
        return provenance
    runs = {
        name: {**told, "arms": [str(renamed[arm]) for arm in told["arms"] if arm in renamed]}
        if "arms" in told
        else told
        for name, told in provenance["runs"].items()
    }
    return {**provenance, "runs": runs}


def pooled(name: str, items: str, parts: Sequence[Contribution]) -> Run:
    """One run with the cells of all ``parts``, which answered the same questions: ``items`` is their hash.

    A cell that is in two runs counts once, with the answers of the first; a note says so, and whether they were equal.

    Raises:
        UserError: an arm of one name has other settings, another corpus or another teacher in another run, or nobody
            knows which settings; arms of two names had another budget, other data, anchors or a size of another shape.
    """
    parts = _under_one_name(parts)
    for one, other in combinations(parts, 2):
        _check_settings(one, other)
        _check_origins(one, other)
    kept, notes = _without_repeats(parts)
    sources = _sources(parts)
    arms = {key: arm for part in parts for key, arm in part.run.arms.items()}
    records = pd.concat([part.records for part in kept], ignore_index=True)
    made = [cell for part in kept for cell in _with_hardware(part)]
    cells = comparable(made)
    labels = {cell.cell for cell in cells}
    notes = [
        *(f"{DIFFER} {line}" for line in environments(sources)),
        *_settings_notes(parts),
        *_not_told(parts),
        *step_notes(_experiments_by_arm(parts)),
        *origin_notes(sources, arms),
        *mixed_note(made),
        *notes,
    ]
    measures = [m for part in kept for m in part.run.measures if m.cell in labels]
    measured = [({_bare(m) for m in part.run.measures}, part.run.experiments(), part.run.sources) for part in parts]
    for section, metrics in (unmeasured(sources) | incomparable(measured, arms)).items():
        if lost := sorted({_bare(m) for m in measures} & metrics):
            notes.append(f"left out, since runs differ in {section}: {', '.join(lost)}")
            measures = [m for m in measures if _bare(m) not in metrics]
    board = build_board(
        name, records, arms, cells, own_baselines(parts[0].run.board), _provenance(parts, items),
        [*notes, *_their_notes(parts, notes)],
    )  # fmt: skip
    run = Run(name, arms, board, cells, measures, own_records=records)
    return replace(run, claims=judge(name, run.facts, shipped_claims()))


def _bare(measure: Measure) -> str:
    """Its metric, with control tokens or without."""
    return measure.metric.removesuffix(PLAIN)


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
    """UserError where an arm of both, or two that a board compares, were run in settings that should be the same."""
    for arm, rival in _pairs(one, other, apart=False):
        if arm == rival and arm.role != rival.role:
            raise UserError(f"{arm}: its role is {arm.role} in {one.name} and {rival.role} in {other.name}")
        if found := next(_conflicts(arm, rival, one, other), None):
            raise _differ(arm, rival, *found)


def _check_origins(one: Contribution, other: Contribution) -> None:
    for arm, rival in _pairs(one, other, apart=False):
        if found := other_origin(arm, rival, one.run, other.run):
            what, *values = found
            raise _differ(arm, rival, f"the fingerprint of the {what}", *values)


def _differ(arm: Arm, rival: Arm, what: str, here: Any, ours: str, there: Any, theirs: str) -> UserError:
    who = str(arm) if arm == rival else f"{arm} and {rival}"
    return UserError(
        f"{who}: {what} is {here} in {ours} and {there} in {theirs}; --apart keeps arms of different runs apart"
    )


def _settings_notes(parts: Sequence[Contribution]) -> Iterator[str]:
    """In what runs differ whose arms are kept apart, once."""
    lines = (
        f"{APART} {setting}: {here} ({ours}), {there} ({theirs})"
        for one, other in combinations(parts, 2)
        for arm, rival in _pairs(one, other, apart=True)
        for setting, here, ours, there, theirs in _conflicts(arm, rival, one, other)
    )
    yield from dict.fromkeys(lines)


def _pairs(one: Contribution, other: Contribution, apart: bool) -> Iterator[tuple[Arm, Arm]]:
    """Arms of two runs that a board compares, an arm of both with itself; or those that it keeps ``apart``, since the
    name of one says which run it is of, and so whose settings it has."""
    for arm, rival in product(one.run.arms.values(), other.run.arms.values()):
        kept = arm != rival and any(FROM in dict(each.settings) for each in (arm, rival))
        if kept == apart:
            yield arm, rival


def _conflicts(
    arm: Arm, rival: Arm, one: Contribution, other: Contribution
) -> Iterator[tuple[str, Any, str, Any, str]]:
    """Setting, value and run of ``arm``, value and run of ``rival``."""
    sides = one.run.experiments(str(arm)).items(), other.run.experiments(str(rival)).items()
    for (ours, mine), (theirs, yours) in product(*sides):
        told = one.run.sources.get(ours, {}), other.run.sources.get(theirs, {})
        models = models_of(told[0]), models_of(told[1])
        found = conflicts(arm, mine, yours, models) if arm == rival else unlike(arm, rival, mine, yours, models)
        settled = list(settled_by((arm, rival), *told, {**one.run.arms, **other.run.arms}))
        for path, value, another in found:
            if not any(path[: len(begin)] == begin for begin in settled):
                yield ".".join(path), value, ours, another, theirs


def _not_told(parts: Sequence[Contribution]) -> Iterator[str]:
    """Which settings of which run nobody knows."""
    runs = {name: told for part in parts for name, told in part.run.experiments().items()}
    if lost := {name: sections for name, told in runs.items() if (sections := not_told(told))}:
        yield f"{NOT_TOLD} " + "; ".join(f"{', '.join(sections)} ({name})" for name, sections in lost.items())


def _experiments_by_arm(parts: Sequence[Contribution]) -> dict[Arm, list[Mapping[str, Any]]]:
    found: dict[Arm, list[Mapping[str, Any]]] = {}
    for part in parts:
        for name, arm in part.run.arms.items():
            found.setdefault(arm, []).extend(part.run.experiments(name).values())
    return found


def _without_repeats(parts: Sequence[Contribution]) -> tuple[list[Contribution], list[str]]:
    seen: dict[str, Contribution] = {}
    kept, notes = [], []
    for part in parts:
        labels = list(dict.fromkeys(cell.cell for cell in part.run.cells))
        again = [label for label in labels if label in seen]
        for first in dict.fromkeys(seen[label].name for label in again):
            notes.append(_repeats_note(part, first, {lb: seen[lb] for lb in again if seen[lb].name == first}))
        seen |= {label: part for label in labels if label not in seen}
        new = set(labels) - set(again)
        run = replace(part.run, cells=[cell for cell in part.run.cells if cell.cell in new])
        measures = [m for m in part.run.measures if m.cell in new]
        kept.append(
            replace(part, run=replace(run, measures=measures), records=part.records[part.records.cell.isin(new)])
        )
    return kept, notes


def _repeats_note(part: Contribution, first: str, mine: Mapping[str, Contribution]) -> str:
    """What a board says of cells that ``first`` has as well; ``mine``: label of each and who brought it."""
    alike = sum(_same_answers(one, part, label) for label, one in mine.items())
    lost = {p for label, one in mine.items() for p in _precisions(part, label) - _precisions(one, label)}
    only = f"; not on this board, since {first} has none: {', '.join(sorted(lost))} of {part.name}" if lost else ""
    return (
        f"{len(mine)} {'cell' if len(mine) == 1 else 'cells'} of {part.name} also in {first}: counted once, with the "
        f"answers of {first}; answers the same to the last digit in {alike}{only}"
    )


def _precisions(part: Contribution, label: str) -> set[str]:
    return set(part.records[part.records.cell == label]["precision"])


def _same_answers(one: Contribution, other: Contribution, label: str) -> bool:
    """At every precision that both have."""
    key = ["precision", "task_name", "item_id"]
    shared = _precisions(one, label) & _precisions(other, label)
    both = [
        part.records[(part.records.cell == label) & part.records["precision"].isin(shared)]
        .set_index(key)["loglikelihoods"].map(tuple).sort_index()
        for part in (one, other)
    ]  # fmt: skip
    return bool(shared) and bool(both[0].equals(both[1]))


def _provenance(parts: Sequence[Contribution], items: str) -> dict[str, Any]:
    keys = ("identity", "commit", "ecr_bench", "python", "date", "machine", "packages")
    sources = _sources(parts).items()
    more = {name: {key: told[key] for key in OF_SOURCE if key in told} for name, told in sources}
    return {
        "items": items,
        "runs": {name: {key: told.get(key) for key in keys} | more[name] for name, told in sources},
        "experiment": joint_experiment([part.run.experiment for part in parts]),
    }


def _sources(parts: Iterable[Contribution]) -> dict[str, dict[str, Any]]:
    return {name: told for part in parts for name, told in part.run.sources.items()}


def _their_notes(parts: Sequence[Contribution], said: Sequence[str]) -> list[str]:
    """What runs say of themselves, once, with the names of those that say it, and nothing that was ``said`` anew."""
    by_note: dict[str, list[str]] = {}
    for part in parts:
        names = list(part.run.sources)
        named = tuple(f"{name}{end}" for name in names for end in (":", ",")) if names != [part.name] else ()
        for note in part.run.board.notes:
            if note not in said and not note.startswith((DIFFER, NOT_TOLD, STEPS, *OF_ORIGINS)):
                # a board of several runs names who says what not all of them say
                by_note.setdefault(note, []).extend([] if note.startswith((APART, *named)) else names)
    everybody = len(_sources(parts))
    return [
        f"{', '.join(names)}: {note}" if names and len(names) < everybody else note for note, names in by_note.items()
    ]
