"""What must hold for every amount, every split into pages and every list that changes while it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.errors import BadPayload
from providers.nobitex import mapping, orders
from providers.nobitex.client import NobitexClient
from providers.nobitex.mapping import Pair, rial_to_toman, split_symbol, toman_to_rial
from providers.nobitex.results import MOST_PAGES, Page, every_row
from providers.nobitex.schemas import OrderSchema, OwnTradeSchema
from providers.transport import Reply, Request
from providers.types import OcoRequest, OrderRequest, OrderType, Side
from providers.wire import parse, plain, wire_text
from tests.providers.conftest import NOBITEX_TOKEN, NOW
from tests.providers.test_fuzz import FREE, canned_reply
from tests.providers.test_nobitex_client import listed
from tests.providers.test_nobitex_client import trade as own_trade
from tests.providers.test_nobitex_mapping import order

# --- amounts ---

amounts = st.decimals(min_value=Decimal("1e-10"), max_value=Decimal(10) ** 15, places=10)
symbols = st.sampled_from(["BTCIRT", "USDTIRT", "1M_PEPEIRT", "BTCUSDT", "TUSDT"])


@given(st.integers(min_value=-(10**24), max_value=10**24), st.integers(min_value=0, max_value=16))
def test_rial_and_toman_are_the_same_money_both_ways(digits: int, places: int) -> None:
    amount = Decimal(digits).scaleb(-places) if len(str(abs(digits))) <= 27 else Decimal(digits)
    assert toman_to_rial(rial_to_toman(amount)) == rial_to_toman(toman_to_rial(amount)) == amount
    assert wire_text(toman_to_rial(rial_to_toman(amount))) == wire_text(amount)
    sign, toman, exponent = plain(amount).as_tuple()
    assert rial_to_toman(amount) == Decimal((sign, toman, int(exponent) - 1)), "ten times less, to the last digit"


def echoed(body: Mapping[str, str]) -> Any:
    """The report of an order that the exchange wrote down as it was sent."""
    raw = order(**{**body, "param1": body.get("stopPrice"), "price": body.get("price", "market")})
    raw |= {"matchedAmount": 0, "execution": "StopLimit", "market": None}
    pair = split_symbol(body["srcCurrency"].upper() + ("IRT" if body["dstCurrency"] == "rls" else "USDT"))
    return mapping.to_report(parse(OrderSchema, raw), raw, pair)


@given(symbols, st.sampled_from(Side), amounts, amounts, amounts)
def test_an_order_is_read_back_as_it_was_asked(
    symbol: str, side: Side, quantity: Decimal, price: Decimal, stop: Decimal
) -> None:
    asked = OrderRequest("T1ABC", symbol, side, OrderType.STOP_LIMIT, quantity, price, stop)
    found = echoed(mapping.to_wire_order(asked))
    assert (found.symbol, found.side, found.quantity) == (symbol, side, quantity)
    assert (found.price, found.stop_price) == (price, stop)
    body = mapping.to_wire_oco(OcoRequest("T1ABC", symbol, side, quantity, price, stop, price))
    assert all("e" not in value.lower() for name, value in body.items() if name[-5:] in ("mount", "Price", "price"))
    assert body["price"] == body["stopLimitPrice"]


@given(amounts, amounts, st.sampled_from(["buy", "sell"]))
def test_a_fill_keeps_value_and_fee_whatever_the_unit(price: Decimal, fee: Decimal, side: str) -> None:
    row = own_trade(1) | {"type": side, "price": wire_text(price), "fee": wire_text(fee), "amount": "1"}
    in_rial, in_usdt = (mapping.to_fill(parse(OwnTradeSchema, row), Pair("BTC", quote)) for quote in ("IRT", "USDT"))
    assert (in_rial.price * 10, in_usdt.price) == (price, price)
    assert in_rial.fee * (10 if side == "sell" else 1) == in_usdt.fee == fee


# --- pages ---


class Rows:
    """A list, newest first, of which `size` rows are shown at a time; `arrivals` come in before each look."""

    def __init__(self, rows: list[int], size: int, arrivals: list[int]) -> None:
        self.rows, self.size, self.arrivals = rows, size, arrivals
        self.looks = 0

    def page(self, number: int) -> Page[int]:
        self.looks += 1
        if self.arrivals:
            top = max(self.rows, default=0)
            self.rows = [top + n for n in range(self.arrivals.pop(0), 0, -1)] + self.rows
        shown = self.rows[(number - 1) * self.size : number * self.size]
        return Page(tuple(shown), number * self.size < len(self.rows))


sizes = st.integers(min_value=1, max_value=9)
drift = st.lists(st.integers(min_value=0, max_value=4), max_size=6)


@given(st.integers(min_value=0, max_value=40), sizes)
def test_any_split_into_pages_gives_the_same_rows(count: int, size: int) -> None:
    rows = list(range(count, 0, -1))
    shown = Rows(rows, size, [])
    assert every_row(shown.page, lambda row: row) == rows
    assert shown.looks == max(-(-count // size), 1), "no page too many"


@given(st.integers(min_value=0, max_value=40), sizes, drift)
def test_rows_that_move_to_later_pages_are_neither_missed_nor_doubled(
    count: int, size: int, arrivals: list[int]
) -> None:
    before = list(range(count, 0, -1))
    found = every_row(Rows(before, size, list(arrivals)).page, lambda row: row)
    assert len(found) == len(set(found))
    assert set(before) <= set(found)


def test_a_list_without_end_is_no_answer() -> None:
    with pytest.raises(BadPayload, match="not complete"):
        every_row(lambda number: Page((number,), True), lambda row: row)
    assert len(every_row(lambda number: Page((number,), number < MOST_PAGES), lambda row: row)) == MOST_PAGES


Server = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def client_of(server: Server) -> NobitexClient:
    """A client whose requests `server` answers, by their parameters."""

    class Answering:
        def send(self, request: Request) -> Reply:
            return canned_reply(200, json.dumps({"status": "ok", **server(request.params or {})}).encode())

    return NobitexClient("http://127.0.0.1:9", api_key=NOBITEX_TOKEN, budget=FREE, transport=Answering())


def newest(rows: list[int], params: Mapping[str, Any]) -> list[int]:
    first = (params.get("page", 1) - 1) * params["pageSize"]
    return sorted(rows, reverse=True)[first : first + params["pageSize"]]


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "PAGE_SIZE", 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=0, max_value=12), st.lists(st.integers(0, 3), max_size=4), st.integers(0, 12))
def test_orders_since_while_orders_come_in(count: int, arrivals: list[int], back: int) -> None:
    ids = list(range(1, count + 1))
    left = list(arrivals)

    def server(params: Mapping[str, Any]) -> Mapping[str, Any]:
        if left:
            ids.extend(range(len(ids) + 1, len(ids) + 1 + left.pop(0)))
        return {"orders": [listed(n) for n in newest(ids, params)]}

    since = NOW + timedelta(minutes=count - back - 300)
    found = [int(report.exchange_order_id or 0) for report in client_of(server).orders_since("BTCIRT", since)]
    assert found == sorted(set(found))
    assert set(range(max(count - back, 1), count + 1)) <= set(found)
    assert all(n >= count - back for n in found)


@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=0, max_value=12), st.data())
def test_open_orders_while_orders_end_and_begin(count: int, data: st.DataObject) -> None:
    open_now = set(range(1, count + 1))
    throughout = set(open_now)
    highest = count

    def server(params: Mapping[str, Any]) -> Mapping[str, Any]:
        nonlocal highest
        shown = sorted(n for n in open_now if n > params.get("fromId", 0))[: params["pageSize"]]
        for ended in data.draw(st.sets(st.sampled_from(sorted(open_now)), max_size=3)) if open_now else ():
            open_now.discard(ended)
            throughout.discard(ended)
        if highest < count + 6:
            highest += 1
            open_now.add(highest)
        return {"orders": [listed(n) for n in shown]}

    found = [int(report.exchange_order_id or 0) for report in client_of(server).open_orders("BTCIRT")]
    assert len(found) == len(set(found))
    assert throughout <= set(found), "an order that was open all the time"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(1, 12), st.lists(st.integers(0, 3), max_size=4), st.booleans())
def test_trades_from_a_cursor_whatever_their_order(
    count: int, cursor: int, arrivals: list[int], newest_first: bool
) -> None:
    ids = list(range(1, count + 1))
    left = list(arrivals)

    def server(params: Mapping[str, Any]) -> Mapping[str, Any]:
        if left:
            ids.extend(range(len(ids) + 1, len(ids) + 1 + left.pop(0)))
        rows = sorted((n for n in ids if n >= params["fromId"]), reverse=newest_first)
        first, size = (params["page"] - 1) * params["pageSize"], params["pageSize"]
        return {"trades": [own_trade(n) for n in rows[first : first + size]], "hasNext": first + size < len(rows)}

    found = [int(fill.trade_id) for fill in client_of(server).own_trades_from(cursor, "BTCIRT")]
    assert found == sorted(set(found))
    assert set(range(cursor, count + 1)) <= set(found)
    assert all(n >= cursor for n in found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=1, max_size=5))
def test_pages_of_any_length_say_themselves_whether_they_are_the_last(split: list[list[int]]) -> None:
    def server(params: Mapping[str, Any]) -> Mapping[str, Any]:
        rows = split[params["page"] - 1]
        return {"trades": [own_trade(n) for n in rows], "hasNext": params["page"] < len(split)}

    found = client_of(server).own_trades_from(1, "BTCIRT")
    assert [int(fill.trade_id) for fill in found] == sorted({n for page in split for n in page})


@pytest.mark.parametrize("answer", [{"trades": [], "hasNext": True}, {"trades": [], "hasNext": "no"}])
def test_an_empty_page_that_announces_more_is_no_answer(answer: Mapping[str, Any]) -> None:
    with pytest.raises(BadPayload, match="another one"):
        client_of(lambda params: answer).own_trades_from(1, "BTCIRT")
