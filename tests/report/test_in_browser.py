"""Pages as Chromium opens them: nothing is fetched, nothing complains, nothing is wider than a phone.

Skipped where there is no Chromium, unless MOLAR_SERVERS=required says that this machine must have what tests need.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.experiments.figures import figures
from pipeline.report import table_page
from stages import report
from tests.experiments.kept import made_up, shown
from tests.stages.test_report import run, shop  # noqa: F401

from ..conftest import ROOT
from .browser import CHROMIUM, Browser, Seen

PHONE, LAPTOP = 390, 1280
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("MOLAR_SERVERS") != "required",
    reason="no chromium on this machine (Debian: apt-get install chromium)",
)

# For who hears the page: each table has a caption and names its rows, each drawing a title or a label, or is hidden.
SILENT = """
[...document.querySelectorAll('table')].filter(t => !t.caption || !t.querySelector('th[scope=row]')).length +
[...document.querySelectorAll('svg')].filter(
    s => !s.querySelector('title') && !s.getAttribute('aria-label') && !s.closest('[aria-hidden=true]')).length
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM, "MOLAR_SERVERS=required, and this machine has no chromium"
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def test_the_check_sees_a_request_a_message_and_a_page_that_is_too_wide(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<meta name="viewport" content="width=device-width"><body style="margin:0"><p style="width:500px">x<img src="http://127.0.0.1:9/x.png">'
        "<table><tr><td>1</table><script>console.error('oh')</script>"
    )
    seen = browser.visit(bad, LAPTOP)
    assert seen.requests == ["http://127.0.0.1:9/x.png"] and seen.overflow == 0
    assert any('"oh"' in message for message in seen.messages) and browser.evaluate(SILENT) == 1
    assert browser.visit(bad, PHONE).overflow == 500 - PHONE


def opens_well(browser: Browser, page: Path) -> None:
    for width in (LAPTOP, PHONE):
        assert browser.visit(page, width) == Seen()
    assert browser.evaluate(SILENT) == 0
    browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.overflow(PHONE) == 0, "nor with all that folds out"


def test_the_page_of_a_run(browser: Browser, run: Path) -> None:  # noqa: F811
    report.main(run / "page.html", examples=4)
    opens_well(browser, run / "page.html")


def test_the_page_of_a_table(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = shown(tmp_path / "checkout")
    monkeypatch.chdir(toy.root)
    page = tmp_path / "table.html"
    page.write_text(table_page.page(figures("toy", "films")), "utf-8")
    opens_well(browser, page)
    monkeypatch.chdir(ROOT)
    page.write_text(table_page.page(made_up("table2", "demo")), "utf-8")  # the longest names, the most columns
    opens_well(browser, page)
