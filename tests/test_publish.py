"""What was published once is given back only where it would come out the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecr_bench import publish
from ecr_bench.publish import what_a_run_is_made_from
from ecr_bench.runner.plan import Plan, make_plan
from ecr_bench.source_code import forget
from tests.helpers.planned import experiment
from tests.stages.test_identity import edit_modules

SHOWING = (
    "results.board", "results.contrasts", "results.claims", "results.judgement", "results.collect", "statistics.paired",
    "statistics.interval", "report.page", "report.tables", "report.export", "report.tensorboard", "run", "publish",
)  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(experiment())


@pytest.fixture(autouse=True)
def _read_anew() -> Any:
    yield
    forget()


@pytest.mark.parametrize("module", SHOWING)
def test_edited_code_of_results_and_report_makes_the_run_anew(
    module: str, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No stage runs again for it, but board, claims and page are made from other code."""
    before, stages = what_a_run_is_made_from(plan), set(plan.stages)
    edit_modules([f"ecr_bench.{module}"], tmp_path, monkeypatch)
    forget()
    assert what_a_run_is_made_from(plan) != before and set(make_plan(experiment()).stages) == stages


def test_so_do_templates_and_claims(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = what_a_run_is_made_from(plan)
    (tmp_path / "page.html").write_text("another")
    with monkeypatch.context() as patch:
        patch.setattr(publish, "TEMPLATES", tmp_path)
        assert what_a_run_is_made_from(plan) != before
    with monkeypatch.context() as patch:
        patch.setattr(publish, "claims_identity", lambda claims: "other")
        assert what_a_run_is_made_from(plan) != before
    assert what_a_run_is_made_from(plan) == before
