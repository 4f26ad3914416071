"""Every page, on a desk and on a phone, light and dark: nothing fails on it, and nothing is wider than the window."""

from __future__ import annotations

import pytest

from tests.browser.visitor import DESKTOP, PHONE

pytestmark = [pytest.mark.long, pytest.mark.e2e]
LISTS = (
    "algo/deal", "algo/order", "algo/fill", "algo/signal", "algo/systemcontrol", "algo/ticket", "algo/heartbeat",
    "django_celery_beat/periodictask", "algo/strategyconfig", "algo/account", "algo/market", "algo/backtestrun",
    "algo/candlefetch", "algo/optimisationrun", "algo/parityreport", "algo/decision", "algo/auditrecord",
    "algo/outboxevent", "algo/probeorder", "algo/notificationchannel", "algo/delivery", "algo/inboundkey",
    "algo/inboundalert", "auth/user", "auth/group", "knox/authtoken",
)  # fmt: skip
FORMS = (
    "algo/strategyconfig/add", "algo/account/add", "algo/notificationchannel/add", "algo/inboundkey/add",
    "auth/user/add", "auth/group/add",
)  # fmt: skip
WITH_ROWS = (
    "algo/deal", "algo/order", "algo/fill", "algo/signal", "algo/heartbeat", "django_celery_beat/periodictask",
    "algo/strategyconfig", "algo/account", "algo/market", "algo/decision", "algo/auditrecord", "algo/outboxevent",
    "auth/user", "auth/group", "knox/authtoken",
)  # fmt: skip
FIRST_ROW_SECONDS = 200
PICTURES = {
    (DESKTOP, "light"): "admin-home",
    (DESKTOP, "dark"): "admin-home-dark",
    (PHONE, "light"): "admin-home-phone",
}


@pytest.fixture
def address_of_first_row(visitor):
    """The page of the first row of a list, once it has one."""
    admin = visitor("admin")

    def find(kind: str) -> str:
        admin.opens(f"/admin/{kind}/")
        admin.waits_for(f"a row of {kind}", lambda: admin.rows().count() > 0, FIRST_ROW_SECONDS)
        admin.opens_first_row()
        return admin.page.url

    return find


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_fails_or_scrolls_sideways(visitor, address_of_first_row, picture, size, theme):
    details = [address_of_first_row(kind) for kind in WITH_ROWS]
    acts = [details[0].replace("/change/", f"/act/{act}/") for act in ("close", "move-stop", "re-protect")]
    details += [
        address_of_first_row("algo/market").replace("/change/", "/candles/"),
        address_of_first_row("algo/strategyconfig").replace("/change/", "/history/"),
    ]
    one = visitor("admin", size=size, theme=theme)
    if name := PICTURES.get((size, theme)):
        picture(one, name)
    for address in ["/admin/", *(f"/admin/{path}/" for path in (*LISTS, *FORMS)), *details, *acts]:
        one.opens(address)
        one.finds_it_fits()
    assert one.misfits == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_api_pages_load_without_an_error(visitor, picture, size):
    somebody = visitor(size=size)
    somebody.opens("/api/")
    somebody.sees("/api/v1/deals")
    if size == DESKTOP:
        picture(somebody, "api")
    somebody.opens("/api/redoc/")
    somebody.sees("algo_trade API")
    somebody.sees("Response samples")
