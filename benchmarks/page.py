"""The report page with 10,000 lines: seconds until a person can use it, in a headless Chromium.

The board is the published quick run with its rows repeated. Skipped, with the reason, where there is no browser.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import Options, Result, compared, seconds
from ecr_bench.arm import Arm
from ecr_bench.errors import UserError
from ecr_bench.report.page import render_page
from ecr_bench.run import Run

PUBLISHED = Path(__file__).parent.parent / "results" / "quick"


def run(options: Options) -> Iterator[Result]:
    try:
        from selenium import webdriver
    except ImportError as error:
        raise UserError("selenium is not installed (ecr-bench[dev])") from error
    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not service:
        raise UserError("no chromium with chromedriver (Debian: apt-get install chromium chromium-driver)")
    published = Run.load(PUBLISHED)
    board = published.board
    count = options.pick(10_000, 50)
    first = [row for row in board.rows if row.group == "unseen" and row.precision == "fp32"]
    first = [row for row in first if row.arm == board.verdict.large]
    rows = [
        row.model_copy(update={"arm": Arm(f"arm{i}", "1x"), "mean": i / count}) for i in range(count) for row in first
    ]
    larger = replace(published, board=board.model_copy(update={"rows": rows, "scorings": []}))
    chrome = webdriver.ChromeOptions()
    chrome.binary_location = browser
    for argument in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run"):
        chrome.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=chrome, service=webdriver.ChromeService(service))
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            writing = seconds(lambda: path.write_text(render_page(larger), encoding="utf-8"))
            ready, sorting = [], []
            for _ in range(options.pick(5, 1)):
                driver.get(path.as_uri())
                mark = "return performance.getEntriesByName('interactive')[0].startTime"
                ready.append(driver.execute_script(mark) / 1000)
                sort = "const t = performance.now(); document.querySelector('#board thead button').click();"
                sorting.append(driver.execute_script(f"{sort} return performance.now() - t") / 1000)
            size = path.stat().st_size
    finally:
        driver.quit()
    yield compared(
        f"report page of {count:,} lines: seconds until interactive",
        "one second",
        ready,
        need=1.0,
        at_least=False,
        beside={
            "MB": round(size / 1e6, 1),
            "seconds to write": round(writing, 2),
            "seconds of the first sort": round(max(sorting), 2),
        },
    )
