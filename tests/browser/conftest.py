"""A platform and a Chromium for all browser tests of a session; skipped where no Chromium is found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.platform import Platform, running
from tests.browser.visitor import Visitor

# How long something may take to be there. What has to be quick is measured, not awaited: a machine may be busy.
expect.set_options(timeout=30_000)
NAMES = ("chromium", "chromium-browser", "google-chrome")
NONE_FOUND = (
    f"no browser: none of {', '.join(NAMES)} is on the PATH, and CHROMIUM names none. Install one (apt-get install "
    "chromium), or set CHROMIUM to its path."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="FOLDER", help="write the README's pictures there")


@pytest.fixture(scope="session")
def chromium() -> str:
    named = os.environ.get("CHROMIUM")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(NONE_FOUND)
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    root = os.geteuid() == 0  # Chromium's sandbox refuses to work for root
    # Playwright keeps an event loop in the tests' own thread, in which tests of single pages make their rows.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=chromium, chromium_sandbox=not root, args=["--disable-dev-shm-usage"]
        )
        yield made
        made.close()


@pytest.fixture(scope="session")
def platform(chromium: str) -> Iterator[Platform]:
    with running() as started:
        yield started


@pytest.fixture
def visitor(browser: Browser, platform: Platform, tmp_path: Path) -> Iterator[Callable[..., Visitor]]:
    """Opens a window; `visitor("tara")` is signed in. At the end no page may have had a problem."""
    opened: list[Visitor] = []

    def come(name: str | None = None, **window: Any) -> Visitor:
        one = Visitor(browser, platform, tmp_path, **window)
        opened.append(one)
        if name:
            one.logs_in(name)
            one.page.wait_for_url("**/admin/")
        return one

    yield come
    problems = [problem for one in opened for problem in one.problems]
    for one in opened:
        one.close()
    assert problems == []


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Any, str], None]:
    """Keeps what anybody with a `page` sees as one of the README's pictures, where --screenshots asks for them."""
    folder = request.config.getoption("--screenshots")

    def keep(one: Any, name: str) -> None:
        if folder:
            one.page.mouse.move(0, 0)
            one.page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")

    return keep
