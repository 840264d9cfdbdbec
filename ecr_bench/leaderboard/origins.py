"""Whether runs learnt from the same corpus and asked the same teacher: by fingerprint, since a name says neither."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations, product
from typing import Any

from ecr_bench.arm import Arm
from ecr_bench.leaderboard.conflicts import PlainJson, without
from ecr_bench.metrics.registry import AGAINST_TEACHER, ASPECTS
from ecr_bench.results.claim_settings import asks_teacher, effective, fits_anchors, sets
from ecr_bench.results.filled import filled_section
from ecr_bench.run import Run

CORPORA, TEACHERS = "corpora differ by fingerprint:", "teachers differ by fingerprint:"
UNKNOWN = "fingerprints not known and so not compared:"
OF_ORIGINS = (CORPORA, TEACHERS, UNKNOWN)
"""How the notes of this module begin: a board of boards has its own."""
HIDDEN_STATES = {"drift", "manifold", "cross-lingual", "semantic similarity"}
"""Aspects of hidden states."""
OF_MEASURES = {
    "teacher": {*AGAINST_TEACHER},
    "geometry": {
        "bits_per_byte",
        *(name for name, aspect in ASPECTS.items() if aspect in HIDDEN_STATES and name != "rankc"),
    },
}
"""Section -> metrics that depend on it in every arm, plain ones too."""
UNMEASURED = {"measure", "snapshots"}
"""Settings of these sections that change no measure at the end of training."""
OF_CORPUS = OF_MEASURES["geometry"]
"""Metrics that are measured on texts of the corpus."""


def other_origin(arm: Arm, rival: Arm, one: Run, other: Run) -> tuple[str, str, str, str, str] | None:
    """Corpus or teacher in which two arms, of one name perhaps, differ between two runs: what, here, its run, there,
    its run. The teacher counts where both ask one."""
    ask = asks_teacher(arm) and asks_teacher(rival)
    for (ours, mine), (theirs, yours) in product(_with(arm, one).items(), _with(rival, other).items()):
        if not any(sets(each, "corpus") for each in (arm, rival)) and _other_corpus(mine, yours):
            return "corpus", _corpus(mine), ours, _corpus(yours), theirs
        if ask and _other_teacher(_asking(mine, one.arms), _asking(yours, other.arms), (arm, rival)):
            return "teacher", _teachers(mine), ours, _teachers(yours), theirs
    return None


def settled_by(
    arms: Collection[Arm], one: PlainJson, other: PlainJson, known: Mapping[str, Arm]
) -> Iterator[tuple[str, ...]]:
    """Beginnings of the settings that make no difference to ``arms`` of two runs, since what they name is known to be
    the same: the rows of a corpus, the weights and layer of a teacher. A folder may lie elsewhere on another machine.

    A run tells the corpus of arms that set none of it, and the teachers that anchors are from, not which arm's these
    are. ``known``: the arms of both runs by name.
    """
    if _corpus(one) and _corpus(one) == _corpus(other) and not any(sets(arm, "corpus") for arm in arms):
        yield ("corpus",)
    ours, theirs = (_fingerprints(told).get("teachers") or () for told in (one, other))
    named = {name for told in (one, other) for name in told.get("arms", ())}
    chosen = any(sets(arm, "teacher") for name, arm in known.items() if name in named)
    if len(ours) == 1 and list(ours) == list(theirs) and not chosen and all(map(fits_anchors, arms)):
        yield from (("teacher", "name"), ("teacher", "options"))


def models_of(told: PlainJson) -> Mapping[str, str] | None:
    """What each model that settings of a run name stands for; None where an older version did not tell."""
    return _fingerprints(told).get("models")


def unmeasured(sources: Mapping[str, PlainJson]) -> dict[str, set[str]]:
    """What of corpus and teacher differs between runs -> metrics that can then not be compared."""
    found = {}
    pairs = list(combinations(sources.values(), 2))
    if any(_other_corpus(one, other) for one, other in pairs):
        found["corpus"] = set(OF_CORPUS)
    if any(_other_teacher(one, other) for one, other in pairs):
        found["teacher"] = set(OF_MEASURES["teacher"])
    return found


def incomparable(
    parts: Iterable[tuple[Iterable[str], Mapping[str, PlainJson], Mapping[str, PlainJson]]], arms: Mapping[str, Arm]
) -> dict[str, set[str]]:
    """Section in which experiments differ -> metrics that can then not be compared.

    ``parts``: metrics that were measured, the experiments that they were measured in by name, and what the runs of
    these names tell of themselves. ``arms``: those of all, by name.
    """
    known = [(set(metrics), experiments, sources) for metrics, experiments, sources in parts]
    result = {}
    for section, concerned in OF_MEASURES.items():
        told = [
            (filled_section(section, experiment.get(section)), sources.get(name, {}))
            for metrics, experiments, sources in known
            if metrics & concerned
            for name, experiment in experiments.items()
        ]
        if any(_measured_otherwise(section, *told[0], *other, arms) for other in told[1:]):
            result[section] = set(concerned)
    return result


def _measured_otherwise(
    section: str, ours: Any, mine: PlainJson, theirs: Any, yours: PlainJson, arms: Mapping[str, Arm]
) -> bool:
    settled = {path[1] for path in settled_by((), mine, yours, arms) if path[0] == section and path[1:]}
    one, other = (without(value, UNMEASURED | settled) for value in (ours, theirs))
    return one is None or one != other


def origin_notes(sources: Mapping[str, PlainJson], arms: Mapping[str, Arm]) -> Iterator[str]:
    """What differs between the fingerprints of several runs, and which of them are not known."""
    if len(sources) < 2:
        return
    readers = {name: told for name, told in sources.items() if _asks(told, arms)}
    corpora = {name: _corpus(told) for name, told in sources.items()}
    teachers = {name: _teachers(told) for name, told in readers.items()}
    for begin, values in ((CORPORA, corpora), (TEACHERS, teachers)):
        known = {name: value for name, value in values.items() if value}
        if len(set(known.values())) > 1:
            yield f"{begin} " + ", ".join(f"{value} ({name})" for name, value in known.items())
    lost = {
        what: [name for name, value in values.items() if not value]
        for what, values in (("corpus", corpora), ("teacher", teachers))
    }
    if any(lost.values()):
        yield f"{UNKNOWN} " + ", ".join(f"{what} ({', '.join(names)})" for what, names in lost.items() if names)


def _asks(told: PlainJson, arms: Mapping[str, Arm]) -> bool:
    return "arms" not in told or bool(_asking(told, arms)["arms"])


def _asking(told: PlainJson, arms: Mapping[str, Arm]) -> PlainJson:
    """What is told, of arms that ask a teacher, as far as it is known."""
    if "arms" not in told:
        return told
    return {**told, "arms": [name for name in told["arms"] if name not in arms or asks_teacher(arms[name])]}


def _with(arm: Arm, run: Run) -> dict[str, dict[str, Any]]:
    """The runs behind a board that have an arm; all where none says so."""
    name = str(arm)
    return {key: told for key, told in run.sources.items() if name in told.get("arms", (name,))} or run.sources


def _fingerprints(told: PlainJson) -> PlainJson:
    return told.get("fingerprints") or {}


def _corpus(told: PlainJson) -> str:
    return str(_fingerprints(told).get("corpus") or "")


def _teachers(told: PlainJson) -> str:
    return " and ".join(sorted(_fingerprints(told).get("teachers") or ()))


def _section(told: PlainJson, name: str) -> PlainJson:
    return (told.get("experiment") or {}).get(name) or {}


def _other_corpus(one: PlainJson, other: PlainJson) -> bool:
    """Known to be another, and not just another draw of it: that is what seeds cover."""
    ours, theirs = _corpus(one), _corpus(other)
    drawn_alike = _section(one, "corpus").get("seed") == _section(other, "corpus").get("seed")
    return bool(ours and theirs) and ours != theirs and drawn_alike


def _other_teacher(one: PlainJson, other: PlainJson, arms: tuple[Arm | None, Arm | None] = (None, None)) -> bool:
    """Known to be another. Runs with arms of several teachers do not say which was whose: then none is in both, or the
    same arms had others among them."""
    ours, theirs = (set(_fingerprints(told).get("teachers") or ()) for told in (one, other))
    if not (ours and theirs) or any(map(_own_model, (one, other), arms)):
        return False
    same_arms = "arms" in one and set(one["arms"]) == set(other.get("arms", ()))
    return ours.isdisjoint(theirs) or (same_arms and ours != theirs)


def _own_model(told: PlainJson, arm: Arm | None) -> bool:
    """Whether the teacher is a model of the experiment's own, which each machine trains anew from compared settings."""
    experiment = told.get("experiment") or {}
    teacher = (effective(arm, experiment) if arm else experiment).get("teacher") or {}
    return teacher.get("name") == "checkpoint" and "size" in (teacher.get("options") or {})
