"""What each cell cost: one row per cell and precision, ``cells.json`` of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_core import PydanticKnownError

from ecr_bench.arm import NamedArm
from ecr_bench.results.schema import Count, Finite, Record

StageId = Annotated[str, Field(pattern=r"^([a-z][a-z-]*/[0-9a-f]+)?$")]
"""``kind/key``: a folder of the store."""

MOST = 10**18
"""No count is larger. Python makes no float of one that is far beyond."""


class CellCosts(Record):
    """Costs of one cell scored at one precision; null where they were not measured. A cell's precisions share what its
    training cost."""

    cell: str
    """Label, unique within the run: ``ecr-1x-s0``."""
    arm: NamedArm
    seed: int
    precision: str
    diverged: str = ""
    """Why it has no scores at this precision: numbers that are not finite. Empty where it has."""
    parameters: Count = None
    """Of the language model, control-token rows included."""
    side_parameters: Count = None
    """Of projection and anchors, which ECR needs at inference beside the model."""
    bytes: Count = None
    """Model weights as stored at this precision."""
    side_bytes: Count = None
    """Projection and anchors as stored."""
    disk_bytes: Count = None
    """All files that scoring at this precision needs."""
    ms_per_item: Finite = None
    """Wall-clock time of scoring; machines and neighbours differ, so it is no comparison."""
    scoring_memory: Count = None
    """Peak memory of scoring, bytes."""
    deployable: bool = True
    """False where the teacher is asked at test time."""
    extra_tokens: int = 0
    """Control tokens a prompt."""
    train_seconds: Finite = None
    """Wall-clock time of fine-tuning; no comparison either."""
    steps: Count = None
    tokens: Count = None
    """Seen in fine-tuning."""
    train_loss: Finite = None
    """Nats per token, mean of the last steps."""
    val_loss: Finite = None
    grad_norm_median: Finite = None
    grad_norm_max: Finite = None
    finite: bool | None = None
    """Whether the training loss stayed finite; null for a cell that is not trained step by step."""
    peak_memory: Count = None
    """Of the training process, bytes."""
    probe: dict[str, dict[str, Any]] | None = None
    """Task -> numbers of the fit, for a probe."""
    base: StageId = ""
    """Stage of the base model."""
    stage: StageId = ""
    """Stage that trained it."""
    trained_on: str = ""
    """Hardware of that stage (``runner.ran``); empty where it is not known."""
    scored_on: str = ""
    """Hardware of the stage that scored it."""

    @field_validator("parameters", "bytes", "disk_bytes", "ms_per_item")
    @classmethod
    def _above_nothing(cls, value: float | None) -> float | None:
        """They are divided by, and drawn over their logarithms."""
        if value is not None and value <= 0:
            raise PydanticKnownError("greater_than", {"gt": 0})
        return value

    @field_validator(
        "side_parameters", "side_bytes", "scoring_memory", "extra_tokens", "train_seconds", "steps", "tokens",
        "grad_norm_median", "grad_norm_max", "peak_memory",
    )  # fmt: skip
    @classmethod
    def _not_negative(cls, value: float | None) -> float | None:
        if value is not None and value < 0:
            raise PydanticKnownError("greater_than_equal", {"ge": 0})
        return value

    @field_validator(
        "parameters", "side_parameters", "bytes", "side_bytes", "disk_bytes", "scoring_memory", "extra_tokens", "steps",
        "tokens", "peak_memory",
    )  # fmt: skip
    @classmethod
    def _a_float_holds_it(cls, value: int | None) -> int | None:
        if value is not None and value > MOST:
            raise PydanticKnownError("less_than_equal", {"le": MOST})
        return value

    @property
    def all_parameters(self) -> int | None:
        """Model, projection and anchors."""
        return None if self.parameters is None else self.parameters + (self.side_parameters or 0)

    @property
    def all_bytes(self) -> int | None:
        """The same as stored at this precision."""
        return None if self.bytes is None else self.bytes + (self.side_bytes or 0)


PROPERTY_OF = {"trained_on": ("train_seconds", "peak_memory"), "scored_on": ("ms_per_item", "scoring_memory")}
"""Where a cell was made -> the costs that say as much of the hardware as of the cell."""


def comparable(cells: Sequence[CellCosts]) -> list[CellCosts]:
    """``cells`` without the times and memory that were measured on different hardware: no table may set them side by
    side."""
    result = list(cells)
    for place in mixed(cells):
        result = [cell.model_copy(update=dict.fromkeys(PROPERTY_OF[place])) for cell in result]
    return result


def mixed(cells: Iterable[CellCosts]) -> dict[str, list[str]]:
    """Where cells were made -> the several kinds of hardware they were made on; nothing where there is one."""
    found = {place: sorted({str(getattr(cell, place)) for cell in cells} - {""}) for place in PROPERTY_OF}
    return {place: names for place, names in found.items() if len(names) > 1}


def mixed_note(cells: Iterable[CellCosts]) -> list[str]:
    """What a board says where costs are left out; nothing where none are."""
    words = {"trained_on": ("trained", "training seconds"), "scored_on": ("scored", "milliseconds an item")}
    return [
        f"Cells were {words[place][0]} on different hardware ({'; '.join(names)}): {words[place][1]} and peak memory "
        "would compare machines and are left out."
        for place, names in mixed(cells).items()
    ]
