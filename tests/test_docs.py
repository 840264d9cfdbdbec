"""The reference pages are what the code says, and the site has a place for every page."""

from __future__ import annotations

import re
import runpy

import pytest
import yaml

from tests.helpers.outside import ROOT

REFERENCE = runpy.run_path(str(ROOT / ".ci" / "reference.py"))


@pytest.mark.parametrize(("name", "content"), REFERENCE["pages"]().items())
def test_reference_pages_are_up_to_date(name, content) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == content, "run: python .ci/reference.py"


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = {line.rpartition(": ")[2].strip() for line in text.splitlines() if line.endswith(".md")}
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert listed == pages


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_links_between_pages_stay_on_the_site(page) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    site = ROOT / "docs"
    lost = [t for t in local if not (page.parent / t).exists() or not (page.parent / t).resolve().is_relative_to(site)]
    assert not lost, f"{page.name}: the site has no such page (name files of the repository in backticks)"


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_experiments_name_their_schema(path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert path.stem == "claims" or (path.parent / named).resolve() == ROOT / "docs/reference/experiment.schema.json"


def test_what_a_serious_project_has_is_there() -> None:
    for name in ("LICENSE", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "ecr_bench/py.typed"):
        assert (ROOT / name).is_file(), name
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
