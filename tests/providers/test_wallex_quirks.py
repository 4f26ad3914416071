"""Habits of Wallex that its contract names, one test each (contract: wallex 1.3, 2 to 6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.errors import (
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    RejectReason,
    Unavailable,
)
from providers.types import KeyDetails, OrderRef, OrderStatus, Side
from providers.wallex.client import WallexClient
from tests.providers.conftest import NOW, WALLEX_KEY, Reply, Request, ScriptedExchange
from tests.providers.test_wallex_client import REF, buy, ok, refused
from tests.providers.test_wallex_mapping import fill, order, report

THEIRS = "LIMIT-670f7c34-d609-40d3-b98e-0150640d79cb"
ACTIVE = {
    "symbol": "BTCTMN",
    "base_asset": "BTC",
    "quote_asset": "TMN",
    "amount_precision": 8,
    "price_precision": 0,
    "price": "6322171997.0000000000000000",
    "volume_24h": 1e-06,
    "change_24h": "-",
    "is_spot": True,
    "flags": [],
}
LISTED = {
    "symbol": "BTCTMN",
    "baseAsset": "BTC",
    "quoteAsset": "TMN",
    "stepSize": 8,
    "tickSize": 0,
    "minNotional": "5e4",
}


# --- who asks ---


def test_a_sub_account_is_named_beside_its_key_and_only_where_the_key_goes(exchange: ScriptedExchange) -> None:
    client = WallexClient(exchange.url, api_key=WALLEX_KEY, sub_account_client_id="SUB-7")
    exchange.replies(ok({"balances": []}), ok({"ask": [], "bid": []}))
    client.balances()
    client.order_book("BTCTMN")
    private, public = ({name.lower() for name in request.headers} for request in exchange.requests)
    assert {"x-api-key", "sub-account-client-id"} <= private
    assert not {"x-api-key", "sub-account-client-id"} & public
    assert exchange.requests[0].headers["sub-account-client-id"] == "SUB-7"


def test_refused_market_data_silences_neither_cancels_nor_the_account(exchange: ScriptedExchange) -> None:
    """Polled market data may be refused (contract: wallex 1.4); what ends risk goes on."""

    def answer(request: Request) -> Reply:
        if request.path.endswith("/v1/depth"):
            return Reply({"success": False, "code": 429}, 429)
        if request.method == "DELETE":
            return ok(order(active=False, status="CANCELED"))
        return ok({"orders": []} if "Orders" in request.path else {"balances": []})

    exchange.answer = answer
    client = WallexClient(exchange.url, api_key=WALLEX_KEY)
    with pytest.raises(RateLimited):
        client.order_book("USDTTMN")
    assert client.cancel_order(REF).status is OrderStatus.CANCELED
    assert client.open_orders() == []
    assert client.balances() == {}


def test_a_key_without_a_sub_account_names_none(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok({"balances": []}))
    assert wallex.balances() == {}, "an empty object may arrive as a list"
    assert "sub-account-client-id" not in {name.lower() for name in exchange.requests[0].headers}


@pytest.mark.parametrize("wrong", ["", "two words", "شناسه", "a\r\nx-evil: 1"])
def test_a_sub_account_that_cannot_be_a_header_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="sub-account"):
        WallexClient("http://127.0.0.1:9", api_key=WALLEX_KEY, sub_account_client_id=wrong)


def test_a_working_key_tells_neither_scopes_nor_expiry_and_the_profile_is_not_kept(
    wallex: WallexClient, exchange: ScriptedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    exchange.replies(ok({"first_name": "Zohreh", "mobile_number": "0912****345", "status": []}))
    assert wallex.key_details() == KeyDetails(scopes=None, expires_at=None)
    assert exchange.requests[0].path.endswith("/v1/account/profile")
    assert "Zohreh" not in caplog.text + repr(vars(wallex))


@pytest.mark.parametrize("reply", [refused(401, 1201), refused(200, 1201), refused(403, 403)])
def test_a_key_that_is_refused_says_so(wallex: WallexClient, exchange: ScriptedExchange, reply: Reply) -> None:
    exchange.replies(reply)
    with pytest.raises(AuthFailed):
        wallex.key_details()
    assert len(exchange.requests) == 1


# --- the forms of a no ---


@pytest.mark.parametrize(
    ("reply", "error", "reason"),
    [
        (refused(422, 422, {"error_code": 1006}), OrderRejected, RejectReason.INSUFFICIENT_BALANCE),
        (refused(422, 422, {"error_code": ["1003"]}), OrderRejected, RejectReason.BELOW_MINIMUM),
        (refused(422, 422, {"error_code": []}), OrderRejected, RejectReason.INVALID),
        (refused(422, 422, {"error_code": [4711]}), OrderRejected, RejectReason.INVALID),
        (refused(400, 4711), OrderRejected, RejectReason.OTHER),
        (Reply({"success": False, "code": 422, "message": "x", "result": None}, 422), OrderRejected, None),
        (Reply({"success": False, "code": 422, "message": "x", "result": []}, 422), OrderRejected, None),
        (refused(404, 404), OrderRejected, None),
        (Reply({"message": "no Route matched"}, 404), OutcomeUnknown, None),  # of a gateway
        (Reply({"detail": "Method Not Allowed"}, 405), OutcomeUnknown, None),
        (Reply(b"<html>", 404, kind="text/html"), OutcomeUnknown, None),
        (Reply(b"<html>", 502, kind="text/html"), OutcomeUnknown, None),
        (refused(408, 408), OutcomeUnknown, None),
    ],
)
def test_only_the_exchanges_own_word_is_a_no_to_an_order(
    wallex: WallexClient,
    exchange: ScriptedExchange,
    reply: Reply,
    error: type[ProviderError],
    reason: RejectReason | None,
) -> None:
    exchange.replies(reply)
    with pytest.raises(error) as caught:
        wallex.create_order(buy())
    assert type(caught.value) is error
    assert reason in (None, getattr(caught.value, "reason", None))
    assert len(exchange.requests) == 1


def test_an_unknown_code_is_kept_as_it_is(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(refused(422, 422, {"error_code": [4711], "quantity": ["نه"]}))
    with pytest.raises(OrderRejected, match="code 4711,422 fields quantity") as caught:
        wallex.create_order(buy())
    assert caught.value.code == "4711"


def test_success_false_with_status_200_is_no_answer_to_a_read(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(refused(200, 500))
    with pytest.raises(BadPayload):
        wallex.open_orders()


def test_a_success_needs_neither_status_201_nor_a_known_message(
    wallex: WallexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(ok(order(), 200, message="done", provider="x"))
    assert wallex.create_order(buy()).status is OrderStatus.OPEN


def test_the_404_of_a_gateway_does_not_prove_that_an_order_is_absent(
    wallex: WallexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(Reply({"message": "no Route matched"}, 404))
    with pytest.raises(BadPayload):
        wallex.fetch_order(REF)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (refused(404, 404), OrderNotFound),
        (Reply({"detail": "Not Found"}, 404), Unavailable),
        (Reply(b"<html>", 405, kind="text/html"), Unavailable),
    ],
)
def test_a_cancel_that_no_form_reaches_is_not_called_an_unknown_order(
    wallex: WallexClient, exchange: ScriptedExchange, reply: Reply, error: type[ProviderError]
) -> None:
    exchange.replies(reply)
    with pytest.raises(error):
        wallex.cancel_order(REF)
    assert len(exchange.requests) == 3


# --- ids ---


def test_an_id_made_by_the_exchange_is_asked_for_and_canceled_with_its_hyphens(
    wallex: WallexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(ok(order(clientOrderId=THEIRS)), ok(order(clientOrderId=THEIRS, active=False, status="CANCELED")))
    ref = OrderRef("USDTTMN", "T1ABC", THEIRS)
    assert wallex.fetch_order(ref).exchange_order_id == THEIRS
    assert wallex.cancel_order(ref).status is OrderStatus.CANCELED
    assert {request.path for request in exchange.requests} == {f"/some/prefix/v1/account/orders/{THEIRS}"}


# --- status (contract: wallex 6) ---


@pytest.mark.parametrize("label", ["PENDING", "OPEN", "DONE", "CLOSED", "FINISHED", "CANCELLED"])
@pytest.mark.parametrize(("active", "status"), [(True, OrderStatus.OPEN), (False, OrderStatus.CANCELED)])
def test_a_label_seen_only_in_other_peoples_code_is_decided_by_active(
    label: str, active: bool, status: OrderStatus
) -> None:
    """Rule 4 would have `active` decide over any label. We let it for the labels that the contract names; one that it
    does not name may mean something about money that nobody foresaw, and raises (see test_an_unknown_status_raises)."""
    assert report(status=label, active=active).status is status


def test_a_market_order_that_the_band_ended_keeps_what_it_filled() -> None:
    """Rule 6: the exchange cancels the rest by itself."""
    found = report(type="MARKET", executedQty="4", executedSum="915600", active=False, status="CANCELED", price=None)
    assert (found.status, found.filled_quantity, found.price) == (OrderStatus.CANCELED, 4, None)


def test_values_that_may_be_null_or_a_dash_or_have_an_exponent() -> None:
    nothing = {name: None for name in ("fee", "executedSum", "executedPrice", "fills", "stopPrice", "created_at")}
    found = report(**nothing, origSum=None, sum=None, price="-", executedQty="0E-8", stopPriceCondition=None)
    assert (found.price, found.filled_quantity, found.fee, found.created_at) == (None, 0, None, None)


def test_times_come_with_and_without_microseconds() -> None:
    stamps = {report(created_at=f"2026-01-01T10:00:00{end}").created_at for end in ("Z", ".000000Z", "+00:00")}
    assert stamps == {datetime(2026, 1, 1, 10, tzinfo=UTC)}


# --- public data ---


def test_a_market_where_nothing_was_traded_has_no_figures(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    dashes = dict.fromkeys(["bidPrice", "askPrice", "lastPrice", "24h_highPrice", "24h_lowPrice", "24h_ch"], "-")
    bare = LISTED | {"stats": dashes | {"24h_volume": "0E-16", "direction": [], "lastTradeSide": None}}
    traded = {"bidPrice": "20900.0", "24h_ch": -0.04, "direction": {"SELL": 51, "BUY": 49}}
    other = LISTED | {"symbol": "XTMN", "stats": traded | {"lastTradeSide": "SELL", "lastQty": "20991.43"}}
    none = LISTED | {"symbol": "YTMN", "stats": []}
    exchange.replies(ok({"symbols": {"BTCTMN": bare, "XTMN": other, "YTMN": none}}))
    stats = wallex.market_stats()
    assert (stats["BTCTMN"].last_price, stats["BTCTMN"].change_24h_percent) == (None, None)
    assert (stats["BTCTMN"].volume_24h, stats["BTCTMN"].buy_share_percent) == (0, None)
    assert (stats["XTMN"].last_side, stats["XTMN"].buy_share_percent) == (Side.SELL, 49)
    assert stats["YTMN"].best_bid is None


def test_the_current_list_has_grids_as_decimals_and_other_kinds_of_market(
    wallex: WallexClient, exchange: ScriptedExchange
) -> None:
    exchange.replies(ok({"markets": [ACTIVE, ACTIVE | {"symbol": "GOLDTMN", "is_spot": False}, {"symbol": "BAD"}]}))
    spot, other = wallex.active_markets()
    assert (spot.symbol, spot.step_size, spot.tick_size) == ("BTCTMN", Decimal("1e-8"), 1)
    assert (spot.price, spot.volume_24h, spot.change_24h_percent) == (6322171997, Decimal("0.000001"), None)
    assert (spot.is_spot, other.is_spot) == (True, False)
    assert exchange.requests[0].path.endswith("/hector/web/v1/markets")


def test_books_of_all_markets_come_at_once_and_one_that_cannot_be_read_is_left_out(
    wallex: WallexClient, exchange: ScriptedExchange
) -> None:
    level = {"price": 21100, "quantity": 1e-06, "sum": "0.0211"}
    exchange.replies(ok({"BTCUSDT": {"ask": [level], "bid": []}, "ODD": [], "XTMN": {"ask": [], "bid": []}}))
    books = wallex.order_books()
    assert set(books) == {"BTCUSDT", "XTMN"}
    assert books["BTCUSDT"].asks[0].quantity == Decimal("0.000001")
    assert exchange.requests[0].path.endswith("/v2/depth/all")


def test_public_trades_say_who_took(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    row = {"symbol": "BTCTMN", "quantity": "1", "price": "10", "sum": "10", "timestamp": "2026-01-01T10:00:00Z"}
    later = row | {"price": "11", "isBuyOrder": False, "timestamp": "2026-01-01T10:00:01.000000Z"}
    exchange.replies(ok({"latestTrades": [row | {"isBuyOrder": True}, later]}))
    newest, oldest = wallex.public_trades("BTCTMN")
    assert (newest.price, newest.side, oldest.side) == (11, Side.SELL, Side.BUY)
    assert exchange.requests[0].query == {"symbol": "BTCTMN"}


@pytest.mark.parametrize(
    "result",
    [
        {"BTC": {"networks": [{"name": "BITCOIN"}]}, "ETH": {}},
        [{"key": "BTC", "networks": {"BITCOIN": {"name": "BITCOIN"}}}, {"key": "eth", "networks": []}],
    ],
)
def test_currencies_are_read_whether_they_are_a_map_or_a_list(
    wallex: WallexClient, exchange: ScriptedExchange, result: Any
) -> None:
    exchange.replies(ok(result))
    bitcoin, ether = wallex.currencies()
    assert (bitcoin.asset, ether.asset) == ("BTC", "ETH")
    assert (bitcoin.networks, ether.networks) == (({"name": "BITCOIN"},), ())


def test_worldwide_figures_may_be_null(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    row = {"key": "BTC", "name_en": "BITCOIN", "rank": 1, "price": 37276, "market_cap": None, "ath": 69045.5}
    exchange.replies(ok([row | {"ath_date": "2021-11-10T14:24:11Z", "max_supply": None}]))
    (stats,) = wallex.currency_stats()
    assert (stats.price_usd, stats.market_cap_usd, stats.figures) == (37276, None, {"ath": Decimal("69045.5")})


def test_fair_prices(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    exchange.replies(ok({"BTCTMN": "1000000000", "PEPETMN": 0.394, "DEAD": "-"}))
    assert wallex.fair_prices() == {"BTCTMN": 1000000000, "PEPETMN": Decimal("0.394")}


def test_fees_skip_what_is_no_market(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    rates = {"makerFeeRate": "0.00200000", "takerFeeRate": "0.00250000", "recent_days_sum": 250000000.00}
    exchange.replies(ok({"BTCTMN": rates, "default": [], "metaData": {"levels": [], "coin_levels": []}}))
    fees = wallex.fees()
    assert list(fees) == ["BTCTMN"]
    assert (fees["BTCTMN"].maker, fees["BTCTMN"].taker) == (Decimal("0.002"), Decimal("0.0025"))


# --- lists, page by page ---


def paged(rows: list[Any], size: int, *, counts: bool, key: str) -> Any:
    """Answers pages of `size`, with or without counting all rows, as `per_page` has it or smaller."""

    def answer(request: Request) -> Reply:
        if "page" not in request.query:
            return ok([])
        page = int(request.query["page"]) - 1
        part = rows[page * size : (page + 1) * size]
        info = {"page": page + 1, "per_page": size, "count": len(part), "total_count": len(rows)}
        more = {"result_info": info} if counts else {}
        return ok({key: part}, **more)

    return answer


sizes = st.one_of(
    st.tuples(st.integers(1, 100), st.just(True)),  # any page size where the exchange counts
    st.tuples(st.integers(10, 100), st.just(False)),  # a plausible one where it does not
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(size=sizes, count=st.integers(0, 60))
def test_any_split_into_pages_gives_the_same_orders(
    wallex: WallexClient, exchange: ScriptedExchange, size: tuple[int, bool], count: int
) -> None:
    rows = [order(clientOrderId=f"T1_{n}") for n in range(count)]
    exchange.answer = paged(rows, size[0], counts=size[1], key="orders")
    assert [found.client_order_id for found in wallex.open_orders("USDTTMN")] == [f"T1_{n}" for n in range(count)]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(size=sizes, seconds=st.lists(st.integers(0, 5), max_size=60), newest_first=st.booleans())
def test_any_split_into_pages_gives_the_same_trades_equal_ones_included(
    wallex: WallexClient, exchange: ScriptedExchange, size: tuple[int, bool], seconds: list[int], newest_first: bool
) -> None:
    ordered = sorted(seconds, reverse=newest_first)
    # two and two are equal where their second is
    rows = [fill("100", str(1 + n // 2), second) | {"symbol": "USDTTMN"} for n, second in enumerate(ordered)]
    exchange.answer = paged(rows, 100, counts=False, key="AccountLatestTrades")
    whole = wallex.own_trades("USDTTMN", NOW - timedelta(days=1))
    exchange.answer = paged(rows, size[0], counts=size[1], key="AccountLatestTrades")
    assert wallex.own_trades("USDTTMN", NOW - timedelta(days=1)) == whole
    assert len(whole) == len({trade.trade_id for trade in whole}) == len(rows)


def test_an_exchange_that_ignores_the_page_of_trades_counts_once(
    wallex: WallexClient, exchange: ScriptedExchange
) -> None:
    rows = [fill("100", "1", n) | {"symbol": "USDTTMN"} for n in range(12)]
    exchange.replies(ok({"AccountLatestTrades": rows}))
    assert len(wallex.own_trades("USDTTMN", NOW - timedelta(days=1))) == 12
    assert len(exchange.requests) == 2


def test_trades_are_read_until_they_are_old_enough(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    rows = [fill("100", "1", 50 - n) | {"symbol": "USDTTMN"} for n in range(50)]
    exchange.answer = paged(rows, 10, counts=True, key="AccountLatestTrades")
    recent = wallex.own_trades("USDTTMN", datetime(2026, 1, 1, 10, 0, 45, tzinfo=UTC))
    assert [trade.executed_at.second for trade in recent] == [45, 46, 47, 48, 49, 50]
    assert len(exchange.requests) == 1


def test_history_may_be_a_map_by_market_with_its_count_beside(wallex: WallexClient, exchange: ScriptedExchange) -> None:
    rows = {"USDTTMN": [order(active=False, status="CANCELED")], "result_info": {"page": 1}}
    exchange.answer = lambda request: ok([]) if "openOrders" in request.path else ok(rows)
    assert [found.status for found in wallex.orders_since("USDTTMN", NOW - timedelta(days=1))] == [OrderStatus.CANCELED]
