"""The exchange of the simulated world: the platform's own clients live their orders in process, on virtual time, and
see what they would see over sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from providers.budgets import InProcessBudget, Limit
from providers.errors import (
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    Unavailable,
)
from providers.http import READ_ATTEMPTS
from providers.paper.app import build_app
from providers.paper.engine import Exchange
from providers.paper.faults import FaultKind, FaultRule
from providers.paper.orders import Instruction
from providers.transport import Lost, NotSent, Reply, Request
from providers.types import ZERO, OcoRequest, OrderRef, OrderReport, OrderRequest, OrderStatus, OrderType, Side
from tests.simulation.venue import (
    START,
    VENUES,
    InstantTransport,
    Liquidity,
    SimExchange,
    VirtualTime,
)

SYMBOL, PAIR = "BTCUSDT", "BTC/USDT"
HELD = {"USDT": "100000", "BTC": "10", "IRT": "1000000000"}


def D(text: str) -> Decimal:
    return Decimal(text)


@dataclass
class Bench:
    """One trader at one venue, and his client."""

    name: str
    time: VirtualTime
    exchange: SimExchange
    trader: Any
    client: Any

    def request(self, cid: str, side: Side, kind: OrderType, quantity: str, **prices: Decimal) -> OrderRequest:
        return OrderRequest(cid, SYMBOL, side, kind, D(quantity), **prices)

    def place(self, cid: str, side: Side, kind: OrderType, quantity: str, **prices: Decimal) -> OrderReport:
        return self.client.create_order(self.request(cid, side, kind, quantity, **prices))

    def market(self, cid: str, side: Side, quantity: str) -> OrderReport:
        return self.place(cid, side, OrderType.MARKET, quantity, price=D("100"))

    def read(self, report: OrderReport) -> OrderReport:
        return self.client.fetch_order(OrderRef(SYMBOL, report.client_order_id, report.exchange_order_id, START))

    def cancel(self, report: OrderReport) -> OrderReport:
        return self.client.cancel_order(OrderRef(SYMBOL, report.client_order_id, report.exchange_order_id, START))

    def price(self, price: str, after: float = 1.0) -> None:
        self.time.step(after)
        self.exchange.set_price(PAIR, D(price))

    def fault(self, kind: FaultKind, method: str = "*", path: str = "*", **params: object) -> int:
        rule = FaultRule(kind, method=method, path=path, account="ann", nth=1, params=params)
        return self.exchange.add_fault(rule)

    def truth(self) -> dict[str, Any]:
        return self.exchange.truth("ann", self.name)


def make_bench(name: str, **options: Any) -> Bench:
    at = VirtualTime()
    exchange = SimExchange(at, **options)
    trader = exchange.open_account("ann", {name: HELD})
    return Bench(
        name, at, exchange, trader, client_of(trader, name, InstantTransport(exchange, name, sleep=at.step), at)
    )


def client_of(trader: Any, name: str, transport: Any, at: VirtualTime) -> Any:
    budget = InProcessBudget({"default": Limit(10**9, 1.0)}, monotonic=at.monotonic, sleep=at.step)
    return trader.client(name, transport=transport, clock=at, host=at.host(), budget=budget)


@pytest.fixture(params=VENUES)
def bench(request: pytest.FixtureRequest) -> Bench:
    return make_bench(request.param)


# --- the life of an order -------------------------------------------------------------------------------------------


def test_an_entry_fills_its_stop_rests_and_triggers_when_the_price_gets_there(bench: Bench):
    entry = bench.read(bench.market("ENTRY", Side.BUY, "1"))
    assert (entry.status, entry.filled_quantity) == (OrderStatus.FILLED, 1)
    fee_rate = {"wallex": D("0.003"), "nobitex": D("0.002")}[bench.name]
    assert [(f.price, f.quantity, f.fee, f.fee_asset) for f in bench.client.fetch_fills(entry)] == [
        (D("100.02"), D("1"), fee_rate, "BTC")
    ]
    assert bench.client.balances()["USDT"].total == D("99899.98")
    stop = bench.place("STOP", Side.SELL, OrderType.STOP_MARKET, "0.9", stop_price=D("99"))
    assert (bench.read(stop).status, bench.client.balances()["BTC"].locked) == (OrderStatus.OPEN, D("0.9"))
    bench.price("99.01")
    assert [order.client_order_id for order in bench.client.open_orders(SYMBOL)] == ["STOP"]
    bench.price("98.50")
    done = bench.read(stop)
    assert (done.status, done.filled_quantity) == (OrderStatus.FILLED, D("0.9"))
    assert [fill.price for fill in bench.client.fetch_fills(done)] == [D("98.49")]  # the bid when it triggered
    assert bench.client.open_orders() == []
    assert bench.exchange.conservation() == "ok"


def test_a_resting_limit_is_found_by_both_names_and_canceled_once(bench: Bench):
    placed = bench.place("REST", Side.BUY, OrderType.LIMIT, "2", price=D("90"))
    for ref in (OrderRef(SYMBOL, "REST"), OrderRef(SYMBOL, None, placed.exchange_order_id)):
        assert bench.client.fetch_order(ref).status is OrderStatus.OPEN
    assert bench.client.balances()["USDT"].locked == 180
    assert bench.cancel(placed).status is OrderStatus.CANCELED
    assert bench.client.balances()["USDT"].locked == 0
    with pytest.raises(OrderNotFound):
        bench.cancel(placed)
    with pytest.raises(OrderNotFound):
        bench.client.fetch_order(OrderRef(SYMBOL, "NEVER"))


def test_a_resting_limit_fills_as_maker_when_the_price_goes_through_it(bench: Bench):
    placed = bench.place("REST", Side.BUY, OrderType.LIMIT, "2", price=D("99"))
    bench.price("98.99")
    assert [(f.price, f.quantity) for f in bench.client.fetch_fills(bench.read(placed))] == [(D("99"), D("2"))]


def test_the_lists_hold_every_order_and_trade(bench: Bench):
    bench.market("M1", Side.BUY, "1")
    bench.time.step(1)
    bench.market("M2", Side.BUY, "0.5")
    bench.time.step(1)
    bench.place("REST", Side.BUY, OrderType.LIMIT, "2", price=D("90"))
    since = [report.client_order_id for report in bench.client.orders_since(SYMBOL, START)]
    assert since == ["M1", "M2", "REST"]
    assert [fill.quantity for fill in bench.client.own_trades(SYMBOL, START)] == [1, D("0.5")]
    assert [order.client_order_id for order in bench.client.open_orders(SYMBOL)] == ["REST"]
    assert [order["client_order_id"] for order in bench.truth()["orders"]] == since


def test_the_market_is_seen_as_the_world_set_it(bench: Bench):
    assert {rules.symbol for rules in bench.client.markets()} >= {SYMBOL}
    bench.exchange.shape_book(PAIR, Liquidity(D("0.01"), D("0.02"), levels=2, quantity=D("3"), growth=D("2")))
    bench.price("200")
    book = bench.client.order_book(SYMBOL)
    assert [(level.price, level.quantity) for level in book.bids] == [(199, 3), (195, 6)]
    assert [(level.price, level.quantity) for level in book.asks] == [(201, 3), (205, 6)]
    assert bench.client.last_price(SYMBOL) == 200
    bench.exchange.set_price(PAIR, D("150"), venue=next(name for name in VENUES if name != bench.name))
    bench.time.step(2)
    assert bench.client.last_price(SYMBOL) == 200  # the other venue's price is another


def test_an_oco_of_nobitex_cancels_its_other_leg():
    bench = make_bench("nobitex")
    asked = OcoRequest("OCO", SYMBOL, Side.SELL, D("2"), D("110"), D("95"), D("94"))
    target, stop = bench.client.create_oco(asked)
    assert bench.client.balances()["BTC"].locked == 2
    bench.price("110.01")
    assert (bench.read(target).status, bench.read(stop).status) == (OrderStatus.FILLED, OrderStatus.CANCELED)


def test_a_market_order_leaves_what_lies_outside_the_band(bench: Bench):
    """Asks at 100.02, 100.42, 100.82 lie within 1 %, those up to 101.62 within 2 %: two BTC each."""
    bench.read(report := bench.market("BIG", Side.BUY, "50"))
    done = bench.client.orders_since(SYMBOL, START)[0]
    assert report.client_order_id == "BIG"
    assert done.status is OrderStatus.CANCELED
    assert done.filled_quantity == {"wallex": 10, "nobitex": 6}[bench.name]


def test_what_was_taken_from_a_book_is_back_a_second_later(bench: Bench):
    bench.market("M1", Side.BUY, "2")
    bench.time.step(1)
    assert bench.client.order_book(SYMBOL).asks[0].quantity == 2


def test_a_price_set_at_a_moment_that_was_lived_through_is_not_lost(bench: Bench):
    stop = bench.place("STOP", Side.SELL, OrderType.STOP_MARKET, "1", stop_price=D("99"))
    bench.exchange.set_price(PAIR, D("98"))  # the same instant as the order
    bench.exchange.set_price(PAIR, D("101"))
    bench.time.step(1)
    assert bench.read(stop).status is OrderStatus.FILLED


def test_prices_may_be_laid_down_ahead_and_happen_at_their_time(bench: Bench):
    stop = bench.place("STOP", Side.SELL, OrderType.STOP_MARKET, "1", stop_price=D("99"))
    bench.exchange.set_price(PAIR, D("98"), at=START + timedelta(seconds=10))
    bench.time.step(9)
    assert bench.read(stop).status is OrderStatus.OPEN
    bench.time.step(20)
    assert bench.read(stop).status is OrderStatus.FILLED
    assert bench.truth()["trades"][0]["executed_at"].startswith("2026-11-02T10:00:10")


# --- variants of the venue ------------------------------------------------------------------------------------------


def test_switches_make_another_venue():
    free = make_bench("wallex", switches={"wallex": {"stops_lock": False}})
    free.place("STOP", Side.SELL, OrderType.STOP_MARKET, "1", stop_price=D("99"))
    assert free.client.balances()["BTC"].locked == 0
    finds = make_bench("nobitex", switches={"nobitex": {"client_id_finds_closed": True, "offers_oco": False}})
    finds.market("M1", Side.BUY, "1")
    assert finds.client.fetch_order(OrderRef(SYMBOL, "M1")).status is OrderStatus.FILLED
    with pytest.raises(OrderRejected):
        finds.client.create_oco(OcoRequest("OCO", SYMBOL, Side.SELL, D("2"), D("110"), D("95"), D("94")))


def test_one_venue_alone_is_enough():
    bench = make_bench("nobitex", venues=("nobitex",), pairs=(PAIR,), prices={PAIR: D("60000")})
    assert bench.client.last_price(SYMBOL) == 60000


def test_rate_limits_are_counted_on_virtual_time_where_they_are_on():
    bench = make_bench("wallex", rate_limits=True)
    with pytest.raises(RateLimited):
        for number in range(30):
            bench.place(f"R{number}", Side.BUY, OrderType.LIMIT, "1", price=D("90"))
    assert len(bench.truth()["orders"]) == 20
    bench.time.step(60)
    assert bench.place("LATER", Side.BUY, OrderType.LIMIT, "1", price=D("90")).status is OrderStatus.OPEN


# --- what goes wrong ------------------------------------------------------------------------------------------------

ORDERS_PATH = {"wallex": "/v1/account/orders", "nobitex": "/market/orders/add"}

BROKEN = [  # fault, its parameters, what a write makes of it, whether the order is there
    (FaultKind.DROP_BEFORE, {}, OutcomeUnknown, False),
    (FaultKind.DROP_AFTER, {}, OutcomeUnknown, True),
    (FaultKind.HTTP_ERROR, {"status": 502, "when": "before"}, OutcomeUnknown, False),
    (FaultKind.HTTP_ERROR, {"status": 502, "when": "after"}, OutcomeUnknown, True),
    (FaultKind.MALFORMED_JSON, {}, OutcomeUnknown, True),
    (FaultKind.WRONG_TYPES, {}, OutcomeUnknown, True),
    (FaultKind.SUCCESS_FALSE_200, {}, ProviderError, False),
    (FaultKind.RATE_LIMITED, {"seconds": 3}, RateLimited, False),
    (FaultKind.MAINTENANCE, {"seconds": 5}, OutcomeUnknown, False),
    (FaultKind.KEY_REVOKED, {}, AuthFailed, False),
    (FaultKind.CLOCK_SKEW, {"seconds": 30}, None, True),
    (FaultKind.DUPLICATE_FILL, {}, None, True),
    (FaultKind.SLOW_TRICKLE, {"bytes_per_second": 100}, None, True),
    (FaultKind.DELAY, {"seconds": 3, "when": "before"}, None, True),
    (FaultKind.DELAY, {"seconds": 3, "when": "after"}, None, True),
]


@pytest.mark.parametrize(("kind", "params", "error", "arrived"), BROKEN)
def test_every_fault_of_the_wire_is_what_the_real_judgement_makes_of_it(bench: Bench, kind, params, error, arrived):
    bench.fault(kind, "POST", ORDERS_PATH[bench.name], **params)
    asked = bench.request("ONE", Side.BUY, OrderType.MARKET, "1", price=D("100"))
    if error is None:
        assert bench.client.create_order(asked).filled_quantity == 1
    else:
        with pytest.raises(error):
            bench.client.create_order(asked)
    assert len(bench.truth()["orders"]) == arrived
    assert bench.exchange.faults.injected == {kind.value: 1}


def create_request(bench: Bench, cid: str) -> Request:
    """A raw order, as a client of the exchange sends it."""
    seen: list[Request] = []

    class Noting:
        def send(self, request: Request) -> Reply:
            seen.append(request)
            raise NotSent("only looking")

    client = client_of(bench.trader, bench.name, Noting(), bench.time)
    with pytest.raises(Unavailable):
        client.create_order(bench.request(cid, Side.BUY, OrderType.MARKET, "1", price=D("100")))
    return seen[-1]


def test_delays_are_told_and_the_order_is_matched_at_the_moment_of_processing(bench: Bench):
    bench.fault(FaultKind.DELAY, seconds=4, when="before")
    bench.fault(FaultKind.DELAY, seconds=2, when="after")
    arrival = bench.exchange.begin(bench.name, create_request(bench, "LATE"))
    assert (arrival.delay, arrival.is_dropped, arrival.faults) == (4.0, False, ("delay", "delay"))
    assert bench.truth()["orders"] == []
    bench.price("100.5", after=arrival.delay)
    bench.time.step(1)
    outcome = bench.exchange.process(arrival)
    assert (outcome.delay, outcome.reply.status) == (2.0, {"wallex": 201, "nobitex": 200}[bench.name])
    assert bench.truth()["trades"][0]["price"] == "100.52"


def test_a_trickled_answer_ends_when_its_last_byte_is_there(bench: Bench):
    bench.fault(FaultKind.SLOW_TRICKLE, bytes_per_second=10)
    outcome = bench.exchange.process(bench.exchange.begin(bench.name, create_request(bench, "SLOW")))
    assert outcome.delay == len(outcome.reply.content) / 10


def test_a_dropped_answer_has_none_and_a_dropped_request_says_so(bench: Bench):
    bench.fault(FaultKind.DROP_BEFORE)
    assert bench.exchange.begin(bench.name, create_request(bench, "ONE")).is_dropped
    bench.exchange.faults.clear()
    bench.fault(FaultKind.DROP_AFTER)
    assert bench.exchange.process(bench.exchange.begin(bench.name, create_request(bench, "TWO"))).reply is None
    assert [order["client_order_id"] for order in bench.truth()["orders"]] == ["TWO"]


class Failing:
    """A way to the exchange that does not exist any more."""

    def __init__(self, failure: Exception) -> None:
        self.failure, self.calls = failure, 0

    def send(self, request: Request) -> Reply:
        self.calls += 1
        raise self.failure


@pytest.mark.parametrize(
    ("failure", "of_a_write"), [(NotSent("refused"), Unavailable), (Lost("reset"), OutcomeUnknown)]
)
def test_whether_a_byte_left_decides_what_a_failed_write_means(bench: Bench, failure, of_a_write):
    transport = Failing(failure)
    client = client_of(bench.trader, bench.name, transport, bench.time)
    with pytest.raises(of_a_write) as caught:
        client.create_order(bench.request("ONE", Side.BUY, OrderType.MARKET, "1", price=D("100")))
    assert type(caught.value) is of_a_write
    assert transport.calls == 1
    with pytest.raises(Unavailable):
        client.balances()
    assert transport.calls == 1 + READ_ATTEMPTS
    assert bench.time.now() == START + timedelta(seconds=0.05 + 0.1)  # half of what it may wait, twice


# --- equal to the application behind sockets ------------------------------------------------------------------------


class OverAsgi:
    """The whole ASGI application of the same exchange, driven by an event loop."""

    def __init__(self, sim: SimExchange, venue: str) -> None:
        self.app, self.venue = build_app(sim.exchange, rate_limits=False), venue

    def send(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        return asyncio.run(self._send(method, path, query, headers, body))

    async def _send(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        sent: list[Any] = []
        scope = {
            "type": "http", "method": method, "path": f"/{self.venue}{path}", "raw_path": b"", "root_path": "",
            "query_string": query.encode(), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


class BothWays:
    """Sends every request to two exchanges: in process, and through the whole application. They must agree."""

    def __init__(self, one: Bench, other: Bench) -> None:
        self.exchange, self.asgi, self.compared = one.exchange, OverAsgi(other.exchange, other.name), 0
        self.venue = one.name

    def send(self, request: Request) -> Reply:
        outcome = self.exchange.process(self.exchange.begin(self.venue, request))
        headers = {"content-type": "application/json"} if request.body is not None else {}

        class Signed:
            pass

        signed = Signed()
        signed.headers = headers  # type: ignore[attr-defined]
        if request.auth is not None:
            request.auth(signed)  # type: ignore[arg-type]
        lower = {name.lower(): value for name, value in headers.items()}
        query = urlencode({k: v for k, v in (request.params or {}).items() if v is not None})
        status, content = self.asgi.send(request.method, request.path, query, lower, request.body or b"")
        assert (outcome.reply.status, outcome.reply.content) == (status, content), request
        self.compared += 1
        return outcome.reply


def life(bench: Bench, *others: Bench) -> None:
    """Everything a client can ask, for good and for bad; prices move at all benches."""

    def price(at: str) -> None:
        bench.price(at)
        for other in others:
            other.price(at)

    bench.client.markets()
    bench.client.order_book(SYMBOL)
    bench.client.last_price(SYMBOL)
    bench.client.public_trades(SYMBOL)
    first = bench.market("M1", Side.BUY, "1")
    price("101")
    bench.read(first)
    stop = bench.place("S1", Side.SELL, OrderType.STOP_MARKET, "0.5", stop_price=D("95"))
    limit = bench.place("L1", Side.SELL, OrderType.LIMIT, "0.3", price=D("110"))
    bench.client.open_orders(SYMBOL)
    bench.cancel(limit)
    for failing in (lambda: bench.cancel(limit), lambda: bench.market("M9", Side.BUY, "100000")):
        with pytest.raises(ProviderError):
            failing()
    price("94")
    bench.read(stop)
    bench.client.balances()
    bench.client.orders_since(SYMBOL, START)
    bench.client.own_trades(SYMBOL, START)
    bench.client.key_details()
    with pytest.raises((BadPayload, OrderNotFound, OrderRejected, Unavailable)):
        bench.client.order_book("NOSUCHUSDT")


@pytest.mark.parametrize("name", VENUES)
def test_every_answer_is_the_one_of_the_application_behind_sockets(name: str):
    one, other = make_bench(name), make_bench(name)
    both = BothWays(one, other)
    one.client = client_of(one.trader, name, both, one.time)
    life(one, other)
    assert both.compared >= 17
    for method, path in (("GET", "/nowhere"), ("PUT", "/v1/account/orders"), ("DELETE", "/market/orders/add")):
        both.send(Request(method, path))


# --- determinism ----------------------------------------------------------------------------------------------------


class Tracing:
    """Keeps every byte that comes back."""

    def __init__(self, bench: Bench) -> None:
        self.inside = InstantTransport(bench.exchange, bench.name, sleep=bench.time.step)
        self.trace: list[Any] = []

    def send(self, request: Request) -> Reply:
        reply = self.inside.send(request)
        self.trace.append((request.method, request.path, reply.status, sorted(reply.headers.items()), reply.content))
        return reply


def trace() -> str:
    rows = []
    for name in VENUES:
        bench = make_bench(name)
        bench.exchange.add_fault(FaultRule(FaultKind.CLOCK_SKEW, probability=0.5, seed=3))
        bench.exchange.add_fault(FaultRule(FaultKind.READ_LAG, probability=0.5, seed=4))
        tracing = Tracing(bench)
        bench.client = client_of(bench.trader, name, tracing, bench.time)
        for number in range(3):
            bench.market(f"M{number}", Side.BUY, f"1.{number}")
            bench.price(f"10{number}", after=7)
            bench.client.orders_since(SYMBOL, START)
        bench.client.markets()
        bench.client.balances()
        rows += tracing.trace
    return repr(rows)


def test_the_same_inputs_give_the_same_bytes_in_every_process():
    told = [
        subprocess.run(
            [sys.executable, "-c", "from tests.simulation.test_venue import trace; print(trace())"],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True, timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    ]  # fmt: skip
    assert told[0] == told[1] == trace()


def test_no_socket_no_thread_no_waiting_and_no_chance(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def forbidden(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("not in a simulated world")

    for place, name in (
        (requests.Session, "request"), (threading.Thread, "start"), (time, "sleep"), (time, "time"), (uuid, "uuid4"),
        (asyncio, "new_event_loop"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, forbidden)
    logging.disable()  # a record of a log has a time
    try:
        life(bench)
    finally:
        logging.disable(logging.NOTSET)


# --- the store in memory --------------------------------------------------------------------------------------------


def test_an_exchange_opened_again_on_its_store_goes_on_where_it_was(bench: Bench):
    bench.market("M1", Side.BUY, "1")
    resting = bench.place("REST", Side.BUY, OrderType.LIMIT, "2", price=D("90"))
    before, profiles = bench.truth(), tuple(venue.profile for venue in bench.exchange.exchange.venues.values())
    again = Exchange(bench.exchange.feed, bench.time, bench.exchange.store, profiles)
    venue = again.venues[bench.name]
    assert venue.balance("ann", "BTC").total == D(before["balances"]["BTC"]["total"])
    assert [order.client_id for order in venue.working_orders("ann")] == [resting.client_order_id]
    assert [len(order.trades) for order in venue.orders("ann")] == [1, 0]
    assert (
        venue.submit("ann", Instruction(PAIR, Side.BUY, OrderType.LIMIT, D("1"), price=D("80")), bench.time.now()).id
        == 3
    )
    assert sum((p.amount for e in bench.exchange.entries(bench.name) for p in e.postings), ZERO) == 0
