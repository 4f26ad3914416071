"""Channels, the delivery log and keys for signals in a real browser, in both languages and sizes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Page

from algo.admin import channels
from algo.models import InboundKey, NotificationChannel, UserPreference
from algo.notifications.deliver import channel_deliver
from algo.notifications.senders import SENDERS
from providers.clock import clock_from_env
from tests import factories as make

pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
SIZES = {"desktop": (1280, 800), "phone": (360, 780)}


@pytest.fixture
def hook() -> Iterator[str]:
    """The address of a receiver that takes everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()


@pytest.fixture
def tara(db: Any, settings: Any) -> Any:
    settings.NOTIFY_PRIVATE_ADDRESSES = settings.INBOUND_SIGNALS = True
    user = make.make_trader("tara", is_staff=True)
    account = make.make_account(owner=user, name="main")
    make.make_config(strategy="ExternalSignals", account=account, name="TradingView BTC")
    return user


class Window:
    """Somebody who is signed in, and what went wrong on their pages."""

    def __init__(self, browser: Any, server: str, user: Any, size: tuple[int, int]) -> None:
        client = Client()
        client.force_login(user)
        self.context = browser.new_context(
            base_url=server, viewport={"width": size[0], "height": size[1]}, color_scheme="light"
        )
        self.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": server}])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.problems: list[str] = []
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def opens(self, path: str) -> None:
        self.page.goto(f"/admin/algo/{path}", wait_until="load")
        wide = self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        if wide:
            self.problems.append(f"{path} is wider than the window")

    def presses(self, name: str) -> None:
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).first.click()

    def picture(self, folder: Path, name: str) -> None:
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)


def worker(monkeypatch: Any) -> None:
    """Stands for the worker that a hint reaches."""

    def deliver(channel_id: int) -> None:
        channel_deliver(channel_id, clock_from_env().now(), SENDERS)

    monkeypatch.setattr(channels, "channel_hint", deliver)


def test_somebody_makes_a_channel_and_sees_its_test_arrive(browser, live_server, tara, hook, monkeypatch, tmp_path):
    worker(monkeypatch)
    window = Window(browser, live_server.url, tara, SIZES["desktop"])
    window.opens("notificationchannel/add/")
    window.page.locator("input[name=name]").fill("my hook")
    window.page.locator("input[name=target]").fill(hook)
    window.presses("Save")
    assert "whsec_" in window.page.locator("body").inner_text()
    row = NotificationChannel.objects.get()
    window.opens(f"notificationchannel/{row.pk}/change/")
    assert "whsec_" not in window.page.content()
    window.presses("Test")
    text = window.page.locator("body").inner_text()
    assert "my hook took the test." in text
    assert "Delivered".lower() in text.lower()
    window.picture(tmp_path, "channel-tested")
    assert window.problems == []


def test_somebody_makes_a_key_and_switches_it_on(browser, live_server, tara, tmp_path):
    window = Window(browser, live_server.url, tara, SIZES["desktop"])
    window.opens("inboundkey/add/")
    window.page.locator("select[name=config]").select_option(label="TradingView BTC", force=True)
    window.presses("Save")
    window.picture(tmp_path, "key-made")
    key = InboundKey.objects.get()
    window.opens(f"inboundkey/{key.pk}/change/")
    window.presses("Switch on")
    window.picture(tmp_path, "key-on")
    key.refresh_from_db()
    assert key.is_on
    assert window.problems == []


@pytest.mark.parametrize("language", ["en", "fa"])
@pytest.mark.parametrize("size", SIZES)
def test_no_page_fails_or_scrolls_sideways(browser, live_server, tara, hook, tmp_path, size, language):
    UserPreference.objects.create(user=tara, language=language)
    channel = make.make_channel(tara, name="my hook", target=hook)
    refused = {"attempts": 3, "last_error": "the receiver answered 500", "status_code": 500}
    delivery = make.make_delivery(channel=channel, **refused)
    key = make.make_inbound_key(tara.accounts.get().strategies.get())
    alert = make.make_alert(key, alert_id="ema-cross-BTCUSDT-2026-11-02T10:00:00Z", note="A later signal came first.")
    window = Window(browser, live_server.url, tara, SIZES[size])
    rows = {"notificationchannel": channel, "delivery": delivery, "inboundkey": key, "inboundalert": alert}
    for model, row in rows.items():
        for page in ("", f"{row.pk}/change/"):
            window.opens(f"{model}/{page}")
            window.picture(tmp_path, f"{model}{'-one' * bool(page)}")
    window.opens("notificationchannel/add/")
    window.picture(tmp_path, "add")
    assert window.problems == []
