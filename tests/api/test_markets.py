from __future__ import annotations

import csv
import io
from datetime import timedelta
from decimal import Decimal

import pytest
from rest_framework.test import APIClient

from algo.models import Candle, CandleFetch, MarketQuote
from algo.selectors.rights import Role
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def market():
    return make.make_market(provider="nobitex")


def store(market, minutes, price="50000.10"):
    Candle.objects.bulk_create(
        Candle(
            market=market,
            resolution="1",
            open_time=NOW + minute * MINUTE,
            open=Decimal(price),
            high=Decimal(price),
            low=Decimal("0.00000001"),
            close=Decimal(price) - minute,
            volume=Decimal(minute),
        )
        for minute in minutes
    )


def get(api, market, path="", **query):
    return api.get(f"/api/v1/markets/{market.pk}{path}", {"resolution": "1", **query} if path else query)


def test_markets_show_their_rules_and_the_last_quote_that_a_stream_told(api, market):
    other = make.make_market("ETHTMN")
    MarketQuote.objects.create(market=other, bid="99.50", ask="100", last=None, as_of=NOW, received_at=NOW)
    rows = {row["symbol"]: row for row in api.get("/api/v1/markets").json()["results"]}
    assert rows["BTCUSDT"]["last_quote"] is None
    assert rows["ETHTMN"]["last_quote"]["bid"] == "99.5"
    shown = get(api, market).json()
    assert (shown["tick_size"], shown["min_notional"], shown["taker_fee_rate"]) == ("0.01", "5", "0.003")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"provider": "nobitex"}, {"BTCUSDT"}),
        ({"symbol": "ethtmn"}, {"ETHTMN"}),
        ({"base": "eth"}, {"ETHTMN"}),
        ({"quote": "USDT"}, {"BTCUSDT"}),
        ({"pair": "ETH/IRT"}, {"ETHTMN"}),
        ({"is_open": "false"}, {"ETHTMN"}),
    ],
)
def test_markets_are_filtered(api, market, query, found):
    make.make_market("ETHTMN", is_open=False)
    assert {row["symbol"] for row in api.get("/api/v1/markets", query).json()["results"]} == found


def test_candles_are_exact_text_oldest_first(api, market):
    store(market, [0, 1])
    told = get(api, market, "/candles").json()
    assert (told["market"], told["resolution"], told["next"]) == (market.pk, "1", None)
    assert told["candles"] == [
        {
            "open_time": "2026-11-02T10:00:00Z",
            "open": "50000.1",
            "high": "50000.1",
            "low": "0.00000001",
            "close": "50000.1",
            "volume": "0",
        },
        {
            "open_time": "2026-11-02T10:01:00Z",
            "open": "50000.1",
            "high": "50000.1",
            "low": "0.00000001",
            "close": "49999.1",
            "volume": "1",
        },
    ]


def test_a_period_is_read_in_pages_that_leave_nothing_out(api, market):
    store(market, [0, 1, 2, 4, 5])
    start, seen = (NOW + MINUTE).isoformat(), []
    while start:
        page = get(api, market, "/candles", limit=2, **{"from": start, "to": (NOW + 5 * MINUTE).isoformat()}).json()
        seen += [candle["open_time"][14:16] for candle in page["candles"]]
        start = page["next"]
    assert seen == ["01", "02", "04"]


def test_without_a_beginning_the_newest_candles_come(api, market):
    store(market, range(5))
    page = get(api, market, "/candles", limit=2).json()
    assert [candle["open_time"][14:16] for candle in page["candles"]] == ["03", "04"]
    page = get(api, market, "/candles", limit=2, to="2026-11-02T10:02:00Z").json()
    assert [candle["open_time"][14:16] for candle in page["candles"]] == ["00", "01"]


