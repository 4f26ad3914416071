"""What must be true afterwards. Pure: rows of the exchange and of the database in, sentences of what is wrong out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from providers.types import ZERO, canonical_asset
from tests.chaos.plan import Span

UNCOVERED_SHARE = Decimal("0.005")
BOUND_SECONDS, BOUND_PER_INCIDENT = 20.0, 12.0  # how long a position may be naked while everything answers
REACH_BACK = 15.0  # an incident so shortly before still has its effect: a lock to take over, a process that starts
# Faults that keep calls from their answers. The others happen in the market: the exchange answers all the while.
UNREACHABLE = {
    "postgres", "paper", "drop_before", "drop_after", "delay", "http_error", "malformed_json", "wrong_types",
    "success_false_200", "rate_limited", "maintenance", "slow_trickle", "read_lag", "accept_delayed", "duplicate_fill",
}  # fmt: skip
STATES = {
    "FILLED": {"FILLED"},
    "CANCELED": {"CANCELED", "REJECTED", "EXPIRED"},
    "OPEN": {"OPEN", "PARTIALLY_FILLED", "CANCELING"},
    "INACTIVE": {"OPEN", "CANCELING"},
    "NEW": {"OPEN", "SUBMITTED", "CANCELING"},
}
Truth = Mapping[str, Any]  # an order or a trade as the exchange's control port tells it


@dataclass(frozen=True, slots=True)
class OurOrder:
    account: str
    deal: int
    strategy: str
    bar: datetime
    role: str
    client_order_id: str
    exchange_order_id: str | None
    status: str
    quantity: Decimal
    filled: Decimal
    is_unknown: bool = False


@dataclass(frozen=True, slots=True)
class OurFill:
    account: str
    exchange_order_id: str | None
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str


@dataclass(frozen=True, slots=True)
class OurDeal:
    id: int
    account: str
    venue: str
    side: str
    base: str
    status: str
    least_quantity: Decimal  # below it nothing can be traded
    least_notional: Decimal
    unprotected_seconds: float = 0.0  # on the wall


@dataclass(frozen=True, slots=True)
class OurTicket:
    account: str
    kind: str
    summary: str


# --- ledgers ---------------------------------------------------------------------------------------------------------


def orders_that_differ(ours: Sequence[OurOrder], theirs: Mapping[str, Sequence[Truth]]) -> Iterator[str]:
    """`theirs`: by account. Every order of the exchange is in our books, in the same state, filled alike; and back."""
    known = {(order.account, order.exchange_order_id): order for order in ours if order.exchange_order_id}
    shown = {(account, order["exchange_order_id"]): order for account, orders in theirs.items() for order in orders}
    for key, order in shown.items():
        if key not in known:
            kind = "orphan order" if order["status"] in ("NEW", "INACTIVE", "OPEN") else "order not in our books"
            yield f"{kind}: {_told(key[0], order)}"
        else:
            yield from _order_differs(known[key], order)
    for account, exchange_id in known.keys() - shown.keys():
        yield f"order not at the exchange: {account} {exchange_id}"


def _order_differs(mine: OurOrder, theirs: Truth) -> Iterator[str]:
    if mine.status not in STATES[theirs["status"]]:
        yield f"state differs: ours {mine.status}, {_told(mine.account, theirs)}"
    if mine.filled != Decimal(theirs["filled_quantity"]):
        yield f"filled differs: ours {mine.filled}, {_told(mine.account, theirs)}"
    if mine.quantity != Decimal(theirs["quantity"]):
        yield f"quantity differs: ours {mine.quantity}, {_told(mine.account, theirs)}"


def _told(account: str, order: Truth) -> str:
    names = ("exchange_order_id", "client_order_id", "pair", "side", "type", "status", "quantity", "filled_quantity")
    return f"{account} " + " ".join(str(order[name]) for name in names)


def fills_that_differ(
    ours: Iterable[OurFill], theirs: Mapping[str, Sequence[Truth]], orders: Mapping[str, Sequence[Truth]]
) -> Iterator[str]:
    """Every trade of the exchange is booked exactly once, at its price, for its quantity and fee; and nothing else."""
    names = {(account, order["id"]): order["exchange_order_id"] for account, rows in orders.items() for order in rows}
    booked = Counter(
        (fill.account, fill.exchange_order_id, fill.price, fill.quantity, fill.fee, canonical_asset(fill.fee_asset))
        for fill in ours
    )
    traded = Counter(
        (account, names[account, trade["order_id"]], *(Decimal(trade[name]) for name in ("price", "quantity", "fee")),
         canonical_asset(trade["fee_asset"] or ""))
        for account, trades in theirs.items()
        for trade in trades
    )  # fmt: skip
    for fill, count in sorted((traded - booked).items(), key=str):
        yield f"trade not booked ({count}): {' '.join(map(str, fill))}"
    for fill, count in sorted((booked - traded).items(), key=str):
        yield f"booked without a trade ({count}): {' '.join(map(str, fill))}"


# --- entries, ends ---------------------------------------------------------------------------------------------------


def entries_that_repeat(ours: Sequence[OurOrder], theirs: Mapping[str, Sequence[Truth]]) -> Iterator[str]:
    """A candle of a strategy has one filled entry, and a signal one order at the exchange."""
    entries = {(order.account, order.client_order_id): order for order in ours if order.role == "ENTRY"}
    placed = [
        (entries[account, order["client_order_id"]], order)
        for account, orders in theirs.items()
        for order in orders
        if (account, order["client_order_id"]) in entries
    ]
    filled = Counter((mine.strategy, mine.bar) for mine, order in placed if Decimal(order["filled_quantity"]) > 0)
    for (strategy, bar), count in filled.items():
        if count > 1:
            yield f"duplicate entry: {strategy} has {count} filled entries for the candle of {bar:%H:%M:%S}"
    for name, count in Counter(mine.client_order_id for mine, _ in placed).items():
        if count > 1:
            yield f"duplicate entry: {name} stands {count} times at the exchange"


def entries_sent_again(ours: Sequence[OurOrder], sends: Iterable[Truth]) -> Iterator[str]:
    """An entry goes over the wire once, whatever became of the answer."""
    entries = {order.client_order_id for order in ours if order.role == "ENTRY"}
    made = ("/v1/account/orders", "/market/orders/add")
    requests = Counter(row["client_order_id"] for row in sends if str(row["path"]).endswith(made))
    for name in entries:
        if requests[name] > 1:
            yield f"entry sent {requests[name]} times: {name}"


def unfinished(deals: Iterable[OurDeal], orders: Iterable[OurOrder]) -> Iterator[str]:
    for deal in deals:
        if deal.status not in ("CLOSED", "CANCELED"):
            yield f"open deal stuck: {deal.id} of {deal.account} is {deal.status}"
    for order in orders:
        if order.is_unknown:
            yield f"outcome still unknown: {order.role} {order.client_order_id} of {order.account}"


def still_working(theirs: Mapping[str, Sequence[Truth]]) -> Iterator[str]:
    """After the flatten nothing of ours is open at the exchange."""
    for account, orders in theirs.items():
        for order in orders:
            if order["status"] in ("NEW", "INACTIVE", "OPEN"):
                yield f"order still open at the exchange: {_told(account, order)}"


def unexplained(tickets: Iterable[OurTicket], kinds_explained: Iterable[str] = ()) -> Iterator[str]:
    allowed = set(kinds_explained)
    for ticket in tickets:
        if ticket.kind not in allowed:
            yield f"ticket: {ticket.kind} of {ticket.account}: {ticket.summary}"


def oversold(deal: OurDeal, orders: Sequence[Truth], trades: Sequence[Truth]) -> Iterator[str]:
    """A deal never gives more than it holds: what stop, target and exits traded is at most what the entry left."""
    left = _position(deal, trades)
    if left < 0:
        yield f"oversold: deal {deal.id} of {deal.account} went {-left} {deal.base} beyond flat"


def of_deal(
    deal: OurDeal, ours: Iterable[OurOrder], orders: Iterable[Truth], trades: Iterable[Truth]
) -> tuple[list[Truth], list[Truth]]:
    """The orders of one deal at the exchange, and their trades, of those of its account."""
    names = {order.exchange_order_id for order in ours if order.deal == deal.id and order.exchange_order_id}
    placed = [order for order in orders if order["exchange_order_id"] in names]
    ids = {order["id"] for order in placed}
    return placed, [trade for trade in trades if trade["order_id"] in ids]


def books_that_differ(
    ours: Sequence[OurOrder],
    fills: Iterable[OurFill],
    deals: Sequence[OurDeal],
    orders: Mapping[str, Sequence[Truth]],
    trades: Mapping[str, Sequence[Truth]],
    sends: Iterable[Truth],
) -> Iterator[str]:
    """Everything that must hold between our books and the exchange's once nothing is open any more. `orders` and
    `trades` of the exchange by account; `sends`: every order request it saw."""
    yield from orders_that_differ(ours, orders)
    yield from fills_that_differ(fills, trades, orders)
    yield from entries_that_repeat(ours, orders)
    yield from entries_sent_again(ours, sends)
    yield from unfinished(deals, ours)
    yield from still_working(orders)
    for deal in deals:
        yield from oversold(deal, *of_deal(deal, ours, orders[deal.account], trades[deal.account]))


# --- protection ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Naked:
    """A stretch without cover, in unix seconds of the wall; `reachable`: how much of it everything answered."""

    deal: int
    begin: float
    end: float
    reachable: float
    bound: float

    @property
    def raw(self) -> float:
        return self.end - self.begin


def naked_stretches(
    deal: OurDeal,
    orders: Sequence[Truth],
    trades: Sequence[Truth],
    *,
    until: float,
    wall: Callable[[str], float],
    outages: Sequence[Span] = (),
    incidents: Sequence[Span] = (),
) -> list[Naked]:
    """Every stretch in which the position of `deal` was not under live orders that close it, by the exchange alone."""
    moments = {wall(trade["executed_at"]) for trade in trades}
    for order in orders:
        moments |= {wall(order[name]) for name in ("created_at", "closed_at") if order[name]}
    edges = [*sorted(moments), until]
    found: list[tuple[float, float]] = []
    for begin, end in pairwise(edges):
        if end <= begin or not _is_naked(deal, orders, trades, begin, wall):
            continue
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    away = [span for span in outages if span.what in UNREACHABLE and span.venue in ("*", deal.venue)]
    return [
        Naked(
            deal.id,
            begin,
            end,
            round(end - begin - _overlap(begin, end, away), 3),
            BOUND_SECONDS
            + BOUND_PER_INCIDENT * sum(each.begin <= end and each.end + REACH_BACK >= begin for each in incidents),
        )
        for begin, end in found
    ]


def too_long_naked(stretches: Iterable[Naked]) -> Iterator[str]:
    for each in stretches:
        if each.reachable > each.bound:
            yield (
                f"naked position: deal {each.deal} for {each.raw:.1f} s, {each.reachable:.1f} s of it reachable "
                f"(allowed {each.bound:.0f} s)"
            )


def _is_naked(
    deal: OurDeal, orders: Sequence[Truth], trades: Sequence[Truth], at: float, wall: Callable[[str], float]
) -> bool:
    so_far = [trade for trade in trades if wall(trade["executed_at"]) <= at]
    size = _position(deal, so_far)
    if not so_far or size < deal.least_quantity or size * Decimal(so_far[-1]["price"]) < deal.least_notional:
        return False
    traded: dict[int, Decimal] = defaultdict(lambda: ZERO)
    for trade in so_far:
        traded[trade["order_id"]] += Decimal(trade["quantity"])
    stops = others = ZERO
    for order in orders:
        is_live = wall(order["created_at"]) <= at and (not order["closed_at"] or at < wall(order["closed_at"]))
        if not is_live or order["side"] == deal.side:
            continue
        rest = Decimal(order["quantity"]) - traded[order["id"]]
        if "STOP" in order["type"]:
            stops += rest
        else:
            others += rest
    return size - max(stops, others) > max(size * UNCOVERED_SHARE, deal.least_quantity)


def _position(deal: OurDeal, trades: Iterable[Truth]) -> Decimal:
    """What is open, in the direction of the deal: below zero is too much closed. Fees in base lessen what a BUY can
    sell; those of buying back are a cost of a SELL, and not bought again."""
    held = ZERO
    for trade in trades:
        quantity = Decimal(trade["quantity"])
        held += quantity if trade["side"] == deal.side else -quantity
        if deal.side == "BUY" and trade["fee_asset"] == deal.base:
            held -= Decimal(trade["fee"])
    return held


def _overlap(begin: float, end: float, spans: Iterable[Span]) -> float:
    """Seconds of [begin, end] under any of `spans`."""
    total, reached = 0.0, begin
    for span in sorted(spans, key=lambda each: each.begin):
        first, last = max(span.begin, reached), min(span.end, end)
        if last > first:
            total += last - first
            reached = last
    return total


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; 0 of nothing."""
    ranked = sorted(values)
    return ranked[min(int(len(ranked) * share), len(ranked) - 1)] if ranked else 0.0


