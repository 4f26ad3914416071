"""Payloads captured from the exchanges, and the samples of their documents, read by the real schemas and mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from providers.errors import (
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RejectReason,
    Unavailable,
)
from providers.http import Answer, to_json_number
from providers.nobitex import answers as nobitex_answers
from providers.nobitex import mapping as nobitex
from providers.nobitex import market_data as nobitex_market_data
from providers.nobitex import schemas as nobitex_wire
from providers.nobitex.mapping import Currencies, Pair
from providers.types import OrderRef, OrderRequest, OrderStatus, OrderType, Resolution, Side
from providers.wallex import answers as wallex_answers
from providers.wallex import mapping as wallex
from providers.wallex import schemas as wallex_wire
from providers.wire import UdfHistory, parse, to_candles
from tests.providers.test_fuzz import canned, client_of

RECEIVED = datetime(2026, 1, 1, tzinfo=UTC)


def load(path: Path) -> Any:
    return json.loads(path.read_text(), parse_float=to_json_number)


@pytest.fixture
def data(shared: Path) -> Path:
    return shared / "data"


# --- Wallex ---


@pytest.mark.parametrize("name", ["captured/wallex/v1_depth_BTCTMN.json", "documented/wallex/depth_BTCUSDT.json"])
def test_wallex_books(data: Path, name: str) -> None:
    payload = load(data / name)
    book = wallex.to_book("X", parse(wallex_wire.DepthSchema, payload["result"]), RECEIVED)
    assert book.is_usable
    assert len(book.asks) == len(payload["result"]["ask"])


def test_wallex_book_of_a_live_capture_in_toman(data: Path) -> None:
    payload = load(data / "captured/wallex/v1_depth_BTCTMN.json")
    book = wallex.to_book("BTCTMN", parse(wallex_wire.DepthSchema, payload["result"]), RECEIVED)
    assert book.best_ask == 6322171997
    assert book.asks[0].quantity == Decimal("0.006156")


def test_wallex_markets_and_their_decimals(data: Path) -> None:
    symbols = load(data / "documented/wallex/markets.json")["result"]["symbols"]
    rules = wallex.to_rules(parse(wallex_wire.MarketSchema, symbols["BTCUSDT"]), wallex.DOCUMENTED_FEES)
    assert (rules.tick_size, rules.step_size, rules.min_notional) == (Decimal("0.01"), Decimal("0.000001"), 10)


@pytest.mark.parametrize("name", ["orders_get", "orders_post", "openOrders"])
def test_wallex_orders(data: Path, name: str) -> None:
    result = load(data / f"documented/wallex/account_{name}.json")["result"]
    rows = wallex_answers.order_rows(result) if name == "openOrders" else [result]
    reports = [wallex.to_report(parse(wallex_wire.OrderSchema, row), row) for row in rows]
    assert [report.status for report in reports] == [OrderStatus.OPEN]
    assert reports[0].average_price is None, "the sample's executedPrice is of no execution"


def test_wallex_own_trades_and_public_trades(data: Path) -> None:
    rows = load(data / "documented/wallex/account_trades.json")["result"]["AccountLatestTrades"]
    fills = wallex.to_account_fills([parse(wallex_wire.AccountTradeSchema, row) for row in rows])
    assert (fills[0].fee_asset, fills[0].fee) == ("PAXG", Decimal("0.000009702"))
    public = load(data / "documented/wallex/trades_BTCUSDT.json")["result"]["latestTrades"]
    assert {parse(wallex_wire.TradeSchema, row).price for row in public} == {21100}


def test_wallex_balances(data: Path) -> None:
    balances = load(data / "documented/wallex/account_balances.json")["result"]["balances"]
    found = [wallex.to_balance(parse(wallex_wire.BalanceSchema, balance)) for balance in balances.values()]
    assert {balance.asset: balance.available for balance in found} == {"TMN": 10_000_000, "USDT": 10}


def without_ellipses(text: str) -> str:
    """JSON out of a sample that leaves things out."""
    return re.sub(r",\s*(?=[\]}])", "", text.replace("{ ... }", "[]").replace("...", ""))


def wallex_fees(text: str) -> Any:
    listed = without_ellipses(text).replace("[", "{").replace("]", "}")  # the sample prints a list with keys
    return json.loads(listed, parse_float=to_json_number)


def test_wallex_fees(data: Path) -> None:
    payload = wallex_fees((data / "documented/wallex/account_fee.txt").read_text())
    fees = wallex_answers.fees(Answer(200, payload))
    assert {symbol: fee.takerFeeRate for symbol, fee in fees.items()} == dict.fromkeys(
        ["BTCTMN", "BTCUSDT"], Decimal("0.002")
    )


def test_wallex_market_stats(data: Path) -> None:
    symbols = load(data / "documented/wallex/markets.json")["result"]["symbols"]
    stats = wallex.to_market_stats(parse(wallex_wire.MarketStatsSchema, symbols["BTCUSDT"]))
    assert (stats.best_bid, stats.change_24h_percent, stats.buy_share_percent) == (20900, Decimal("-0.04"), 49)


def test_wallex_currency_stats(data: Path) -> None:
    (row,) = load(data / "documented/wallex/currencies_stats.json")["result"]
    stats = wallex.to_stats(parse(wallex_wire.CurrencyStatsSchema, row))
    assert (stats.asset, stats.rank, stats.price_usd) == ("BTC", 1, 37276)
    assert stats.figures["ath_change_percentage"] == Decimal("-46.00463")
    assert "ath_date" not in stats.figures


def test_wallex_books_of_all_markets(data: Path) -> None:
    text = without_ellipses((data / "documented/wallex/depth_all.txt").read_text())
    books = json.loads(text, parse_float=to_json_number)["result"]
    assert set(books) == {"BTCUSDT", "SHIBUSDT", "USDTTMN"}
    book = wallex.to_book("BTCUSDT", parse(wallex_wire.DepthSchema, books["BTCUSDT"]), RECEIVED)
    assert (book.best_bid, book.bids[0].quantity) == (21100, Decimal("0.000001"))


def wallex_json(text: str) -> Any:
    return json.loads(text, parse_float=to_json_number)["result"]


def each(schema: Any, rows: Any) -> list[Any]:
    return [parse(schema, row) for row in rows]


def order_of(text: str) -> list[Any]:
    return each(wallex_wire.OrderSchema, [wallex_json(text)])


def book_of(text: str) -> list[Any]:
    return each(wallex_wire.DepthSchema, [wallex_json(text)])


WALLEX_READERS = {
    "v1_depth_BTCTMN.json": book_of,
    "depth_BTCUSDT.json": book_of,
    "depth_all.txt": lambda text: book_of(
        json.dumps({"result": wallex_json(without_ellipses(text))["BTCUSDT"]}, default=str)
    ),
    "markets.json": lambda text: each(wallex_wire.MarketSchema, wallex_json(text)["symbols"].values()),
    "trades_BTCUSDT.json": lambda text: each(wallex_wire.TradeSchema, wallex_json(text)["latestTrades"]),
    "udf_history_BTCTMN_60.json": lambda text: to_candles(parse(UdfHistory, json.loads(text))),
    "currencies_stats.json": lambda text: each(wallex_wire.CurrencyStatsSchema, wallex_json(text)),
    "account_fee.txt": lambda text: wallex_answers.fees(Answer(200, wallex_fees(text))),
    "account_balances.json": lambda text: each(wallex_wire.BalanceSchema, wallex_json(text)["balances"].values()),
    "account_orders_post.json": order_of,
    "account_orders_get.json": order_of,
    "account_openOrders.json": lambda text: each(wallex_wire.OrderSchema, wallex_answers.order_rows(wallex_json(text))),
    "account_trades.json": lambda text: each(
        wallex_wire.AccountTradeSchema, wallex_answers.own_trade_rows(wallex_json(text))
    ),
}


def test_wallex_every_file_is_read(data: Path) -> None:
    """A file without a reader fails here. The samples of the streams are read by the tests of the streams."""
    files = [file for folder in ("captured", "documented") for file in (data / folder / "wallex").iterdir()]
    for file in files:
        if not file.name.startswith("ws_"):
            assert WALLEX_READERS[file.name](file.read_text()), file.name


# --- Nobitex ---


@pytest.mark.parametrize("folder", ["captured", "documented"])
def test_nobitex_books_are_rial_on_the_wire(data: Path, folder: str) -> None:
    payload = load(data / f"{folder}/nobitex/v3_orderbook_BTCIRT.json")
    book = nobitex.to_book("BTCIRT", parse(nobitex_wire.OrderBookSchema, payload))
    assert book.is_usable
    assert book.best_ask == Decimal(payload["asks"][0][0]) / 10
    assert book.last_price == Decimal(payload["lastTradePrice"]) / 10


def test_nobitex_books_of_all_markets(data: Path) -> None:
    payload = load(data / "documented/nobitex/v3_orderbook_all.json")
    books = [parse(nobitex_wire.OrderBookSchema, entry) for entry in payload.values() if isinstance(entry, dict)]
    assert [book.lastTradePrice for book in books] == [None, None]


def test_nobitex_candles_are_toman_and_stats_of_the_same_moment_rial(data: Path) -> None:
    candles = to_candles(parse(UdfHistory, load(data / "captured/nobitex/udf_history_BTCIRT_5_trimmed.json")))
    stats = load(data / "captured/nobitex/market_stats_btc-rls_trimmed.json")["stats"]["btc-rls"]
    latest = Pair("BTC", "IRT").from_wire(Decimal(stats["latest"]))
    assert abs(candles[-1].close / latest - 1) < Decimal("0.01")


@pytest.mark.parametrize(
    ("name", "count"),
    [("captured/nobitex/udf_history_BTCUSDT_5_trimmed", 3), ("documented/nobitex/udf_history_BTCIRT_D", 2)],
)
def test_nobitex_candles(data: Path, name: str, count: int) -> None:
    candles = to_candles(parse(UdfHistory, load(data / f"{name}.json")))
    assert len(candles) == count
    assert all(candle.low <= candle.close <= candle.high for candle in candles)


def test_nobitex_days_open_at_midnight_in_tehran(data: Path) -> None:
    candles = to_candles(parse(UdfHistory, load(data / "documented/nobitex/udf_history_BTCIRT_D.json")))
    assert candles[0].open_time == datetime(2019, 7, 2, 19, 30, tzinfo=UTC)


def test_nobitex_charts_without_candles(data: Path) -> None:
    for name, status in [("no_data", "no_data"), ("error_resolution", "error")]:
        assert parse(UdfHistory, load(data / f"documented/nobitex/udf_history_{name}.json")).s == status


def test_nobitex_options(data: Path) -> None:
    options = parse(nobitex_wire.OptionsSchema, load(data / "documented/nobitex/v2_options.json"))
    rules = {rule.symbol: rule for rule in nobitex.to_rules(options, {}, nobitex.DOCUMENTED_FEES)}
    assert set(rules) == {"BTCIRT", "BTCUSDT", "ETHIRT"}
    assert (rules["BTCIRT"].tick_size, rules["BTCIRT"].min_notional) == (1, 300_000)
    assert Currencies(options.coins).code("﷼") == "IRT"


def test_nobitex_stats_of_every_capture(data: Path) -> None:
    files = [*data.glob("captured/nobitex/market_stats_*.json"), data / "documented/nobitex/market_stats.json"]
    assert len(files) == 5
    for file in files:
        assert not any(entry.isClosed for entry in nobitex_market_data.market_states(Answer(200, load(file))).values())


ORDERS = [
    ("orders_add_limit", OrderStatus.OPEN, "BTCIRT", None),
    ("orders_add_stop_market", OrderStatus.OPEN, "DOGEIRT", OrderType.STOP_MARKET),
    ("orders_status", OrderStatus.OPEN, "LITECOINIRT", None),
    ("orders_update_status_cancel", OrderStatus.CANCELED, "USDTIRT", OrderType.MARKET),
]


@pytest.mark.parametrize(("name", "status", "symbol", "kind"), ORDERS)
def test_nobitex_orders(data: Path, name: str, status: OrderStatus, symbol: str, kind: OrderType | None) -> None:
    raw = load(data / f"documented/nobitex/{name}.json")["order"]
    wire = parse(nobitex_wire.OrderSchema, raw)
    coins = [nobitex_wire.CoinSchema(coin="btc", name="Bitcoin")]
    report = nobitex.to_report(wire, raw, nobitex.pair_of(wire, Currencies(coins)))
    assert (report.status, report.symbol, report.type, report.filled_quantity) == (status, symbol, kind, 0)
    assert json.loads(json.dumps(report.raw))["id"] == raw["id"]


def test_nobitex_list_and_oco(data: Path) -> None:
    (row,) = load(data / "documented/nobitex/orders_list.json")["orders"]
    report = nobitex.to_report(parse(nobitex_wire.OrderSchema, row), row, Pair("BTC", "USDT"))
    assert (report.exchange_order_id, report.price, report.fee) == ("173546223", Decimal("9750.01"), 0)
    rows = load(data / "documented/nobitex/orders_add_oco.json")["orders"]
    legs = [nobitex.to_report(parse(nobitex_wire.OrderSchema, leg), leg, Pair("BTC", "USDT")) for leg in rows]
    limit, stop = nobitex.oco_legs(legs)
    assert (limit.exchange_order_id, stop.exchange_order_id, stop.stop_price) == ("27", "28", 42700)


def test_nobitex_trades_and_wallets(data: Path) -> None:
    (row,) = load(data / "documented/nobitex/trades_list_own.json")["trades"][:1]
    fill = nobitex.to_fill(parse(nobitex_wire.OwnTradeSchema, row), Pair("USDT", "IRT"))
    assert (fill.price, fill.fee_asset) == (31680, "IRT")
    wallets = load(data / "documented/nobitex/v2_wallets.json")["wallets"]
    found = [nobitex.to_balance(code, parse(nobitex_wire.WalletSchema, wallet)) for code, wallet in wallets.items()]
    assert [(balance.asset, balance.total) for balance in found] == [("IRT", 0), ("BTC", 0)]
    trades = load(data / "documented/nobitex/v2_trades.json")["trades"]
    assert parse(nobitex_wire.TradeSchema, trades[0]).price == 1470000110


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("BadPrice", RejectReason.PRICE_OUT_OF_BAND),
        ("OverValueOrder", RejectReason.INSUFFICIENT_BALANCE),
        ("ParseError", RejectReason.INVALID),
    ],
)
def test_nobitex_refusals_of_live_captures(data: Path, name: str, reason: RejectReason) -> None:
    answer = Answer(200, load(data / f"captured/nobitex/error_orders_add_{name}.json"))
    with pytest.raises(OrderRejected) as caught:
        nobitex_answers.accepted(answer, is_stop=False)
    assert (caught.value.reason, caught.value.code) == (reason, name)


def refused_with(error: type[ProviderError], code: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """A reader for an answer that must raise `error` naming `code`."""

    def reader_of(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def read(client: Any) -> Any:
            with pytest.raises(error, match=code) as caught:
                call(client)
            return caught.value

        return read

    return reader_of


SOLD = OrderRequest("ORDER1", "BTCIRT", Side.SELL, OrderType.LIMIT, Decimal(1), price=Decimal(1))
SINCE = datetime(2019, 1, 1, tzinfo=UTC)
ADDED = refused_with(OrderRejected, "nobitex refused the order")(lambda client: client.create_order(SOLD))
# Our ids have no lower case, so that the samples of orders/add answer no order of ours: their rows are read alone.
NOBITEX_READERS: dict[str, Callable[[Any], Any]] = {
    "v3_orderbook_BTCIRT.json": lambda client: client.order_book("BTCIRT"),
    "v3_orderbook_all.json": lambda client: client.order_books(),
    "v2_depth_BTCIRT.json": lambda client: client.depth("BTCIRT"),
    "v2_trades.json": lambda client: client.public_trades("BTCIRT"),
    "v2_options.json": lambda client: client._options(),
    "market_stats.json": lambda client: client.market_stats(),
    "market_stats_btc-rls_trimmed.json": lambda client: client.market_stats("BTCIRT"),
    "market_stats_btc-usdt_trimmed.json": lambda client: client.market_stats("BTCUSDT"),
    "market_stats_usdt-irr_part.json": lambda client: client.market_stats("USDTIRT"),
    "market_stats_usdt-rls_zero_latest_part.json": lambda client: client.market_stats("USDTIRT"),
    "udf_history_BTCIRT_5_trimmed.json": lambda client: client._chart("BTCIRT", Resolution.M5, 0, 1),
    "udf_history_BTCUSDT_5_trimmed.json": lambda client: client._chart("BTCUSDT", Resolution.M5, 0, 1),
    "udf_history_BTCIRT_D.json": lambda client: client._chart("BTCIRT", Resolution.D1, 0, 1),
    "udf_history_no_data.json": lambda client: client._chart("BTCIRT", Resolution.D1, 0, 1) == [],
    "udf_history_error_resolution.json": refused_with(Unavailable, "Invalid resolution")(
        lambda client: client._chart("BTCIRT", Resolution.D1, 0, 1)
    ),
    "users_wallets_list.json": lambda client: client.wallets(),
    "v2_wallets.json": lambda client: client.balances() == {},
    "users_wallets_balance.json": lambda client: client.wallet_balance("BTC"),
    "orders_list.json": lambda client: client.orders_since("BTCUSDT", SINCE),
    "orders_status.json": lambda client: client.fetch_order(OrderRef("LTCIRT", None, "5684")),
    "orders_update_status_cancel.json": lambda client: client.cancel_order(OrderRef("USDTIRT", None, "5684")),
    "orders_cancel_old.json": lambda client: client.cancel_old() is None,
    "trades_list_own.json": lambda client: client.own_trades_from(1, "USDTIRT"),
    "error_no_credentials.json": refused_with(AuthFailed, "HTTP 401")(lambda client: client.balances()),
    "error_orders_add_BadPrice.json": ADDED,
    "error_orders_add_OverValueOrder.json": ADDED,
    "error_orders_add_ParseError.json": ADDED,
    "error_v2_orderbook_InvalidSymbol.json": refused_with(BadPayload, "InvalidSymbol")(
        lambda client: client.order_book("BTCIRT")
    ),
    "orders_add_error_shape.json": refused_with(OutcomeUnknown, "ErrorCode")(lambda client: client.create_order(SOLD)),
    "orders_status_error_shape.json": refused_with(OrderNotFound, "does not show")(
        lambda client: client.fetch_order(OrderRef("BTCIRT", None, "1"))
    ),
    "orders_update_status_error_shape.json": refused_with(OrderNotFound, "ErrorCode")(
        lambda client: client.cancel_order(OrderRef("BTCIRT", None, "1"))
    ),
    "orders_cancel_old_error_shape.json": refused_with(OutcomeUnknown, "ErrorCode")(lambda client: client.cancel_old()),
}
NOT_READ_HERE = {
    "orders_add_limit.json": "test_nobitex_orders",
    "orders_add_stop_market.json": "test_nobitex_orders",
    "orders_add_oco.json": "test_nobitex_list_and_oco",
}


def test_nobitex_every_file_is_read_by_the_whole_client(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without a reader fails here. The samples of the streams (ws_) are read by the tests of the streams."""
    files = [file for folder in ("captured", "documented") for file in sorted((data / folder / "nobitex").iterdir())]
    assert len(files) > 40
    for file in files:
        if file.name.startswith("ws_") or file.name in NOT_READ_HERE:
            continue
        canned(monkeypatch, 401 if "credentials" in file.name else 200, file.read_bytes())
        assert NOBITEX_READERS[file.name](client_of("nobitex")), file.name


def test_nobitex_the_undocumented_order_of_a_depth_and_a_fault_in_the_stats(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned(monkeypatch, 200, (data / "documented/nobitex/v2_depth_BTCIRT.json").read_bytes())
    depth = client_of("nobitex").depth("BTCIRT")
    assert (depth.bids[0].price, depth.asks[0].price) == (Decimal("731002500"), Decimal("740989400"))
    canned(
        monkeypatch,
        200,
        (data / "captured/nobitex/market_stats_usdt-rls_zero_latest_part.json").read_bytes(),
    )
    day = client_of("nobitex").market_stats("USDTIRT")["USDTIRT"]
    assert (day.last_price, day.close, day.change_rate, day.best_ask) == (None, None, None, 27150)
