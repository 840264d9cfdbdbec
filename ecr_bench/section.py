"""What every section of an experiment (and of a claims file, and of a teacher's options) shares: strictness."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from ecr_bench.names import distinct, language_code, part_name, plain, run_name


class Section(BaseModel):
    """Unknown keys are errors; a boolean or a text is no number, a fraction no integer; numbers are finite.

    Values are frozen, lists become tuples, and whatever a key holds is plain (``names.plain``).
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        value = plain(value)
        return tuple(value) if isinstance(value, list) else value


def _filled(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("must not be empty")
    return values


Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What torch and numpy both take."""
LanguageCode = Annotated[str, AfterValidator(language_code)]
RunName = Annotated[str, AfterValidator(run_name)]
SizeName = Annotated[str, AfterValidator(part_name)]
Distinct = AfterValidator(distinct)
"""Marks a tuple whose values occur once."""
Filled = AfterValidator(_filled)
"""Marks a tuple with at least one value."""
