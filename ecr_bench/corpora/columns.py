"""Turns a user's records into corpus rows: which column is what, and what may be missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ecr_bench.corpora.rows import SPLITS, RawRow
from ecr_bench.errors import UserError
from ecr_bench.names import language_code, listed, visible
from ecr_bench.section import Section

ROLES = ("text", "lang", "meaning", "label", "unit", "split")


class ColumnOptions(Section):
    """Which column is what; a role that is not named uses the column of its own name, if there is one."""

    text: str | None = None
    """Column of the text."""
    lang: str | None = None
    """Column of the language code."""
    meaning: str | None = None
    """Column of what rows of different languages share that say the same."""
    label: str | None = None
    """Column of the label."""
    unit: str | None = None
    """Column of what splits are drawn by; without one a row's meaning is its unit."""
    split: str | None = None
    """Column of the split."""
    language: str = ""
    """The language of all rows, where no column says it."""


@dataclass(frozen=True)
class Columns:
    """Role -> column name. A role without a column is absent from ``names``."""

    names: dict[str, str]
    language: str
    """The language of all rows where no column says it."""

    @staticmethod
    def choose(options: ColumnOptions, present: Iterable[str], source: str) -> Columns:
        """The columns that ``options`` name among those that are there.

        Raises UserError, listing the columns ``source`` has, when one that is needed or named is missing.
        """
        present = list(present)
        language = options.language
        names: dict[str, str] = {}
        for role in ROLES:
            named: str | None = getattr(options, role)
            name = named or role
            if name in present:
                names[role] = name
            elif named or role == "text" or (role == "lang" and not language):
                raise UserError(
                    f"{source}: no column {name!r} (corpus.options.{role}): columns here are {listed(present)}"
                )
        if language:
            names.pop("lang", None)
        return Columns(names, language)

    def rows(self, records: Iterable[tuple[str, Mapping[str, Any]]], source: str) -> Iterator[RawRow]:
        """Rows of ``records``, pairs of (where, mapping), one after another.

        Without a meaning a row stands alone; without a unit its meaning is its unit, so that translations
        of one another share a split. Records without text are left out; UserError if that empties a
        language, and for a value that is no text or no split.
        """
        languages: set[str] = set()
        spoken: set[str] = set()
        for number, (where, record) in enumerate(records, 1):
            values = {role: self._value(record, role, where) for role in ROLES}
            if not values["lang"]:
                raise UserError(f"{where}: no language in column {self.names['lang']!r}")
            try:
                languages.add(language_code(values["lang"]))
            except ValueError as error:
                raise UserError(f"{where}: {error}") from None
            if values["split"] and values["split"] not in SPLITS:
                raise UserError(f"{where}: unknown split {values['split']!r}: allowed are {', '.join(SPLITS)} or empty")
            meaning = values["meaning"] or f"row-{number}"
            if values["text"]:
                unit = values["unit"] or meaning
                spoken.add(values["lang"])
                yield RawRow(values["text"], values["lang"], meaning, values["label"], unit, split=values["split"])
        if not languages:
            raise UserError(f"{source}: no rows; give at least one with text and language")
        if silent := sorted(languages - spoken):
            raise UserError(f"{source}: language {silent[0]!r} has no text; every language needs at least one")

    def _value(self, record: Mapping[str, Any], role: str, where: str) -> str:
        if role == "lang" and self.language:
            return self.language
        value = record.get(self.names[role]) if role in self.names else None
        if value is None:
            return ""
        if not isinstance(value, str) and (role in {"text", "lang"} or type(value) is not int):
            raise UserError(f"{where}: {self.names[role]!r} must be text (got {value!r:.60})")
        text = " ".join(str(value).split())
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UserError(f"{where}: {self.names[role]!r} holds half of a character (a lone surrogate)")
        if role != "text" and visible(text) != text:  # it is a name, which tables and files show
            raise UserError(f"{where}: {self.names[role]!r} holds a control character: {text!r:.60}")
        return text
