"""The dashboard in a real browser, with rows that a test makes and live events that it tells."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect
from rest_framework.renderers import JSONRenderer

from algo.api.serializers import DealSerializer, SignalSerializer
from algo.models import Candle, Deal, DealEvent, Heartbeat, MarketQuote, Signal, UserPreference
from algo.selectors.health import belonging
from algo.selectors.visible import signals_visible
from algo_trade.csp import strict_policy
from tests import factories as make
from tests.browser.live_double import LiveDouble, live_double

pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
DESKTOP, PHONE = (1280, 800), (360, 780)
MINUTE = timedelta(minutes=1)
BARS, OPENED_AGO = 320, 20
SIGNALS = (  # minutes ago, side, reason, denial
    (2, "BUY", "MOMENTUM", "cooldown"),
    (OPENED_AGO, "BUY", "BREAKOUT", ""),
    (64, "SELL", "BREAKOUT", "side_not_allowed"),
    (97, "BUY", "BREAKOUT", "spread_too_wide"),
    (131, "BUY", "MOMENTUM", "open_deal_exists"),
)


@pytest.fixture
def live(browser: Any, settings: Any, live_server: Any) -> Iterator[LiveDouble]:
    with live_double() as double:
        double.origin = live_server.url
        settings.LIVE_URL = double.url
        settings.CONTENT_SECURITY_POLICY = {"DIRECTIVES": strict_policy(double.url)}
        settings.EXCHANGE_ENVIRONMENT = "paper"
        yield double


class House:
    """What the page has to show: a strategy with candles, an open deal, one that earned, and signals."""

    def __init__(self) -> None:
        self.now = timezone.now().replace(microsecond=0)
        self.user = make.make_user("tara", is_staff=True, is_superuser=True)
        for name in belonging():
            Heartbeat.objects.create(name=name, at=self.now, detail={"up": True})
        balances = {"USDT": ["10250.5", "0"], "TMN": ["500000000", "0"], "BTC": ["0.05", "0"]}
        account = make.make_account(owner=self.user, name="main", balances=balances, balances_read_at=self.now)
        self.config = make.make_config(
            account=account, name="Careful breakouts", last_bar_at=self.now - MINUTE,
            parameters={"max_daily_trades": 12, "max_daily_loss_percent": "2"},
        )  # fmt: skip
        self.second = make.make_config(
            account=account, name="Second thoughts", market=make.make_market("ETHUSDT"), status="stopped"
        )
        self._candles()
        self._quote(self.config.market, "50120.5")
        self._quote(make.make_market("USDTIRT", provider="nobitex"), "101250")
        for ago, profit in ((50, "3.2"), (190, "-1.1"), (540, "4.75"), (720, "-0.8"), (1100, "6.05")):
            self._earned(ago, Decimal(profit))
        given = {
            ago: make.make_signal(
                self.config, created_at=self.now - ago * MINUTE, side=side, reason=reason, denial_code=denial
            )
            for ago, side, reason, denial in SIGNALS
        }
        self.deal = self._open(given[OPENED_AGO])

    def _open(self, signal: Signal) -> Any:
        """Bought at 50,000, its stop raised by 100 since."""
        opened = self.now - OPENED_AGO * MINUTE
        deal = make.make_open_deal(
            self.config, signal=signal, opened_at=opened, created_at=opened, stop_price=Decimal(49_950)
        )
        make.make_fill(make.make_order(deal), executed_at=opened, price=Decimal(50_000))
        self._moved(deal, opened + 8 * MINUTE, 49_850, 49_950)
        return deal

    def _earned(self, ago: int, profit: Decimal) -> None:
        """A deal that was held for 35 minutes, until `ago` minutes before now."""
        closed = self.now - ago * MINUTE
        opened = closed - 35 * MINUTE
        bought, sold = (self._close(minutes) for minutes in (ago + 35, ago))
        plan = {"planned_price": bought, "entry_price": bought, "initial_stop_price": bought - 60, "exit_price": sold}
        plan |= {"stop_price": bought - 25, "target_price": bought + 200}
        deal = make.make_closed_deal(
            self.config, profit=profit, opened_at=opened, closed_at=closed, created_at=opened, **plan
        )
        make.make_fill(make.make_order(deal), executed_at=opened, price=bought)
        make.make_fill(make.make_order(deal, role="TARGET"), executed_at=closed, price=sold)
        self._moved(deal, opened + 15 * MINUTE, bought - 60, bought - 25)

    def _moved(self, deal: Any, at: Any, before: Any, after: Any) -> None:
        detail = {"before": str(before), "after": str(after)}
        DealEvent.objects.create(deal=deal, at=at, kind="stop_moved", detail=detail)

    def _close(self, ago: int) -> Decimal:
        """Of the candle of so many minutes ago; of those that are not stored, the oldest."""
        return Decimal(self.closes[min(ago, BARS - 1)])

    def opens_on(self, symbol: str) -> Any:
        return make.make_open_deal(make.make_config(account=self.config.account, market=make.make_market(symbol)))

    def reads(self, language: str) -> None:
        UserPreference.objects.update_or_create(user=self.user, defaults={"language": language})

    def _candles(self) -> None:
        """A walk that is the same each time, through 50,000 when the open deal was bought."""
        dice, noise = random.Random(11), 0.0
        base = self.now.replace(second=0) - MINUTE
        self.closes = []
        for ago in range(BARS + 1):
            noise = 0.93 * noise + dice.gauss(0, 9)
            along = 50_115 - 115 * ago / OPENED_AGO if ago <= OPENED_AGO else 50_000 - 90 * math.sin((ago - 20) / 60)
            self.closes.append(round(along + noise * min(1.0, abs(ago - OPENED_AGO) / 15)))
        rows = []
        for ago in range(BARS):
            close, first = self.closes[ago], self.closes[ago + 1]
            rows.append(
                Candle(
                    market=self.config.data_market, resolution="1", open_time=base - ago * MINUTE, open=first,
                    high=max(first, close) + abs(round(dice.gauss(0, 6))), close=close,
                    low=min(first, close) - abs(round(dice.gauss(0, 6))), volume=round(dice.lognormvariate(1, 0.5), 2),
                )
            )  # fmt: skip
        Candle.objects.bulk_create(rows)
        for ago in range(200):
            ratio = math.exp(math.sin(ago / 9) / 2 + dice.gauss(0, 0.25))
            journal = {"indicators": {"order_book_ratio": ratio}}
            make.make_decision(self.config, bar_open_at=base - ago * MINUTE, journal=journal)

    def _quote(self, market: Any, bid: str) -> None:
        MarketQuote.objects.create(
            market=market, bid=Decimal(bid), ask=Decimal(bid) + 1, as_of=self.now, received_at=self.now
        )


@pytest.fixture
def house(live: LiveDouble) -> House:
    return House()


class Watcher:
    """A page that is open, and everything that went wrong on it."""

    def __init__(self, page: Page) -> None:
        self.page, self.problems = page, []
        page.on("console", lambda said: said.type == "error" and self.problems.append(said.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def is_live(self) -> None:
        """It listens, and has drawn what there was before: what is told now is drawn too."""
        expect(self.page.locator("#connection")).to_have_attribute("data-state", "live")
        expect(self.page.locator("main[aria-busy=false]")).to_be_attached()

    @property
    def fits(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.fixture
def opens(browser: Any, live_server: Any, house: House) -> Iterator[Callable[..., Watcher]]:
    """Opens the page as the house's user."""
    client = Client()
    client.force_login(house.user)
    cookie = client.cookies["sessionid"].value
    made = []

    def come(size: tuple[int, int] = DESKTOP, theme: str = "light", **more: Any) -> Watcher:
        context = browser.new_context(
            base_url=live_server.url, viewport={"width": size[0], "height": size[1]}, color_scheme=theme, **more
        )
        context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])
        made.append(context)
        watcher = Watcher(context.new_page())
        watcher.page.set_default_timeout(60_000)
        watcher.page.goto("/")
        return watcher

    yield come
    for context in made:
        context.close()