# --- logs ------------------------------------------------------------------------------------------------------------

RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z]+ (?P<logger>\S+) (?P<message>.*)")
TRACEBACK = "Traceback (most recent call last)"
LAST_LINE = re.compile(
    r"^(?P<name>[A-Za-z_][\w.]*(?:Error|Exception|Failed|Interface|Timeout|Exit|Interrupt)\w*)(?::|$)"
)


def records(text: str) -> Iterator[list[str]]:
    """The lines of each log record: its own, and what follows until the next."""
    record: list[str] = []
    for line in text.splitlines():
        if RECORD.match(line) and record:
            yield record
            record = []
        record.append(line)
    if record:
        yield record


def unhandled(log: str, text: str, allowed: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Tracebacks that no expected outage explains. `allowed`: pairs of patterns, of the record's first line and of the
    exception that ended it."""
    for record in records(text):
        if not any(TRACEBACK in line for line in record):
            continue
        last = next((line for line in reversed(record) if LAST_LINE.match(line)), record[-1])
        head = record[0]
        if not any(re.search(first, head) and re.search(end, last) for first, end in allowed):
            yield f"traceback in {log}: {head[:200]} … {last[:200]}"


def secrets_told(log: str, text: str, secrets: Mapping[str, str]) -> Iterator[str]:
    for name, secret in secrets.items():
        if secret and secret in text:
            yield f"secret in {log}: {name}"
