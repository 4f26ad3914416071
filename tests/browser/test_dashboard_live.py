"""The dashboard on the real platform: from a fill at the paper exchange to the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from statistics import median

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.long, pytest.mark.e2e]
DEALS = 3
OPENED_SECONDS = 300
# When each deal was first seen open on the page, in the browser's own time.
NOTE_OPENED = """() => {
    window.opened = {};
    const look = () => {
        for (const row of document.querySelectorAll("#deals tbody tr[data-status=OPEN]")) {
            window.opened[row.querySelector("a").id.replace("deal-", "")] ??= Date.now();
        }
    };
    look();
    window.before = Object.keys(window.opened);
    const everything = { subtree: true, childList: true, attributes: true };
    new MutationObserver(look).observe(document.querySelector("#deals"), everything);
}"""
NEW = "Object.entries(window.opened).filter(([id]) => !window.before.includes(id))"
FILLS = "id => fetch(`/api/v1/fills?deal=${id}`).then(answer => answer.json()).then(({ results }) => results)"


def waits_until(page: Page, there: Callable[[], bool]) -> None:
    """Playwright's own way evaluates text in the page, which its policy forbids."""
    deadline = time.monotonic() + OPENED_SECONDS
    while not there():
        assert time.monotonic() < deadline, f"in vain for {OPENED_SECONDS} s"
        page.wait_for_timeout(500)


@pytest.mark.parametrize("size", [(1280, 800), (360, 780)], ids=["desktop", "phone"])
def test_a_fill_at_the_exchange_is_on_the_page_within_a_second(visitor, size):
    admin = visitor("admin", size=size)
    page = admin.page
    page.goto("/")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=30_000)
    expect(page.locator("main[aria-busy=false]")).to_be_attached(timeout=30_000)
    page.evaluate(NOTE_OPENED)
    waits_until(page, lambda: len(page.evaluate(NEW)) >= DEALS)
    delays = []
    for deal, seen in page.evaluate(NEW):
        first = min(datetime.fromisoformat(fill["executed_at"]) for fill in page.evaluate(FILLS, deal))
        delays.append(seen / 1000 - first.timestamp())
    assert median(delays) < 1, delays
    expect(page.locator("#price-words")).to_contain_text("last close")
    admin.finds_it_fits()
    assert admin.misfits == []
