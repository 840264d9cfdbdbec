"""How the HTML report behaves in headless Chromium (skipped where there is none)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecr_bench.arm import Arm
from ecr_bench.report.page import render_page
from ecr_bench.results.schema import Board
from tests.page_sample import sample_board, sample_page


@pytest.fixture(scope="module")
def board() -> Board:
    return sample_board()


@pytest.fixture(scope="module")
def text() -> str:
    return sample_page()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install -e .[dev])")
    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not service:
        pytest.skip("no chromium with chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for name in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1400,1000",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def address(text: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(driver: Any, address: str) -> Iterator[Any]:
    driver.get_log("browser")
    driver.get(address)
    yield driver
    assert [entry for entry in driver.get_log("browser") if "favicon" not in entry["message"]] == []
    assert driver.execute_script("return window.pwned") is None


def arms(page: Any) -> list[str]:
    return page.execute_script("return [...document.querySelectorAll('#board tbody th')].map(t => t.firstChild.data)")


def column(page: Any, number: int) -> list[float]:
    script = "return [...document.querySelectorAll('#board tbody tr')].map(r => r.cells[arguments[0]].innerText)"
    return [float(re.sub(r"\s.*", "", cell, flags=re.S).lstrip("+")) for cell in page.execute_script(script, number)]


def click(page: Any, selector: str) -> None:
    page.execute_script("document.querySelector(arguments[0]).click()", selector)


def choose(page: Any, name: str, value: str) -> None:
    script = (
        "const f = document.getElementById('f-' + arguments[0]); f.value = arguments[1];"
        "f.dispatchEvent(new Event(f.tagName === 'SELECT' ? 'change' : 'input', {bubbles: true}))"
    )
    page.execute_script(script, name, value)


def test_script_draws_the_same_lines_as_the_static_page(page: Any) -> None:
    html = "return document.querySelector('#board tbody').innerHTML.replace(/>\\s+</g, '><').trim()"
    static = page.execute_script(html)
    choose(page, "text", "")
    assert page.execute_script(html) == static and static.count("<tr") == 10


def test_sorting_by_every_column(page: Any) -> None:
    choose(page, "precision", "")
    choose(page, "split", "")
    headers = page.execute_script(
        "return [...document.querySelectorAll('#board th[data-sort]')].map(h => h.dataset.sort)"
    )
    assert len(headers) == 13
    for number, key in enumerate(headers):
        seen = set()
        for _ in range(2):
            click(page, f'#board th[data-sort="{key}"] button')
            assert page.execute_script("return document.querySelectorAll('#board th[aria-sort]').length") == 1
            order = page.execute_script(f"return document.querySelector('[data-sort=\"{key}\"]').ariaSort")
            seen.add(order)
            if key.startswith("task") and number < 6:
                values = column(page, number)
                assert values == sorted(values, reverse=order == "descending") and len(set(values)) > 5
            if key == "arm":
                assert arms(page) == sorted(arms(page), reverse=order == "descending")
        assert seen == {"ascending", "descending"}


def test_one_language_shows_task_families_without_interval(page: Any) -> None:
    board = sample_board()
    choose(page, "split", "ja")
    rows = [r for r in board.by_language if r.lang == "ja"]
    assert len(arms(page)) == len({r.arm for r in rows})
    status = page.execute_script("return document.getElementById('count').textContent")
    assert status.endswith(f"text in ja, {rows[0].precision}.")
    means = [r.mean for r in rows if str(r.arm) == "ecr-1x"]
    found = page.execute_script(
        "const rows = [...document.querySelectorAll('#board tbody tr')];"
        "const row = rows.find(r => r.cells[0].firstChild.data === 'ecr-1x');"
        "return [...row.querySelectorAll('.score')].map(c => c.innerText.trim())"
    )
    assert found[2] == f"{100 * sum(means) / len(means):.1f}" and found[:2] == ["–", "–"]
    assert not page.execute_script("return document.querySelectorAll('#board tbody .ci').length")
    choose(page, "split", "")
    assert "ja" not in page.execute_script("return document.querySelector('#board tbody').innerText").split()


def test_filters_narrow_and_say_how_many(page: Any) -> None:
    status = "return document.getElementById('count').textContent"
    choose(page, "kind", "control")
    assert set(arms(page)) == {"random-1x", "constant-1x", "language-1x", "shuffled-1x", "codes-only-1x"}
    choose(page, "kind", "")
    choose(page, "text", "ECR-1X")
    choose(page, "precision", "")
    assert arms(page) == ["ecr-1x"] * 2 and page.execute_script(status) == "2 of 2 lines: unseen languages."
    choose(page, "text", "no such arm")
    assert arms(page) == [] and page.execute_script(status) == "No line matches these filters."
    choose(page, "text", "")
    choose(page, "size", "3x")
    assert set(arms(page)) == {"finetune-3x"}
    choose(page, "scores", "families")
    assert page.execute_script("return document.querySelector('#board tbody .family').offsetWidth") > 0
    assert page.execute_script("return document.querySelector('#board tbody .grain').offsetWidth") == 0


def test_keyboard_sorts_and_opens_the_command(page: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    page.find_element(By.CSS_SELECTOR, '#board th[data-sort="arm"] button').send_keys(Keys.ENTER)
    assert arms(page) == sorted(arms(page)) and "ecr-1x" in arms(page)
    number = arms(page).index("ecr-1x")
    page.find_elements(By.CSS_SELECTOR, "#board .how")[number].send_keys(Keys.ENTER)
    opened = page.find_element(By.CSS_SELECTOR, "#board .detail")
    assert "ecr-bench run quick --set name=quick-ecr-1x" in opened.text and "items in" in opened.text
    page.find_elements(By.CSS_SELECTOR, "#board .how")[number].send_keys(Keys.ENTER)
    assert page.find_elements(By.CSS_SELECTOR, "#board .detail") == []
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert page.execute_script("return document.activeElement.className") in ("skip", "how js")


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 28)")])
def test_narrow_and_both_colour_schemes(page: Any, scheme: str, ground: str) -> None:
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    size = {"width": 380, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == ground
        page.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        over = "const d = document.documentElement; return d.scrollWidth - d.clientWidth"
        assert page.execute_script(over) == 0
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.slow
def test_ten_thousand_lines_are_interactive_within_a_second(driver: Any, board: Board, tmp_path: Path) -> None:
    first = [r for r in board.rows if (str(r.arm), r.split, r.precision) == ("finetune-1x", "unseen", "fp32")]
    rows = [
        r.model_copy(update={"arm": Arm(f"arm{i}", "1x"), "mean": i / 10_000}) for i in range(10_000) for r in first
    ]
    path = tmp_path / "report.html"
    path.write_text(render_page(board.model_copy(update={"rows": rows}), [], {}), encoding="utf-8")
    for _ in range(3):  # up to three times, since other work may share the cores
        driver.get(path.as_uri())
        mark = "return performance.getEntriesByName('interactive')[0].startTime"
        ready = driver.execute_script(mark)
        if ready < 1000:
            break
    script = "const t = performance.now(); arguments[0].click(); return performance.now() - t"
    sorting = driver.execute_script(script, driver.find_element("css selector", "[data-sort=arm] button"))
    size = path.stat().st_size / 1e6
    print(f"10,000 lines: {size:.1f} MB, interactive after {ready:.0f} ms, sorted in {sorting:.0f} ms")
    assert ready < 1000 and sorting < 1000
    assert driver.execute_script("return document.getElementById('count').textContent").startswith("50 of 10000 lines")
    click(driver, "#more")
    assert len(arms(driver)) == 100 and arms(driver)[0] == "arm0-1x"
