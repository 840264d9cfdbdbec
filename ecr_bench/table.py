"""A table of finished text, and its three renderings: terminal, Markdown, HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from ecr_bench.names import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text as RichText

Line = tuple[str, ...]
TONES = {"supported": "green", "refuted": "red"}
"""Words that have a colour of their own, and a class of their own on a page."""


@dataclass(frozen=True)
class Table:
    """``sections`` are groups of lines with a rule between them; the first ``words`` columns are text, the others
    numbers."""

    title: str
    columns: Line
    sections: tuple[tuple[Line, ...], ...]
    caption: str = ""
    words: int = 1

    @classmethod
    def of(cls, title: str, columns: Iterable[str], lines: Iterable[Line], caption: str = "", words: int = 1) -> Table:
        """One section."""
        return cls(title, tuple(columns), (tuple(lines),), caption, words)

    def __bool__(self) -> bool:
        return any(self.sections)

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(line for section in self.sections for line in section)

    def cut(self, most: int) -> Table:
        """At most ``most`` lines; the caption says so."""
        if len(self.lines) <= most:
            return self
        note = f"the first {most} of {len(self.lines)} lines, the rest is in the run's folder"
        return replace(self, sections=(self.lines[:most],), caption="; ".join(filter(None, (self.caption, note))))

    def within(self, width: int) -> list[Table]:
        """The same in so many tables that the numbers of each fit beside its words in ``width`` characters: words may
        wrap, but to no less than WORD (twice that where it takes more than one table); every part begins with them."""
        groups = self._groups(width, WORD)
        if len(groups) == 1:
            return [self]
        parts = [self._only((*range(self.words), *group)) for group in self._groups(width, 2 * WORD)]
        last = len(parts) - 1
        return [
            replace(part, title=self.title if i == 0 else "", caption=self.caption if i == last else "")
            for i, part in enumerate(parts)
        ]

    def _groups(self, width: int, word: int) -> list[list[int]]:
        """The columns of numbers that stand beside words of at most ``word`` characters, from left to right."""
        widths = [
            max(map(len, (head, *column))) + GAP for head, column in zip(self.columns, self._by_column(), strict=True)
        ]
        words = sum(min(wide, word + GAP) for wide in widths[: self.words])
        groups: list[list[int]] = [[]]
        for index in range(self.words, len(self.columns)):
            if groups[-1] and words + sum(widths[i] for i in (*groups[-1], index)) > width:
                groups.append([])
            groups[-1].append(index)
        return groups

    def _by_column(self) -> list[Line]:
        return [tuple(line[index] for line in self.lines) for index in range(len(self.columns))]

    def _only(self, kept: Sequence[int]) -> Table:
        def pick(line: Line) -> Line:
            return tuple(line[index] for index in kept)

        sections = tuple(tuple(map(pick, section)) for section in self.sections)
        return replace(self, columns=pick(self.columns), sections=sections)


GAP = 2
"""Characters between two columns in the terminal."""
WORD = 12
"""Characters that a column of words keeps at least, where it has as many."""
NOTHING = Table("", (), ())
"""A table without lines: nothing is shown of it."""


def print_table(table: Table, console: Console) -> None:
    """Print one table. Words may wrap, numbers stay on one line; where they do not fit beside the words, the other
    columns follow below, again with the words."""
    for part in table.within(console.width):
        _print(part, console)


def _print(table: Table, console: Console) -> None:
    from rich import box
    from rich.table import Table as Drawn

    drawn = Drawn(
        title=_shown(table.title) if table.title else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    drawn.caption = _shown(table.caption) if table.caption else None
    drawn.padding = (0, 1, 0, 0)
    for index, column in enumerate(table.columns):
        number = index >= table.words
        drawn.add_column(
            _shown(column),
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=number,
            min_width=None if number else min(WORD, max(map(len, (column, *(line[index] for line in table.lines))))),
        )
    for section in table.sections:
        for line in section:
            tone = next((TONES[entry] for entry in line if entry in TONES), None)
            drawn.add_row(*map(_shown, line), style=tone)
        drawn.add_section()
    console.print(drawn, highlight=False)


def _shown(entry: str) -> RichText:
    """An entry for the terminal; it may have several lines."""
    from rich.text import Text

    return Text("\n".join(map(visible, entry.split("\n"))))


def to_markdown(table: Table) -> str:
    """One heading, one pipe table (sections run on), one caption."""

    def row(entries: Iterable[str]) -> str:
        return "| " + " | ".join(escape_markdown(entry.strip(" ")) for entry in entries) + " |"

    rule = "|" + "|".join("---" if i < table.words else "---:" for i in range(len(table.columns))) + "|"
    caption = ["", f"*{escape_markdown(table.caption)}*"] if table.caption else []
    return "\n".join(
        [f"## {escape_markdown(table.title)}", "", row(table.columns), rule, *map(row, table.lines), *caption]
    )


def escape_markdown(text: str) -> str:
    """``text`` on one line, such that Markdown shows it as it is: no HTML, link, image, code or emphasis comes of it.

    A star that ends it stays as it is: that of a tied arm.
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", visible(text))
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    text = re.sub(r"[\\`|~]|\*(?!$)|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])", lambda found: f"\\{found[0]}", text)
    return re.sub(r"^(?=[#>+-]+ )|(?=#+ *$)", r"\\", text)


def code(text: str) -> str:
    """``text`` as inline code of Markdown."""
    text = visible(text)
    return escape_markdown(text) if "`" in text else f"`{text}`"


def to_html(table: Table) -> Markup:
    """A ``<table>`` in a focusable region that scrolls where the window is too narrow and no script runs."""
    kinds = [' class="n"' if i >= table.words else "" for i in range(len(table.columns))]
    heads = "".join(f'<th scope="col"{kind}>{escape(c)}</th>' for c, kind in zip(table.columns, kinds, strict=True))
    bodies = "".join(f"<tbody>{''.join(_row(line, kinds) for line in part)}</tbody>" for part in table.sections if part)
    note = f"<span>{escape(table.caption)}</span>" if table.caption else ""
    title = escape(table.title)
    return Markup(
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0"><table class="plain">'
        f"<caption>{title}{note}</caption><thead><tr>{heads}</tr></thead>{bodies}</table></div>"
    )


def _row(line: Line, kinds: list[str]) -> str:
    head, *entries = line
    values = "".join(f"<td{kind}>{escape(c.strip())}</td>" for c, kind in zip(entries, kinds[1:], strict=True))
    tone = next((f' class="{entry}"' for entry in line if entry in TONES), "")
    return f'<tr{tone}><th scope="row">{escape(head)}</th>{values}</tr>'