@pytest.mark.parametrize("asked", [{"format": "csv"}, {"HTTP_ACCEPT": "text/csv"}])
def test_candles_come_as_csv_too(api, market, asked):
    store(market, [0, 1, 2])
    header = {name: value for name, value in asked.items() if name.startswith("HTTP")}
    query = {"resolution": "1", "from": NOW.isoformat(), "limit": 2, **({} if header else asked)}
    answer = api.get(f"/api/v1/markets/{market.pk}/candles", query, **header)
    assert answer["Content-Type"].startswith("text/csv")
    assert answer["X-Next-From"] == "2026-11-02T10:02:00Z"
    header_line, first, second = csv.reader(io.StringIO(answer.content.decode()))
    assert header_line == ["open_time", "open", "high", "low", "close", "volume"]
    assert first == ["2026-11-02T10:00:00Z", "50000.1", "50000.1", "0.00000001", "50000.1", "0"]
    assert second[5] == "1"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"resolution": "7"}, "resolution"),
        ({"limit": "0"}, "limit"),
        ({"limit": "5001"}, "limit"),
        ({"from": "yesterday"}, "from"),
        ({"to": "0001-01-01T00:00:00Z"}, "to"),
        ({"from": "2026-11-02T10:00:00Z", "to": "2026-11-02T10:00:00Z"}, "to"),
    ],
)
@pytest.mark.parametrize("form", ["json", "csv"])
def test_what_cannot_be_asked_for_is_named_by_its_field(api, market, query, field, form):
    answer = get(api, market, "/candles", format=form, **query)
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, field)


def test_coverage_tells_what_is_missing(api, market):
    store(market, [0, 1, 4])
    period = {"from": NOW.isoformat(), "to": (NOW + 6 * MINUTE).isoformat()}
    told = get(api, market, "/candles/coverage", **period).json()
    assert (told["stored"], told["missing"], told["gap_count"]) == (3, 3, 2)
    assert (told["first"], told["last"]) == ("2026-11-02T10:00:00Z", "2026-11-02T10:04:00Z")
    assert told["gaps"] == [
        {"start": "2026-11-02T10:02:00Z", "end": "2026-11-02T10:04:00Z", "bars": 2},
        {"start": "2026-11-02T10:05:00Z", "end": "2026-11-02T10:06:00Z", "bars": 1},
    ]


def test_coverage_of_too_long_a_period_is_refused(api, market):
    answer = get(api, market, "/candles/coverage", **{"from": "2001-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "from")


def test_no_market_no_candles(api):
    assert api.get("/api/v1/markets/1/candles", {"resolution": "1"}).status_code == 404
    assert APIClient().get("/api/v1/markets/1/candles").status_code == 401


# --- having candles fetched -------------------------------------------------------------------------------------------


def fetch(client, market, **query):
    given = {"resolution": "1", "from": "2026-10-01T00:00:00Z", "to": "2026-10-02T00:00:00Z", **query}
    return client.post(f"/api/v1/markets/{market.pk}/candles/fetch", given, format="json")


def test_a_trader_has_candles_fetched_and_twice_is_once(api, market):
    answer = fetch(api, market)
    assert answer.status_code == 202, answer.content
    asked = answer.json()
    assert (asked["status"], asked["reached"], asked["missing"]) == ("queued", "2026-10-01T00:00:00Z", None)
    assert fetch(api, market).json()["id"] == asked["id"]
    assert api.get(f"/api/v1/candle-fetches/{asked['id']}").json() == asked
    assert [row["id"] for row in api.get(f"/api/v1/candle-fetches?market={market.pk}").json()["results"]] == [
        asked["id"]
    ]


def test_a_viewer_has_nothing_fetched(market):
    viewer = APIClient()
    viewer.force_authenticate(make.make_user(role=Role.VIEWER))
    assert fetch(viewer, market).status_code == 403
    assert not CandleFetch.objects.exists()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": None}, "from"),
        ({"from": "2026-10-02T00:00:00Z"}, "to"),
        ({"from": "2020-01-01T00:00:00Z"}, "from"),
        ({"from": "0001-01-01T00:00:00Z"}, "from"),
        ({"from": "2190-01-01T00:00:00Z", "to": "2190-01-02T00:00:00Z"}, "from"),
        ({"resolution": "x"}, "resolution"),
    ],
)
def test_what_cannot_be_fetched_is_named_by_its_field(api, market, query, field):
    answer = fetch(api, market, **query)
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, field)
    assert not CandleFetch.objects.exists()
