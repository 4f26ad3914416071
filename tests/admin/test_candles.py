"""Stored candles on the page of a market: coverage, gaps, and the button that has workers fetch them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from algo.models import Candle, CandleFetch
from algo.selectors.rights import Role
from tests import factories as make
from tests.admin.pages import said, shown

pytestmark = pytest.mark.django_db
DAY = datetime(2026, 11, 1, tzinfo=UTC)
PERIOD = {"resolution": "60", "start": "2026-11-01", "end": "2026-11-02"}


@pytest.fixture
def market(db):
    """On 1 November, of 24 hourly candles four are missing: 03:00 to 04:59, and the last two."""
    market = make.make_market(provider="nobitex")
    hours = [hour for hour in range(22) if hour not in (3, 4)]
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), 1)
    Candle.objects.bulk_create(
        Candle(market=market, resolution="60", open_time=DAY + timedelta(hours=hour), **prices) for hour in hours
    )
    return market


def page(market):
    return f"/admin/algo/market/{market.pk}/candles/"


def signed_in(role):
    client = Client()
    client.force_login(make.make_user(is_staff=True, role=role))
    return client


def test_a_market_tells_what_is_stored_and_what_is_missing(browser, market):
    assert "Coverage and gaps" in shown(browser.get(f"/admin/algo/market/{market.pk}/change/"))
    text = shown(browser.get(page(market), PERIOD))
    assert "20 candles of this period are stored, 4 are missing in 2 gaps." in text
    assert "2026-11-01 03:00 2026-11-01 05:00 2" in text
    assert "2026-11-01 22:00 2026-11-02 00:00 2" in text
    assert "1 hour 20 2026-11-01 00:00 2026-11-01 21:00" in text
    assert "are missing" in shown(browser.get(page(market)))  # of the last 30 days, unless asked


@pytest.mark.parametrize(
    ("period", "words"),
    [
        ({"start": "2026-11-03"}, "It must lie before the end"),
        ({"start": "2020-01-01", "resolution": "1", "end": ""}, "more than 1,000,000 candles"),
        ({"start": "yesterday"}, "Enter a valid date"),
        ({"resolution": "7"}, "Select a valid choice"),
    ],
)
def test_a_period_that_cannot_be_shown_is_told_beside_its_field(browser, market, period, words):
    text = shown(browser.get(page(market), PERIOD | period))
    assert words in text
    assert "are missing" not in text


def test_what_is_missing_is_asked_for_once_and_its_state_is_shown(browser, market):
    answer = browser.post(page(market), PERIOD, follow=True)
    assert "Workers fetch them" in said(answer)[0]
    fetch = CandleFetch.objects.get()
    assert (fetch.market, fetch.resolution, fetch.start, fetch.end) == (market, "60", DAY, DAY + timedelta(days=1))
    assert fetch.requested_by.username == "admin"
    assert "Queued 0%" in shown(answer)
    browser.post(page(market), PERIOD)
    assert CandleFetch.objects.count() == 1
    assert "Queued" in shown(browser.get("/admin/algo/candlefetch/"))


def test_what_is_refused_is_told_beside_its_field(browser, market):
    text = shown(browser.post(page(market), {"resolution": "1", "start": "2026-01-01", "end": "2026-11-01"}))
    assert "That is more than 100,000 candles." in text
    assert not CandleFetch.objects.exists()


def test_a_viewer_looks_and_a_trader_fetches(market):
    viewer, trader = signed_in(Role.VIEWER), signed_in(Role.TRADER)
    assert "4 are missing" in shown(viewer.get(page(market), PERIOD))
    assert "Fetch what is missing" not in shown(viewer.get(page(market), PERIOD))
    assert viewer.post(page(market), PERIOD).status_code == 403
    assert not CandleFetch.objects.exists()
    assert "Fetch what is missing" in shown(trader.get(page(market), PERIOD))
    assert trader.post(page(market), PERIOD).status_code == 302
    assert CandleFetch.objects.count() == 1
