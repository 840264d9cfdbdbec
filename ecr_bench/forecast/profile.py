"""Measurements of one hardware: kept in the user's cache, or in a file to take along."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from ecr_bench.config import one_line
from ecr_bench.errors import UserError
from ecr_bench.forecast.hardware import Hardware
from ecr_bench.forecast.measurement import Measurement, measurement_of
from ecr_bench.forecast.shape import Shapes
from ecr_bench.io import cache_dir, disk_errors, fingerprint, read_json, write_json
from ecr_bench.names import STORE
from ecr_bench.runner.store import DONE, DamagedStageError, Store
from ecr_bench.section import Section
from ecr_bench.stages.identity import Identity

FORMAT = 1
AUTO, CPU, REFERENCE = "auto", "cpu", "reference"
KEPT = 5
"""Measurements of one shape, code, number of threads and units: the last ones."""
MOST = 5_000
"""Measurements of all: the last ones."""


class Profile(Section):
    """A file of measurements."""

    format: int = FORMAT
    hardware: Hardware
    measurements: tuple[Measurement, ...] = ()

    @cached_property
    def by_shape(self) -> dict[str, list[Measurement]]:
        found: dict[str, list[Measurement]] = {}
        for one in self.measurements:
            found.setdefault(one.shape, []).append(one)
        return found

    def of(self, shape: str | None, threads: int) -> list[Measurement]:
        """Those of a shape, taken with as many threads or without torch."""
        return [one for one in self.by_shape.get(shape or "", []) if one.threads in (0, threads)]

    def with_(self, more: Iterable[Measurement]) -> Profile:
        """The same with more, the oldest left out where there are many alike."""
        alike: dict[tuple[str, str, int, float], dict[Measurement, None]] = {}
        for one in (*self.measurements, *more):
            key = (one.shape, one.code, one.threads, one.units)
            alike.setdefault(key, {})[one] = None
        kept = (sorted(found, key=lambda one: one.date)[-KEPT:] for found in alike.values())
        last = sorted((one for found in kept for one in found), key=lambda one: one.date)[-MOST:]
        return self.model_copy(update={"measurements": tuple(last)})


def read_profile(path: Path) -> Profile:
    """UserError for a file that is none."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    raw = read_json(path)
    try:
        profile = Profile.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(error, Profile)}: no profile that --save-profile wrote") from None
    if profile.format != FORMAT:
        raise UserError(f"{path}: format {profile.format}, this version reads {FORMAT}")
    return profile


@functools.cache
def reference_profile() -> Profile:
    """What the stages of ``quick`` took on one machine, shipped with the package.

    Written by ``ecr-bench plan quick --out EMPTY --save-profile ecr_bench/forecast/reference.json`` after a run of it
    on a machine that did nothing else.
    """
    return read_profile(Path(__file__).with_name("reference.json"))


def named_profile(name: str) -> Profile | None:
    """The profile of ``--hardware``; None for ``auto`` and ``cpu``, which are measured here. UserError for anything
    that nothing was measured on."""
    if name in (AUTO, CPU):
        return None
    if name == REFERENCE:
        return reference_profile()
    if not name.endswith(".json"):
        raise UserError(
            f"--hardware {name}: nothing is measured for it here: allowed are {AUTO}, {CPU}, {REFERENCE} "
            f"({reference_profile().hardware}), or a profile FILE.json that --save-profile has written there"
        )
    return read_profile(Path(name))


def _kept_at(hardware: Hardware) -> Path:
    return cache_dir() / "forecast" / f"{fingerprint(hardware.model_dump(mode='json', exclude={'memory'}))}.json"


def kept_profile(hardware: Hardware) -> Profile:
    """What the user's cache knows of this hardware; what cannot be read there is as good as nothing."""
    try:
        return read_profile(_kept_at(hardware)).model_copy(update={"hardware": hardware})
    except UserError:
        return Profile(hardware=hardware)


def keep(hardware: Hardware, more: Iterable[Measurement]) -> Profile:
    """Add measurements to what the user's cache knows of this hardware."""
    path = _kept_at(hardware)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            before = kept_profile(hardware)
            if (profile := before.with_(more)) != before:
                write_json(path, profile.model_dump(mode="json"))
    return profile


def identities_in(store: Store) -> Shapes:
    """Shapes of finished stages."""

    return Shapes(functools.cache(functools.partial(finished_identity, store)))


def finished_identity(store: Store, stage_id: str) -> Identity | None:
    """What a finished stage was made from; None where it is damaged, or was written by a version too different."""
    try:
        return Identity(**store.record(stage_id)["spec"])
    except (DamagedStageError, TypeError, KeyError):
        return None


def measured_in(
    store: Store, hardware: Hardware | None, only: Iterable[str] | None = None
) -> Iterator[tuple[str, Measurement]]:
    """Stage id and measurement of what is finished (of ``only`` these) and was made on ``hardware``; a damaged stage
    says nothing."""
    shapes = identities_in(store)
    for stage_id in _finished(store) if only is None else only:
        try:
            found = measurement_of(store.record(stage_id), store.path(stage_id), shapes, hardware)
        except DamagedStageError:
            continue
        if found is not None:
            yield stage_id, found


def _finished(store: Store) -> list[str]:
    root = store.root / STORE
    return [path.parent.relative_to(root).as_posix() for path in sorted(root.glob(f"*/*/{DONE}"))]
