"""README and results/README.md say what the published files say."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "results" / "README.md").read_text()


def test_every_table_row_and_verdict_shown_is_in_the_published_board() -> None:
    shown = README.split("<!-- board:start -->")[1].split("<!-- board:end -->")[0].splitlines()
    board = set((ROOT / "results" / "quick" / "board.md").read_text().splitlines())
    rows = [line for line in shown if line.startswith(("| ", "**", "- "))]
    assert len(rows) > 40
    assert [line for line in rows if line not in board] == []


def test_every_published_folder_is_listed_and_every_listed_one_is_there() -> None:
    folders = {path.name for path in (ROOT / "results").iterdir() if path.is_dir()}
    assert folders == set(re.findall(r"^\| \[([\w-]+)\]", RESULTS, re.M))


def test_links_lead_somewhere() -> None:
    for text, base in ((README, ROOT), (RESULTS, ROOT / "results")):
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert link.startswith("http") or (base / link).exists(), link
