"""A real browser, whose every complaint about a page fails the test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
WAIT_MS = 15_000.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed: apt-get install chromium")
    expect.set_options(timeout=WAIT_MS)  # 5 s is little for a browser beside other tests
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose errors and policy violations fail the test."""
    context = browser.new_context(locale="en-GB", timezone_id="UTC")
    made = context.new_page()
    made.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("console", lambda said: _note(said, complaints))
    yield made
    context.close()
    assert complaints == []


def _note(said: Any, complaints: list[str]) -> None:
    if said.type == "error" and "ERR_" not in said.text:  # a server that stopped is not a complaint
        complaints.append(said.text)
