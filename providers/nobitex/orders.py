"""Reads of one's own spot orders and trades at Nobitex (contract: nobitex 6.5, 6.6, 6.10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from providers.errors import BadPayload, OrderNotFound
from providers.http import Answer
from providers.nobitex import mapping
from providers.nobitex.answers import is_refusal, raise_if_limited, said_ok
from providers.nobitex.endpoints import LIST, OPEN_COUNT, OWN_TRADES, STATUS
from providers.nobitex.mapping import Pair, split_symbol
from providers.nobitex.results import MOST_PAGES, Page, every_row, pages
from providers.nobitex.schemas import FailureSchema, OpenCountSchema, OrderSchema, OwnTradeSchema
from providers.nobitex.session import NobitexSession, has_next
from providers.redaction import redact
from providers.types import ZERO, Fill, OrderRef, OrderReport
from providers.wire import as_list, as_mapping, parse

PAGE_SIZE = 100
_STATUSES = ("open", "done", "close", "all")


class OrderReads(NobitexSession):
    """Where orders stand. Margin orders share the addresses of these and are left out everywhere."""

    def fetch_order(self, ref: OrderRef) -> OrderReport:
        """By id, an order in any state; by client id only while it is open or waiting (contract: nobitex 6.5)."""
        name = name_of(ref)
        body = {"id": name["order"]} if "order" in name else name
        report = self._http.call(STATUS, lambda answer: self._found(answer, ref), body=body)
        if report is None:
            raise OrderNotFound(f"nobitex does not show order {ref.exchange_order_id or ref.client_order_id}")
        return report

    def fetch_fills(self, report: OrderReport) -> Sequence[Fill]:
        """Fills of the last three days, oldest first. Compare their sum with `filled_quantity`: the list may lag."""
        if report.filled_quantity == 0:
            return []
        fills: dict[str, Fill] = {}
        for page in self._trade_pages(split_symbol(report.symbol)):
            fills |= {fill.trade_id: fill for fill in page.rows if fill.exchange_order_id == report.exchange_order_id}
            complete = sum((fill.quantity for fill in fills.values()), ZERO) >= report.filled_quantity
            if complete or _all_older(page.rows, report.created_at):
                break
        known = (replace(fill, client_order_id=report.client_order_id) for fill in fills.values())
        return sorted(known, key=_by_time)

    def open_orders(self, symbol: str | None = None) -> Sequence[OrderReport]:
        """Crawled forward by id: rows that come and go between pages are neither skipped nor doubled. Raises BadPayload
        where a full page is not the one that was asked for, for then there is no telling what is missing."""
        found: dict[str, OrderReport] = {}
        after = 0
        for _ in range(MOST_PAGES):
            params = {"status": "open", "order": "id", **({"fromId": after} if after else {})}
            rows, ids = self._order_rows(symbol, params)
            found |= {report.exchange_order_id or "": report for report in rows}
            if len(ids) < PAGE_SIZE:
                return list(found.values())
            if ids != sorted(ids) or ids[0] <= after:
                raise BadPayload(
                    "nobitex open orders: a page that is not in the order of ids: the list is not complete"
                )
            after = max(ids)
        raise BadPayload(f"nobitex open orders: more than {MOST_PAGES} pages: the list is not complete")

    def orders_since(self, symbol: str, since: datetime) -> Sequence[OrderReport]:
        """Crawled backward from the newest, which costs one call as a rule; rows that move to a later page when new
        ones come in are seen twice, never missed."""
        found: dict[str, OrderReport] = {}
        for page in pages(lambda number: self.order_page(symbol, page=number), "orders"):
            found |= {row.exchange_order_id or "": row for row in page.rows}
            times = [row.created_at for row in page.rows if row.created_at]
            if times and min(times) < since:
                break
        recent = [row for row in found.values() if row.created_at is None or row.created_at >= since]
        return sorted(recent, key=lambda row: (row.created_at or since, int(row.exchange_order_id or 0)))

    def order_page(self, symbol: str | None = None, *, status: str = "all", page: int = 1) -> Page[OrderReport]:
        """A page of orders, newest first. `status`: open (waiting stops too), done (any fill), close (ended) or all.
        See `every_row` for all pages; of a list that orders leave meanwhile, as the open ones do, a page may then miss
        rows: `open_orders` does not."""
        if status not in _STATUSES:
            raise ValueError(f"status is one of {', '.join(_STATUSES)}, not {status!r}")
        rows, ids = self._order_rows(symbol, {"status": status, "order": "-id", "page": page})
        return Page(tuple(rows), len(ids) >= PAGE_SIZE)

    def open_order_count(self) -> int:
        """Of spot orders. Not in the documents' list of what an API key may call: may need a token (contract: 3.2)."""
        return self._http.call(
            OPEN_COUNT, lambda answer: parse(OpenCountSchema, said_ok(answer)).count, params={"tradeType": "spot"}
        )

    def own_trades(self, symbol: str, since: datetime) -> Sequence[Fill]:
        """The exchange keeps three days (contract: nobitex 6.10)."""
        fills: dict[str, Fill] = {}
        for page in self._trade_pages(split_symbol(symbol)):
            fills |= {fill.trade_id: fill for fill in page.rows}
            if _all_older(page.rows, since):
                break
        return sorted((fill for fill in fills.values() if fill.executed_at >= since), key=_by_time)

    def own_trades_from(self, trade_id: int, symbol: str | None = None) -> Sequence[Fill]:
        """Own fills of the last three days with this id or a later one, by id; of all markets without `symbol`. The
        cursor for the next call is the last id plus one."""
        pair = split_symbol(symbol) if symbol else None
        fills = every_row(self._trade_reader(pair, {"fromId": trade_id}), lambda fill: fill.trade_id, "trades")
        later = (fill for fill in fills if int(fill.trade_id) >= trade_id)
        return sorted(later, key=lambda fill: int(fill.trade_id))

    # --- how it is done ---

    def _found(self, answer: Answer, ref: OrderRef) -> OrderReport | None:
        """The order; None for every documented way of saying that there is none (contract: nobitex 6.5)."""
        payload = as_mapping(answer.payload, "the answer")
        if is_refusal(answer, payload) or (payload.get("status") == "ok" and not payload.get("order")):
            raise_if_limited(parse(FailureSchema, payload), payload)
            return None
        report = self._report(said_ok(answer).get("order"), split_symbol(ref.symbol))
        check_same_order(report, ref)
        return report

    def _order_rows(self, symbol: str | None, params: Mapping[str, Any]) -> tuple[list[OrderReport], list[int]]:
        """Spot orders of one page, and the ids of all its rows."""
        pair = split_symbol(symbol) if symbol else None
        always = {"details": 2, "tradeType": "spot", "pageSize": PAGE_SIZE}

        def read(answer: Answer) -> tuple[list[OrderReport], list[int]]:
            rows = [as_mapping(row, "order") for row in as_list(said_ok(answer).get("orders"), "orders")]
            orders = [parse(OrderSchema, row) for row in rows]
            ids = [order.id for order in orders if order.id is not None]
            if len(ids) != len(orders):
                raise BadPayload("an order without id in the list")
            spot = [row for row, order in zip(rows, orders, strict=True) if order.tradeType in (None, "Spot", "spot")]
            return [self._report(row, pair) for row in spot], ids

        return self._http.call(LIST, read, params={**always, **(pair.codes if pair else {}), **params})

    def _trade_pages(self, pair: Pair) -> Iterator[Page[Fill]]:
        return pages(self._trade_reader(pair, {}), "trades")

    def _trade_reader(self, pair: Pair | None, params: Mapping[str, Any]) -> Callable[[int], Page[Fill]]:
        def read(answer: Answer) -> Page[Fill]:
            trades = [parse(OwnTradeSchema, row) for row in as_list(said_ok(answer).get("trades"), "trades")]
            fills = tuple(mapping.to_fill(trade, self._trade_pair(trade, pair)) for trade in trades)
            return Page(fills, has_next(answer, len(fills), PAGE_SIZE))

        def page(number: int) -> Page[Fill]:
            codes = pair.codes if pair else {}
            return self._http.call(OWN_TRADES, read, params={**codes, **params, "page": number, "pageSize": PAGE_SIZE})

        return page

    def _trade_pair(self, trade: OwnTradeSchema, asked: Pair | None) -> Pair:
        if asked is not None and not trade.market:
            return asked
        stated = self._stated_pair(trade)
        if asked is not None and stated != asked:
            raise BadPayload("a trade of another market")
        return stated


