"""A person at a browser: what they do in a page, said in their words, and everything that went wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response

from tests.browser.platform import Platform

DESKTOP, PHONE = (1280, 800), (390, 844)
Theme = Literal["light", "dark"]
LOOK_AGAIN_SECONDS = 1.0
REFUSED_ON_PURPOSE = "https://cdn.redoc.ly/"  # ReDoc's own logo: our page fetches nothing from elsewhere


class Visitor:
    """One browser window with cookies of its own. `tmp_path` gets the picture when something is awaited in vain."""

    def __init__(
        self, browser: Browser, platform: Platform, tmp_path: Path, size: tuple[int, int] = DESKTOP,
        theme: Theme = "light",
    ) -> None:  # fmt: skip
        self.platform, self.tmp_path = platform, tmp_path
        viewport = {"width": size[0], "height": size[1]}
        self.context = browser.new_context(base_url=platform.url, viewport=viewport, color_scheme=theme)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.problems: list[str] = []
        self.misfits: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.problems.append(f"{self.page.url}: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and REFUSED_ON_PURPOSE not in message.text:
            self.problems.append(f"{self.page.url}: console: {message.text}")

    def _failed(self, request: Request) -> None:
        left_the_page = request.failure == "net::ERR_ABORTED"  # which calls off what it still loads
        if not left_the_page and not request.url.startswith(REFUSED_ON_PURPOSE):
            self.problems.append(f"{self.page.url}: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"{self.page.url}: {response.request.method} {response.url}: {response.status}")

    # --- moving about ---

    def opens(self, path: str) -> None:
        self.page.goto(path, wait_until="load")

    def logs_in(self, name: str, password: str | None = None) -> None:
        self.opens("/admin/login/?next=/admin/")
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Password").fill(password or self.platform.password_of(name))
        self.page.get_by_role("button", name="Log in").click()

    def follows(self, name: str, within: Locator | None = None) -> None:
        """A link of the page, not of the sidebar."""
        (within or self.page.locator("#content, #main")).get_by_role("link", name=name).first.click()

    def presses(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).first.click()

    def saves(self) -> None:
        """And waits for the answer: the list, or the form with what is wrong with it."""
        with self.page.expect_navigation():
            self.presses("Save")

    def opens_first_row(self) -> None:
        with self.page.expect_navigation():
            self.rows().first.locator("th a, td a").first.click()

    # --- looking ---

    @property
    def text(self) -> str:
        """As it is read: labels are in capitals."""
        return self.page.locator("body").inner_text()

    def reads(self, text: str) -> bool:
        return text.lower() in self.text.lower()

    def sees(self, text: str) -> None:
        """Within half a minute, without loading the page again."""
        deadline = time.monotonic() + 30
        while not self.reads(text):
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not on {self.page.url}. {self._picture_taken()}")
            self.page.wait_for_timeout(100)

    def waits_for(self, what: str, there: Callable[[], bool], seconds: float) -> None:
        """Loads the page again and again until it shows `there`."""
        deadline = time.monotonic() + seconds
        while not there():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: in vain for {seconds:.0f} s on {self.page.url}. {self._picture_taken()}")
            self.page.wait_for_timeout(LOOK_AGAIN_SECONDS * 1000)
            self.page.reload(wait_until="load")

    def waits_to_read(self, text: str, seconds: float) -> None:
        self.waits_for(repr(text), lambda: self.reads(text), seconds)

    def _picture_taken(self) -> str:
        path = self.tmp_path / f"missing-{time.time_ns()}.png"
        self.page.screenshot(path=path, full_page=True)
        return f"A picture of the page: {path}"

    def finds_it_fits(self) -> None:
        """A page wider than the window is noted in `misfits`, with a picture."""
        if self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            self.misfits.append(f"{self.page.url} is wider than the window. {self._picture_taken()}")

    def shows(self, place: str) -> None:
        """Scrolls so that it stands in the middle of the window."""
        self.page.locator(place).first.evaluate("element => element.scrollIntoView({block: 'center'})")

    def buttons(self) -> list[str]:
        """What one could press to change something: all but searching, filtering and the window's own."""
        words = "#content button[type=submit]:visible, #content input[type=submit]:visible, .submit-row button:visible"
        return [each.inner_text().strip() for each in self.page.locator(words).all() if each.inner_text().strip()]

    # --- lists ---

    def rows(self) -> Locator:
        return self.page.locator("#result_list tbody tr")

    def column(self, name: str) -> list[str]:
        """What stands in a column, from the top."""
        return [text.strip() for text in self.page.locator(f"#result_list .field-{name}").all_inner_texts()]

    # --- strategies ---

    def writes_strategy(self, name: str, account: str, symbol: str, **parameters: str) -> None:
        """Fills in the form of a new BreakoutStrategy that reads candles of Nobitex and trades at Wallex."""
        self.opens("/admin/algo/strategyconfig/add/")
        self.page.locator("#id_name").fill(name)
        self.chooses("account", account)
        self.chooses("data_market", f"{symbol} @ Nobitex")
        self.chooses("market", f"{symbol} @ Wallex")
        self.writes_parameters(**parameters)

    def writes_parameters(self, **parameters: str) -> None:
        for field, value in parameters.items():
            self.page.locator(f"#id_parameter_{field}").fill(value)

    def chooses(self, field: str, shown: str) -> None:
        """Types the first word into a field that searches, and takes what is meant."""
        self.page.locator(f".field-{field} .select2-selection").first.click()
        self.page.locator(".select2-search__field").last.fill(shown.partition(" ")[0])
        self.page.locator(".select2-results__option", has_text=shown).first.click()

    def error_beside(self, field: str) -> str:
        return self.page.locator(f".field-{field}").first.inner_text()

    def does_to_strategy(self, name: str, action: str) -> None:
        """Ticks it in the list and chooses an action."""
        self.opens(f"/admin/algo/strategyconfig/?q={name}")
        self.page.locator("input.action-select").first.check()
        self.page.locator("select[name=action]").first.select_option(action)
        with self.page.expect_navigation():
            self.page.locator("button[name=index], button[title='Run the selected action']").first.click()

    # --- a deal's page ---

    def acts_offered(self) -> list[str]:
        return [text.strip() for text in self.page.locator("#acts a").all_inner_texts()]

    def timeline(self) -> list[str]:
        """The titles of what happened, in order."""
        table = self.page.locator("table", has=self.page.get_by_role("columnheader", name="In words"))
        return [(text or "").strip() for text in table.locator("tbody tr td:nth-child(2)").all_text_contents()]

    # --- the kill switch ---

    def turns_kill_switch(self, level: str, reason: str, *, confirm: bool = False) -> None:
        form = self.page.locator("#kill_switch_form")
        form.locator(f"input[name=level][value={level}]").check()
        form.locator("input[name=reason]").fill(reason)
        if confirm:
            form.locator("input[name=confirm_flatten]").check()
        with self.page.expect_navigation():
            form.get_by_role("button", name="Turn the kill switch").click()

    def proofs(self) -> dict[str, str]:
        """Of each account under the switch: is it proved flat?"""
        rows = self.page.locator("#kill-switch table tbody tr")
        cells = [row.locator("td").all_text_contents() for row in rows.all()]
        return {each[0].strip(): each[1].strip() for each in cells}

    def close(self) -> None:
        self.context.close()
