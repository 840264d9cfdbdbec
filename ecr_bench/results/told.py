"""What a run says of itself, checked when it is read: it may come from a stranger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ecr_bench.arm import Arm
from ecr_bench.errors import UserError
from ecr_bench.methods.registry import SHIPPED, role_of
from ecr_bench.names import run_name

PlainSection = dict[str, Any]


class _Told(BaseModel):
    """JSON of this shape, with whatever else other versions and plugins say; a key that is there is not null."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Tuned(_Told):
    method: str
    modifiers: list[str] = Field(default=[], alias="with")
    sizes: list[str]
    set: PlainSection


class _Cells(_Told):
    method: str
    modifiers: list[str | dict[str, PlainSection]] = Field(default=[], alias="with")
    sizes: list[str]
    seeds: list[int]


class _Experiment(_Told):
    """Not ``config.Experiment``: a board of several runs has only what they share, a plugin need not be here."""

    name: str = ""
    corpus: PlainSection = {}
    seen_languages: list[str] = []
    tokenizer: PlainSection = {}
    teacher: PlainSection = {}
    anchors: PlainSection = {}
    projection: PlainSection = {}
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
    """UserError where an arm of a shipped method claims a part that its method does not play: verdicts rest on it."""
    for arm in arms:
        if arm.method in SHIPPED:
            role = role_of(arm.method).modified if arm.modifiers else role_of(arm.method)
            if arm.role is not role:
                raise UserError(f"{source}: {arm} says that its role is {arm.role}; {arm.name} is: {role}")
