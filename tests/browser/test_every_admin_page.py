"""Every address that the admin has, in Persian and in English, on a desk and on a phone, in one window for each
language: nothing fails in it, it is no wider than the window, and axe finds nothing serious."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import URLPattern
from django_celery_beat.models import ClockedSchedule, IntervalSchedule, PeriodicTask

from algo.admin.act_pages import ActPages
from algo.models import Deal, MarketQuote, UserPreference
from tests import factories as make
from tests.admin.conftest import account, admin_user, config
from tests.admin.test_pages import house
from tests.factories import NOW

__all__ = ["account", "admin_user", "config", "house"]
pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 780}
OF_THE_SITE = ("/admin/", "/admin/password_change/", "/preferences/")
REFUSED = {302, 403, 405}  # rows that nobody adds or deletes, and addresses that are only posted to
SERIOUS = ("serious", "critical")


@pytest.fixture
def rows(house: Deal, admin_user: Any) -> None:
    """What `house` has none of: an open deal, a working entry, a strategy that was changed, a schedule."""
    config = make.make_config(account=house.account, name="second", market=make.make_market("ETHUSDT"))
    config.name = "changed"
    config.save()
    deal = make.make_open_deal(config)
    make.make_order(deal)
    quote_of = {"bid": "50000", "ask": "50001", "as_of": NOW, "received_at": NOW}
    MarketQuote.objects.create(market=config.market, **quote_of)
    every_minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    ClockedSchedule.objects.create(clocked_time=NOW)
    PeriodicTask.objects.create(name="a task", task="algo.tasks.run_strategies", interval=every_minute)


def addresses() -> Iterator[str]:
    """From the registry: a page that is added is walked without a word here."""
    yield from OF_THE_SITE
    for model, page in admin.site._registry.items():
        kind = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        shown = (model.objects.order_by("pk").first(), model.objects.order_by("pk").last())
        for pattern in page.get_urls():
            if not isinstance(pattern, URLPattern) or not pattern.name:
                continue  # what Django keeps for old links
            route = str(pattern.pattern)
            if route.endswith("/report/"):
                continue  # a file that was kept, not a page of the admin
            for row in dict.fromkeys(shown) if "<" in route else (None,):
                yield from (kind + path for path in filled(route, page, row))


def filled(route: str, page: Any, row: Any) -> Iterator[str]:
    """A route with a row in its holes; none where there is no row."""
    if "<" in route and row is None:
        return
    for hole in ("<path:object_id>", "<id>"):
        route = route.replace(hole, quote(str(row.pk))) if row is not None else route
    if "<int:history_id>" in route:
        first = row.history.order_by("history_id").first()
        if first is None:
            return
        route = route.replace("<int:history_id>", str(first.history_id))
    if "<slug:name>" in route and isinstance(page, ActPages):
        yield from (route.replace("<slug:name>", act.name) for act in page.acts)
        return
    assert "<" not in route, f"what stands in {route}?"
    yield route


def pages(client: Client) -> list[str]:
    """Those of them that show something."""
    found = []
    for address in dict.fromkeys(addresses()):
        answer = client.get(address)
        assert answer.status_code in {200, *REFUSED}, (address, answer.status_code)
        if answer.status_code == 200 and answer["Content-Type"].startswith("text/html"):
            found.append(address)
    return found


# Django's own field that searches (select2) names neither its box nor its list: its label is that of the select
# behind it, which is hidden. Nothing of ours makes these elements.
OF_SELECT2 = ("label", "aria-input-field-name")


def is_excepted(rule: str, html: str) -> bool:
    return rule in OF_SELECT2 and "select2" in html


WIDE = """() => {
    const root = document.documentElement, most = window.innerWidth;
    if (root.scrollWidth <= most) return "";
    const sticks = each => each.getBoundingClientRect().right > most || each.getBoundingClientRect().left < 0;
    const out = [...document.querySelectorAll("body *")].filter(sticks).pop();
    return `${root.scrollWidth} in ${most}: ${(out || root).outerHTML.slice(0, 200)}`;
}"""


@pytest.mark.parametrize(("language", "size"), [("fa", PHONE), ("en", DESKTOP)], ids=["persian-phone", "english-desk"])
def test_no_admin_page_fails_scrolls_sideways_or_is_out_of_reach(
    browser, live_server, rows, admin_user, picture, language, size
):
    UserPreference.objects.update_or_create(
        user=admin_user, defaults={"language": language, "calendar": "", "digits": ""}
    )
    client = Client()
    client.force_login(admin_user)
    walked = pages(client)
    assert len(walked) > 3 * len(admin.site._registry)
    context = browser.new_context(base_url=live_server.url, viewport=size, color_scheme="light")
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])
    page, found = context.new_page(), []
    page.on("console", lambda said: said.type == "error" and found.append((page.url, "console", said.text)))
    page.on("pageerror", lambda error: found.append((page.url, "error", str(error))))
    axe = Axe()

    for address in walked:
        page.goto(address, wait_until="load", timeout=60_000)
        if page.locator("html").get_attribute("dir") != {"fa": "rtl", "en": "ltr"}[language]:
            found.append((address, "direction", ""))
        for each in axe.run(page).response["violations"]:
            nodes = [node["html"] for node in each["nodes"] if not is_excepted(each["id"], node["html"])]
            if each["impact"] in SERIOUS and nodes:
                found.append((address, each["id"], nodes[0][:300]))
        for window in (DESKTOP, PHONE) if size is PHONE else (PHONE, DESKTOP):
            page.set_viewport_size(window)
            if wide := page.evaluate(WIDE):
                found.append((address, "wide", wide))
        page.set_viewport_size(size)
    context.close()
    assert not found, "\n".join(" | ".join(each) for each in found)
