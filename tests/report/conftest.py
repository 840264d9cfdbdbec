"""The page that the tests read, and the run it is of."""

from __future__ import annotations

import pytest

from ecr_bench.run import Run
from tests.helpers.page_sample import sample_page, sample_run


@pytest.fixture(scope="module")
def run() -> Run:
    return sample_run()


@pytest.fixture(scope="module")
def text() -> str:
    """Of a run that is an ablation too, so that everything is on it."""
    return sample_page()