def name_of(ref: OrderRef) -> dict[str, Any]:
    """How a request names the order: by id when known (contract: nobitex 6.5, 6.7)."""
    if ref.exchange_order_id:
        return {"order": order_number(ref.exchange_order_id)}
    if ref.client_order_id:
        return {"clientOrderId": ref.client_order_id}
    raise ValueError("an order without any id cannot be named to the exchange")


def order_number(exchange_order_id: str) -> int:
    if not (exchange_order_id.isascii() and exchange_order_id.isdecimal()):
        raise OrderNotFound(f"{redact(exchange_order_id)[:40]!r} is no Nobitex order id")
    return int(exchange_order_id)


def check_same_order(report: OrderReport, ref: OrderRef) -> None:
    asked, got = ref.exchange_order_id, report.exchange_order_id
    same = asked == got if asked else ref.client_order_id == report.client_order_id
    if not same:
        raise BadPayload(f"the answer is about order {got} ({redact(str(report.client_order_id))[:40]})")


def _by_time(fill: Fill) -> tuple[datetime, int]:
    return fill.executed_at, int(fill.trade_id)


def _all_older(page: Sequence[Fill], moment: datetime | None) -> bool:
    """Whether pages after this one can be left out: it runs from new to old and ends before `moment`."""
    if moment is None or not page:
        return False
    times = [fill.executed_at for fill in page]
    return times == sorted(times, reverse=True) and times[-1] < moment
