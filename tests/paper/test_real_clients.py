"""The platform's own clients against the paper exchange: what `./run` does all day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from providers.errors import OrderRejected, RejectReason
from providers.interface import ExchangeProvider
from providers.provider_factory import create_provider
from providers.types import OcoRequest, OrderRef, OrderRequest, OrderStatus, OrderType, Resolution, Side
from tests.paper.world import KEY, TOKEN, Server, running


@pytest.fixture(scope="module")
def own_server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("clients"), "--seed", "4") as server:
        yield server


@pytest.fixture(params=["wallex", "nobitex"])
def client(request, own_server) -> ExchangeProvider:
    key = KEY if request.param == "wallex" else TOKEN
    return create_provider(request.param, base_url=f"{own_server.url}/{request.param}", api_key=key)


def name() -> str:
    return uuid4().hex[:24].upper()


def toman_symbol(client: ExchangeProvider) -> str:
    return "BTCTMN" if client.name == "wallex" else "BTCIRT"


def test_market_data_of_both_exchanges_is_in_platform_units(client):
    rules = {rule.pair: rule for rule in client.markets()}
    assert rules["BTC/USDT"].tick_size == Decimal("0.01")
    assert rules["BTC/IRT"].tick_size == 1
    now = datetime.now(UTC)
    candles = client.candles(toman_symbol(client), Resolution.M1, now - timedelta(hours=2), now)
    book, last = client.order_book(toman_symbol(client)), client.last_price(toman_symbol(client))
    assert len(candles) in (120, 121)
    assert book.is_usable
    for price in (candles[-1].close, book.mid_price):
        assert abs(price / last - 1) < Decimal("0.02")


def test_an_entry_a_stop_and_its_cancel(client):
    symbol, since = "BTCUSDT", datetime.now(UTC) - timedelta(minutes=1)
    last = client.last_price(symbol)
    entry = OrderRequest(name(), symbol, Side.BUY, OrderType.MARKET, Decimal("0.003"), price=last)
    report = client.create_order(entry)
    report = client.fetch_order(OrderRef(symbol, entry.client_order_id, report.exchange_order_id, since))
    assert (report.status, report.filled_quantity) == (OrderStatus.FILLED, Decimal("0.003"))
    fills = client.fetch_fills(report)
    assert sum(fill.quantity for fill in fills) == Decimal("0.003")
    assert {fill.fee_asset for fill in fills} == {"BTC"}
    stop_price = (last * Decimal("0.9")).quantize(Decimal("0.01"))
    stop = OrderRequest(name(), symbol, Side.SELL, OrderType.STOP_MARKET, Decimal("0.002"), stop_price=stop_price)
    placed = client.create_order(stop)
    ref = OrderRef(symbol, stop.client_order_id, placed.exchange_order_id, since)
    assert client.fetch_order(ref).stop_price == stop_price
    assert stop.client_order_id in {order.client_order_id for order in client.open_orders(symbol)}
    assert client.balances()["BTC"].locked >= Decimal("0.002")
    assert client.cancel_order(ref).status is OrderStatus.CANCELED
    ids = {order.client_order_id for order in client.orders_since(symbol, since)}
    assert {entry.client_order_id, stop.client_order_id} <= ids
    assert sum(fill.quantity for fill in client.own_trades(symbol, since)) >= Decimal("0.003")


def test_a_refusal_says_why(client):
    last = client.last_price("BTCUSDT")
    price = (last * Decimal("1.1")).quantize(Decimal("0.01"))
    with pytest.raises(OrderRejected) as caught:
        client.create_order(OrderRequest(name(), "BTCUSDT", Side.SELL, OrderType.LIMIT, Decimal(500), price=price))
    assert caught.value.reason is RejectReason.INSUFFICIENT_BALANCE


def test_an_oco_where_there_is_one(client):
    last = client.last_price("BTCUSDT")
    target, stop, limit = ((last * Decimal(f)).quantize(Decimal("0.01")) for f in ("1.1", "0.9", "0.89"))
    request = OcoRequest(name(), "BTCUSDT", Side.SELL, Decimal("0.01"), target, stop, limit)
    if not client.capabilities().oco:
        with pytest.raises(OrderRejected):
            client.create_oco(request)
        return
    legs = client.create_oco(request)
    assert [leg.status for leg in legs] == [OrderStatus.OPEN, OrderStatus.OPEN]
    client.cancel_order(OrderRef("BTCUSDT", None, legs[1].exchange_order_id))
    assert client.fetch_order(OrderRef("BTCUSDT", None, legs[0].exchange_order_id)).status is OrderStatus.CANCELED