def row_of(row: Any) -> dict[str, Any]:
    """As the API gives it, and the live events with it."""
    if isinstance(row, Signal):
        row = signals_visible(row.config.account.owner).get(pk=row.pk)
    shown = {Deal: DealSerializer, Signal: SignalSerializer}[type(row)](row).data
    return json.loads(JSONRenderer().render(shown))


def quote_of(market: Any, bid: str, imbalance: str | None = "1.500") -> dict[str, Any]:
    at = timezone.now().isoformat()
    ask = str(Decimal(bid) + 1)
    return {"market": market.pk, "bid": bid, "ask": ask, "last": bid, "imbalance": imbalance, "at": at}


def cell(watcher: Watcher, deal: Any, of: str) -> Any:
    row = watcher.page.locator("#deals tbody tr", has=watcher.page.locator(f"#deal-{deal.pk}"))
    return row.locator(f"[data-of='{of}']")


LANGUAGES = ("en", "fa")
PICTURES = {
    ("en", DESKTOP, "light"): "dashboard",
    ("en", DESKTOP, "dark"): "dashboard-dark",
    ("en", PHONE, "light"): "dashboard-phone",
    ("fa", DESKTOP, "light"): "dashboard-persian",
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_it_is_drawn_fits_and_is_accessible(opens, live, house, picture, language, size, theme):
    house.reads(language)
    make.make_ticket(account=house.config.account)  # an alarm
    watcher = opens(size=size, theme=theme)
    watcher.is_live()
    live.tell("quote", quote_of(house.config.market, "50120.5"))
    share = {"en": "60 %", "fa": "۶۰٪"}[language]  # three of five
    expect(watcher.page.locator("#book-text")).to_contain_text(share)
    expect(watcher.page.locator("#price-words")).not_to_be_empty()
    expect(watcher.page.locator("#equity-words")).to_contain_text({"en": "+12.1 ", "fa": "+۱۲٫۱"}[language])
    expect(watcher.page.locator("html")).to_have_attribute("dir", {"en": "ltr", "fa": "rtl"}[language])
    assert watcher.fits
    found = Axe().run(watcher.page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")] == []
    if name := PICTURES.get((language, size, theme)):
        picture(watcher, name)
    assert watcher.problems == []


def test_prices_move_profit_and_distances_of_a_deal(opens, live, house):
    watcher = opens()
    watcher.is_live()
    live.tell("quote", quote_of(house.config.market, "50250"))
    deal = house.deal  # 0.01 bought at 50,000; stop 49,950, target 50,300
    expect(cell(watcher, deal, "price")).to_have_text("50,250")
    expect(cell(watcher, deal, "profit")).to_have_text("+2.5 USDT")
    expect(cell(watcher, deal, "to-stop")).to_have_text("0.60 %")  # 300 of 50,250
    expect(cell(watcher, deal, "to-target")).to_have_text("0.10 %")  # 50 of 50,250
    live.tell("quote", quote_of(house.config.market, "49900"))
    expect(cell(watcher, deal, "profit")).to_have_text("-1 USDT")
    expect(cell(watcher, deal, "to-stop")).to_have_text("-0.10 %")  # beyond it by 50
    assert watcher.problems == []


def test_an_unprotected_deal_is_red_and_its_seconds_count(opens, live, house):
    watcher = opens()
    watcher.is_live()
    expect(cell(watcher, house.deal, "protection")).to_have_text("Protected")
    house.deal.unprotected_since = timezone.now() - timedelta(seconds=5)
    live.tell("deal", row_of(house.deal))
    badge = cell(watcher, house.deal, "protection")
    expect(badge).to_have_class("badge bad")
    expect(badge).to_have_text(re.compile(r"Unprotected for [5-9] s"))
    expect(badge).to_have_text(re.compile(r"Unprotected for 1\d s"), timeout=15_000)
    house.deal.unprotected_since = None
    live.tell("deal", row_of(house.deal))
    expect(badge).to_have_class("badge good")


def test_a_deal_appears_and_goes_and_is_said(opens, live, house):
    watcher = opens()
    watcher.is_live()
    other = make.make_config(account=house.config.account, name="Night shift", market=make.make_market("DOGEUSDT"))
    deal = make.make_deal(other, status="ENTERING")
    live.tell("deal", row_of(deal))
    expect(cell(watcher, deal, "side")).to_have_text("Buy · Entering")
    expect(cell(watcher, deal, "protection")).to_have_text("Nothing filled yet")
    live.waits_for(connections=2)  # its market is listened to as well
    assert str(deal.market_id) in live.asked[-1]["markets"].split(",")
    assert live.asked[-1]["last_event_id"]
    deal.status, deal.entry_price, deal.entry_quantity = "OPEN", Decimal(50_000), Decimal("0.01")
    deal.save()
    live.tell("deal", row_of(deal))
    expect(watcher.page.locator("#said")).to_have_text("Deal opened: DOGEUSDT, Night shift")
    expect(watcher.page.locator("#deals-count")).to_have_text("2")
    deal.status = "CLOSED"
    live.tell("deal", row_of(deal))
    expect(watcher.page.locator("#said")).to_have_text("Deal closed: DOGEUSDT, Night shift")
    expect(cell(watcher, deal, "side")).to_have_count(0)
    live.tell("deal", {"id": house.deal.pk, "removed": True})
    expect(watcher.page.locator("#deals-empty")).to_be_visible()
    assert watcher.problems == []


def test_signals_come_with_their_reason_in_words(opens, live, house):
    watcher = opens()
    watcher.is_live()
    first = watcher.page.locator("#signals tbody tr").first
    expect(first).to_contain_text("denied: the pause after the last entry is not over")
    signal = make.make_signal(house.config, reason="ORDER_BOOK", side="SELL", denial_code="thin_book")
    live.tell("signal", row_of(signal))
    expect(first).to_contain_text("Sell the order book leans to one side")
    expect(first).to_contain_text("denied: the order book is too thin for the size")


def test_parts_of_the_server_come_again_and_what_has_the_focus_keeps_it(opens, live, house):
    watcher = opens()
    watcher.is_live()
    expect(watcher.page.locator("#alarms")).to_contain_text("No alarm")
    link = watcher.page.locator(f"#strategy-{house.config.pk}")
    link.focus()
    make.make_ticket(account=house.config.account)
    house.config.name = "Careful, renamed"
    house.config.save()
    live.tell("strategy", {"id": house.config.pk})
    expect(watcher.page.locator("#alarms")).to_contain_text("A ticket is open", timeout=15_000)
    expect(link).to_have_text("Careful, renamed")
    expect(link).to_be_focused()


def test_a_break_is_shown_and_nothing_that_happened_meanwhile_is_missed(opens, live, house):
    watcher = opens()
    watcher.is_live()
    live.tell("quote", quote_of(house.config.market, "50250"))
    expect(cell(watcher, house.deal, "price")).to_have_text("50,250")
    came_before = len(live.asked)
    live.drop()  # the server restarts: the browser comes back by itself
    live.waits_for(connections=came_before + 1)
    assert live.asked[-1]["came_back_from"]
    watcher.is_live()

    live.drop(refuses=3)
    expect(watcher.page.locator("#connection")).to_have_text("Connection lost, trying again …")
    watcher.is_live()
    assert live.asked[-1]["last_event_id"]
    deal = house.opens_on("ETHUSDT")
    live.tell("reset", {"why": "too long ago"})
    expect(cell(watcher, deal, "side")).to_have_text("Buy · Open")


def test_without_live_updates_the_page_says_so_and_looks_by_itself(opens, live, house):
    live.drop(refuses=10**6)
    watcher = opens()
    expect(cell(watcher, house.deal, "side")).to_have_text("Buy · Open")
    expect(watcher.page.locator("#connection")).to_have_text("Not live: looking every 15 seconds", timeout=20_000)
    deal = house.opens_on("ETHUSDT")
    expect(cell(watcher, deal, "side")).to_have_text("Buy · Open", timeout=40_000)


def test_candles_go_on_and_another_strategy_can_be_drawn(opens, live, house):
    watcher = opens()
    watcher.is_live()
    expect(watcher.page.locator("#price-legend")).to_contain_text("EMA 5")
    opened = house.now.replace(second=0)
    row = {
        "market": house.config.data_market_id, "resolution": "1", "time": opened.isoformat(), "open": "50010",
        "high": "50090", "low": "50000", "close": "50077.5", "volume": "3", "closed": True,
    }  # fmt: skip
    live.tell("candle", row)
    expect(watcher.page.locator("#price-words")).to_contain_text("last close 50,077.5")
    watcher.page.locator("#drawn").select_option(label="ETHUSDT @ Wallex · Second thoughts")
    expect(watcher.page.locator("#price-words")).to_have_text("No candles of this market are stored yet.")
    watcher.page.reload()
    expect(watcher.page.locator("#drawn")).to_have_value(str(house.second.pk))
    assert watcher.problems == []


def test_the_curve_is_shown_in_either_money_and_says_at_which_price(opens, live, house):
    watcher = opens()
    watcher.is_live()
    page = watcher.page
    expect(page.locator("#equity-words")).to_have_text("+12.1 USDT earned after fees in this time.")
    page.get_by_role("radio", name="Toman").check()
    expect(page.locator("#equity-notes")).to_contain_text("Left out: 5 deals, +12.1 USDT.")
    expect(page.locator("#equity-words")).to_have_text("No deal was closed in this time.")
    tether = make.make_market("USDTIRT", provider="nobitex")
    for ago in range(1, 24):
        at = house.now.replace(minute=0, second=0) - timedelta(hours=ago)
        price = dict.fromkeys(("open", "high", "low", "close"), Decimal(100_000))
        Candle.objects.create(market=tether, resolution="60", open_time=at, volume=1, **price)
    page.get_by_role("radio", name="Week").check()
    expect(page.locator("#equity-words")).to_have_text("+1,210,000 Toman earned after fees in this time.")
    expect(page.locator("#equity-notes")).to_contain_text("close of USDTIRT @ Nobitex")


def test_it_is_walked_through_with_the_keyboard_alone(opens, live, house):
    watcher = opens()
    watcher.is_live()
    page = watcher.page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#drawn")).to_be_focused()

    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.reload()
    watcher.is_live()
    places = []
    for _ in range(60):
        page.keyboard.press("Tab")
        place = page.evaluate(FOCUSED)
        if place is None:  # round and out of the page: no trap
            break
        places.append(place)
    else:
        raise AssertionError(f"no end after {places}")
    assert [each["what"] for each in places if not each["outlined"]] == []
    names = [each["what"] for each in places]
    assert len(names) == len(set(names))
    wanted = ["Skip to content", "algo_trade", "Admin", "Log out", "drawn", "span", "currency", f"#{house.deal.pk}"]
    assert [name for name in names if name in wanted] == wanted
    tops = [each["top"] for each in places if each["inside"]]
    assert tops == sorted(tops)

    page.locator("#span input").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Week")).to_be_checked()


FOCUSED = """() => {
    const it = document.activeElement;
    if (!it || it === document.body) return null;
    const shown = it.type === "radio" ? it.nextElementSibling : it;
    const card = it.closest(".columns, main > .card");
    return {
        what: it.name || it.id.match(/^(drawn)$/)?.[0] || it.textContent.trim(),
        outlined: getComputedStyle(shown).outlineStyle !== "none",
        inside: card !== null,
        top: card ? card.getBoundingClientRect().top + window.scrollY : 0,
    };
}"""


def test_the_theme_follows_the_system_until_somebody_chooses(opens, live, house):
    watcher = opens(theme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = watcher.page.evaluate(ground)
    watcher.page.emulate_media(color_scheme="light")
    light = watcher.page.evaluate(ground)
    assert (dark, light) == ("rgb(14, 17, 22)", "rgb(244, 245, 247)")
    button = watcher.page.locator("#theme")
    button.click()
    button.click()
    expect(button).to_have_text("Theme: dark")
    assert watcher.page.evaluate(ground) == dark
    watcher.page.reload()
    assert watcher.page.evaluate(ground) == dark
    watcher.page.goto("/admin/")
    expect(watcher.page.locator("html")).to_have_class(re.compile("dark"))
    assert watcher.problems == []


def test_who_is_signed_out_meanwhile_is_led_to_the_login(opens, live, house):
    watcher = opens()
    watcher.is_live()
    watcher.page.context.clear_cookies()
    live.tell("reset", {"why": "anything"})
    watcher.page.wait_for_url("**/admin/login/?next=/")


EVENTS, STRETCHES = 50_000, 5


def test_fifty_thousand_events_leave_the_page_as_small_as_it_was(opens, live, house):
    """More than eight hours of the demonstration bring: deals that open and close, signals, prices, candles."""
    watcher = opens()
    watcher.is_live()
    expect(watcher.page.locator("#price-words")).to_contain_text("last close")
    session = watcher.page.context.new_cdp_session(watcher.page)
    deal, signal = row_of(house.deal), row_of(make.make_signal(house.config, reason="BREAKOUT"))
    sizes, number = [], 0
    for stretch in range(STRETCHES):
        for _ in range(EVENTS // STRETCHES // 100):
            for kind, rows in a_hundred(house, deal, signal, number):
                live.tell(kind, *rows)
            number += 100
        end = f"{60_000 + stretch}"
        live.tell("quote", quote_of(house.config.market, end))
        expect(cell(watcher, house.deal, "price")).to_have_text(f"{60_000 + stretch:,}", timeout=60_000)
        session.send("HeapProfiler.collectGarbage")
        heap = session.send("Runtime.getHeapUsage")["usedSize"]
        sizes.append((watcher.page.evaluate("document.querySelectorAll('*').length"), heap))
    assert number == EVENTS
    assert watcher.page.locator("#deals tbody tr").count() <= 100
    assert watcher.page.locator("#signals tbody tr").count() == 30
    (nodes, heap), (last_nodes, last_heap) = sizes[0], sizes[-1]
    assert last_nodes <= nodes + 50, sizes
    assert last_heap < heap * 1.5 + 2_000_000, sizes
    assert watcher.problems == []


def a_hundred(
    house: House, deal: dict[str, Any], signal: dict[str, Any], number: int
) -> Iterator[tuple[str, list[Any]]]:
    """Twenty of each kind: half of the deals open, the other half close them."""
    ids = [10_000_000 + number + each for each in range(10)]
    yield "deal", [{**deal, "id": pk} for pk in ids]
    yield "quote", [quote_of(house.config.market, str(50_000 + (number + each) % 200)) for each in range(20)]
    yield "deal", [{**deal, "id": pk, "status": "CLOSED"} for pk in ids]
    yield "signal", [{**signal, "id": 10_000_000 + number + each} for each in range(20)]
    opened = house.now.replace(second=0) + number // 20 * MINUTE
    candle = {"market": house.config.data_market_id, "resolution": "1", "open": "1", "high": "2", "low": "1"}
    yield (
        "candle",
        [
            {
                **candle,
                "time": (opened + each // 4 * MINUTE).isoformat(),
                "close": "1.5",
                "volume": "1",
                "closed": each % 4 == 3,
            }
            for each in range(20)
        ],
    )
    yield "fill", [{"id": number + each} for each in range(20)]
