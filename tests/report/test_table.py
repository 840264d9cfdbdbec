"""One table, three renderings, one way to write a number."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ecr_bench import formats
from ecr_bench.names import visible
from ecr_bench.report.measure_tables import diverged_table
from ecr_bench.results.schema import Diverged
from ecr_bench.table import NOTHING, Table, print_table, to_html, to_markdown
from tests.helpers.world import arm, board_of, make

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=12)
EVIL = "</td><script>x</script>|[red]*"


class Cells(HTMLParser):
    """The texts of all cells, and the tags that were opened."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@st.composite
def tables(draw: st.DrawFn) -> Table:
    width = draw(st.integers(1, 4))
    lines = st.lists(st.tuples(*[WORDS] * width), min_size=1, max_size=3)
    sections = draw(st.lists(lines.map(tuple), min_size=1, max_size=3))
    return Table(
        draw(WORDS), draw(st.tuples(*[WORDS] * width)), tuple(sections), draw(WORDS), draw(st.integers(1, width))
    )


@given(tables())
def test_every_rendering_holds_every_cell(table: Table) -> None:
    wanted = [*table.columns, *(cell for line in table.lines for cell in line)]
    page = Cells(to_html(table))
    assert page.cells == wanted and "script" not in page.tags
    assert page.tags.count("tbody") == len(table.sections) and page.tags.count("tr") == 1 + len(table.lines)
    rows = [line for line in to_markdown(table).splitlines() if line.startswith("| ")]
    split = [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]
    assert [len(row) for row in split] == [len(table.columns)] * len(split) or "\\" in "".join(wanted)
    out = io.StringIO()
    print_table(table, Console(file=out, width=200))
    assert all(visible(cell) in out.getvalue() for cell in wanted)


def test_hostile_cells_stay_text() -> None:
    table = Table.of(EVIL, ("a", EVIL), [(EVIL, EVIL)], EVIL)
    assert "<script" not in to_html(table) and "&lt;script&gt;" in to_html(table)
    out = io.StringIO()
    print_table(table, Console(file=out, width=200))
    assert out.getvalue().count(EVIL) == 5


def test_a_table_says_what_is_text_what_is_a_number_and_what_it_is_about() -> None:
    table = Table.of("Title", ("a", "b", "c"), [("x", "y", "1"), ("z", "supported", "2")], "why", words=2)
    html = to_html(table)
    assert html.count('<td class="n">') == 2 and html.count('scope="col"') == 3 and html.count('scope="row"') == 2
    assert '<tr class="supported">' in html and "<caption>Title<span>why</span></caption>" in html
    assert "|---|---|---:|" in to_markdown(table)


def test_long_tables_are_cut_and_say_so() -> None:
    table = Table("t", ("a",), ((("1",), ("2",)), (("3",),)), "why")
    cut = table.cut(2)
    assert (
        cut.lines == (("1",), ("2",)) and cut.caption == "why; the first 2 of 3 lines, the rest is in the run's folder"
    )
    assert table.cut(3) is table and not NOTHING and table


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (formats.percent(0.5234), "52.3"), (formats.percent(None), "–"),
        (formats.points(0.0612), "+6.1"), (formats.points(-0.0612), "−6.1"),
        (formats.estimate(0.061, (-0.02, 0.1)), "+6.1 (−2.0 to +10.0)"),
        (formats.level(0.5, (0.4, 0.6)), "50.0 (40.0 to 60.0)"), (formats.half_interval(0.5, (0.4, 0.6)), "50.0 ±10.0"),
        (formats.p_value(0.0004), "<.001"), (formats.p_value(0.012), ".012"), (formats.p_value(1.0), "1.000"),
        *((formats.number(v), text) for v, text in ((0.123, "0.12"), (12.345, "12.35"), (1234.5, "1,234"),
                                                    (-0.001, "0.00"), (-1.5, "−1.50"), (None, "–"))),
        (formats.number(1.23456, 3), "1.235"), (formats.number(-0.0, 1), "0.0"),
        *((formats.count(v), text) for v, text in ((None, "–"), (12, "12"), (8000, "8.0k"), (990_000, "0.99M"),
                                                   (2_970_000, "2.97M"), (268_000_000, "268M"), (31e6, "31M"),
                                                   (2.7e9, "2.70G"))),
        (formats.with_side(990_000, 400_000), "0.99M+0.40M"), (formats.with_side(990_000, 0), "0.99M"),
        (formats.extra(4.0), "+4"), (formats.extra(3.5), "+3.5"),
        (formats.seeds(1), "1 seed"), (formats.seeds(2), "2 seeds"),
    ],
)  # fmt: skip
def test_numbers(written: str, wanted: str) -> None:
    assert written == wanted


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("name", [3, 11, 25, 60])
@pytest.mark.parametrize("columns", [1, 4, 9])
def test_every_word_and_number_is_printed_whatever_the_width(width: int, name: int, columns: int) -> None:
    heads = ("arm", *(f"task{i}" for i in range(columns)))
    lines = [(f"{row}" + "n" * name, *(f"{row}{i}.{i} ±{row}.{i}" for i in range(columns))) for row in range(4)]
    output = io.StringIO()
    print_table(Table.of("a title", heads, lines, "a caption"), Console(file=output, width=width))
    text = output.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert all(cell in text for line in (heads, *(line[1:] for line in lines)) for cell in line)
    assert text.count("a title") == text.count("a caption") == 1
    parts = text.count(" arm ")
    assert text.count("n") - text.count("caption") == parts * 4 * name  # no letter of a name is lost
    first = [line.split()[0] for line in text.splitlines() if " ±" in line]
    assert all(word[0] in "0123" and len(word) >= min(name + 1, 12) for word in first)


def test_seeds_that_diverged_for_one_reason_are_one_line() -> None:
    lost = [
        Diverged(cell=f"ecr-1x-s{seed}", arm=arm("ecr-1x"), seed=seed, precision="fp32", reason=why)
        for seed, why in ((10, "not finite"), (2, "not finite"), (3, "of the probe"))
    ]
    board = board_of(make(items=4, precisions=("fp32",))).model_copy(update={"diverged": lost})
    assert diverged_table(board).lines == (
        ("ecr-1x", "2, 10", "fp32", "not finite"), ("ecr-1x", "3", "fp32", "of the probe"),
    )  # fmt: skip
    assert not diverged_table(board.model_copy(update={"diverged": []}))
