"""What a run says of itself, checked when it is read: it may come from a stranger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecr_bench.arm import Arm
from ecr_bench.errors import UserError
from ecr_bench.methods.registry import SHIPPED, role_of
from ecr_bench.names import run_name
from ecr_bench.results.claim_settings import own_settings

PlainSection = dict[str, Any]


class _Told(BaseModel):
    """JSON of this shape, with whatever else other versions and plugins say; a key that is there is not null."""

    model_config = ConfigDict(extra="allow", strict=True)


def _of_their_sections(overrides: PlainSection) -> PlainSection:
    """ValueError where a dotted key sets what its section cannot be."""
    for dotted, value in overrides.items():
        nested = value
        for step in reversed(dotted.split(".")):
            nested = {step: nested}
        try:
            _Experiment.model_validate(nested)
        except ValidationError as error:
            raise ValueError(f"{dotted:.60}: {error.errors(include_url=False)[0]['msg']}") from None
    return overrides


Overrides = Annotated[PlainSection, AfterValidator(_of_their_sections)]
"""Dotted keys and values."""


class _Tuned(_Told):
    method: str
    modifiers: list[str] = Field(default=[], alias="with")
    sizes: list[str]
    set: Overrides


class _Cells(_Told):
    method: str
    modifiers: list[str | dict[str, PlainSection]] = Field(default=[], alias="with")
    sizes: list[str]
    seeds: list[int]
    set: Overrides = {}


class _Owned(_Told):
    """A section with options of whoever it names."""

    options: PlainSection = {}


class _Experiment(_Told):
    """Not ``config.Experiment``: a board of several runs has only what they share, a plugin need not be here."""

    name: str = ""
    corpus: _Owned = _Owned()
    seen_languages: list[str] = []
    tokenizer: PlainSection = {}
    teacher: _Owned = _Owned()
    anchors: PlainSection = {}
    projection: _Owned = _Owned()
    control_tokens: PlainSection = {}
    sizes: dict[str, PlainSection] = {}
    pretrain: PlainSection = {}
    finetune: PlainSection = {}
    options: dict[str, PlainSection] = {}
    tasks: list[str] = []
    scoring: PlainSection = {}
    geometry: PlainSection = {}
    precisions: list[str] = []
    tuned: list[_Tuned] = []
    cells: list[_Cells] = []

    @model_validator(mode="after")
    def _named(self) -> _Experiment:
        if self.cells and not self.name:
            raise ValueError("it has cells and no name")
        return self


class _Machine(_Told):
    cpu: str | None = None
    gpu: str | None = None


class _Fingerprints(_Told):
    corpus: str | None = None
    teachers: list[str] = []
    models: dict[str, str] = {}


class _Source(_Told):
    """One run; of a board of several that an older version merged little is known."""

    identity: str | None = None
    commit: str | None = None
    ecr_bench: str | None = None
    python: str | None = None
    date: str | None = None
    machine: _Machine | None = None
    packages: PlainSection | None = None
    fingerprints: _Fingerprints | None = None
    experiment: _Experiment = _Experiment()
    arms: list[str] = []


class _Provenance(_Source):
    # names of runs become parts of names of arms and of folders
    runs: dict[Annotated[str, AfterValidator(run_name)], _Source] = Field(default={}, min_length=1)


def check_provenance(provenance: PlainSection, source: object) -> None:
    """UserError, with the key, where the provenance of the run in ``source`` is not what any version writes."""
    try:
        _Provenance.model_validate(provenance)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in ("provenance", *first["loc"]))
        raise UserError(f"{source}: {key:.200}: {first['msg']}: no version of ecr-bench writes that") from None


def check_roles(arms: Iterable[Arm], source: object) -> None:
    """UserError where an arm of a shipped method claims a part that its method does not play, or an arm has a setting
    that its section cannot have: verdicts rest on both."""
    for arm in arms:
        try:
            _of_their_sections({".".join(path): value for path, value in own_settings(arm).items()})
        except ValueError as error:
            raise UserError(f"{source}: {arm!s:.200}: {error}: no version of ecr-bench writes that") from None
        if arm.method in SHIPPED:
            role = role_of(arm.method).under(arm.modifiers)
            if arm.role is not role:
                raise UserError(f"{source}: {arm} says that its role is {arm.role}; {arm.name} is: {role}")
