"""Whatever text stands in a table or sentence, Markdown shows it as it is: no HTML, link, image, code or emphasis."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ecr_bench.names import visible
from ecr_bench.table import Table, code, escape_markdown, to_markdown

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PIECES = [
    "<script>alert(1)</script>",
    "<img src=x onerror=y>",
    "[a](javascript:b)",
    "![a](http://x)",
    "[a]: http://x",
    "`",
    "``",
    "**b**",
    "*",
    "_c_",
    "__d__",
    "~~e~~",
    "|",
    "\\",
    "\\|",
    "&lt;",
    "&#60;",
    "<!--",
    "<?x",
    "</td>",
    "# ",
    "- ",
    "1. ",
    "\n",
    "\r\n\r\n",
    "\u2028",
    "\x1b[31m",
    "\u202e",
    "a",
    " ",
    "été",
    "灯",
    "ecr_label_de",
    "52.3*",
    "p <.001",
    "<",
    ">",
    "x[count=8]",
    "<http://a.b>",
    "```",
    "---",
    "===",
    "\t",
]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), min_size=1, max_size=6).map("".join)


def shown(markdown: str) -> tuple[set[str], str]:
    """Kinds of inline elements, and the text a reader sees."""
    inline = [token for token in PARSER.parse(markdown) if token.type == "inline"]
    children = [child for token in inline for child in token.children or []]
    return {child.type for child in children}, "".join(child.content for child in children)


def same(text: str) -> str:
    """Without what no reader sees: repeated white space."""
    return " ".join(visible(text).split())


@given(texts)
@settings(max_examples=200)
def test_a_sentence_is_shown_as_it_is(text: str) -> None:
    kinds, seen = shown(f"- {escape_markdown(f'It is {text} today')}")
    assert kinds <= {"text"} and " ".join(seen.split()) == same(f"It is {text} today")


@given(texts)
@settings(max_examples=200)
def test_an_entry_of_a_table_is_shown_as_it_is(text: str) -> None:
    table = Table.of(text, ("name", text), [(text, text), ("next", "1")], f"{text} ends")
    markdown = to_markdown(table)
    tokens = PARSER.parse(markdown)
    assert [token.type for token in tokens].count("tr_open") == 3, markdown
    cells = [token for token in tokens if token.type == "inline"]
    expected = [same(text), "name", same(text), same(text), same(text), "next", "1"]
    assert [" ".join("".join(c.content for c in cell.children or []).split()) for cell in cells][
        : len(expected)
    ] == expected
    assert {child.type for cell in cells for child in cell.children or []} <= {"text", "em_open", "em_close"}


@pytest.mark.parametrize("text", PIECES)
def test_a_name_as_code_is_shown_as_it_is(text: str) -> None:
    name = f"arm {text} x"
    kinds, seen = shown(f"Arm {code(name)}.")
    assert kinds <= {"text", "code_inline"} and " ".join(seen.split()) == same(f"Arm {name}.")


def test_what_our_tables_say_stays_readable() -> None:
    for text in (
        "ecr_label_de",
        "52.3*",
        "p <.001",
        "ecr-1x[count=8]",
        "+6.1 (+2.0 to +10.1)",
        "−3.2",
        "A & B",
        "1 > 0",
    ):
        assert escape_markdown(text) == text


def test_rendered_html_holds_no_tag_of_a_name() -> None:
    found = PARSER.render(to_markdown(Table.of("t", ("a", "b"), [("<script>x</script>", "<b>")])))
    assert not re.search(r"<(script|b)\b", found) and "<script>" in html.unescape(found)
