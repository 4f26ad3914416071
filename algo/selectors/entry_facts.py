"""What the risk gate counts of an account and a strategy, in two statements: a signal is judged while both are locked,
and whoever else wants them waits. Asked piece by piece it took eight."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from algo.models import FINISHED_DEALS, Deal, DealStatus, Decision, Market, MarketQuote, Order, Role, Ticket

_DEALS, _ORDERS, _TICKETS = (model._meta.db_table for model in (Deal, Order, Ticket))
_MARKETS, _QUOTES, _DECISIONS = (model._meta.db_table for model in (Market, MarketQuote, Decision))
_CANCELED, _OPEN, _ENTRY = DealStatus.CANCELED.value, DealStatus.OPEN.value, Role.ENTRY.value
_FINISHED = ", ".join(f"'{status}'" for status in sorted(FINISHED_DEALS))

_BLOCKED = f"""
    EXISTS (SELECT 1 FROM {_TICKETS} WHERE account_id = %(account)s AND market_id = %(market)s
            AND resolved_at IS NULL),
    EXISTS (SELECT 1 FROM {_ORDERS} WHERE account_id = %(account)s AND market_id = %(market)s
            AND (unknown_since IS NOT NULL OR negative_at >= %(quarantine_since)s))
"""  # noqa: S608 - our own names
_FACTS = f"""
    SELECT EXISTS (SELECT 1 FROM {_DECISIONS} WHERE config_id = %(config)s AND bar_open_at = %(bar)s),
        EXISTS (SELECT 1 FROM {_DEALS} WHERE config_id = %(config)s AND account_id = %(account)s
         AND market_id = %(market)s AND side = %(opposite)s AND status = '{_OPEN}' AND exit_reason = ''
         AND rules -> 'exit_on_opposite_signal' = 'true'),
        (SELECT bar_open_at FROM {_DEALS} WHERE config_id = %(config)s AND status <> '{_CANCELED}'
         ORDER BY bar_open_at DESC LIMIT 1),
        (SELECT count(*) FROM {_DEALS} WHERE config_id = %(config)s AND status <> '{_CANCELED}'
         AND created_at >= %(day_start)s),
        (SELECT coalesce(sum(deal.profit), 0) FROM {_DEALS} deal JOIN {_MARKETS} market ON market.id = deal.market_id
         WHERE deal.account_id = %(account)s AND market.quote = %(quote)s AND deal.closed_at >= %(day_start)s),
        (SELECT count(*) FROM {_DEALS} WHERE account_id = %(account)s AND created_at >= %(recent_since)s),
        {_BLOCKED}
"""  # noqa: S608
_LIVE = f"""
    SELECT deal.market_id, market.quote, deal.side, deal.planned_quantity, deal.planned_price, deal.entry_price,
        deal.opened_at, greatest(deal.entry_quantity - deal.exit_quantity, 0),
        CASE deal.side WHEN 'BUY' THEN quote.bid ELSE quote.ask END, deal.status = '{_CANCELED}'
    FROM {_DEALS} deal
    JOIN {_MARKETS} market ON market.id = deal.market_id
    LEFT JOIN {_QUOTES} quote ON quote.market_id = deal.market_id AND quote.as_of >= %(quotes_since)s
    WHERE deal.account_id = %(account)s AND (deal.status NOT IN ({_FINISHED}) OR (
        deal.status = '{_CANCELED}' AND EXISTS (SELECT 1 FROM {_ORDERS} entry WHERE entry.deal_id = deal.id
            AND entry.role = '{_ENTRY}' AND entry.negative_at >= %(quarantine_since)s)))
    ORDER BY deal.id
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class EntryFacts:
    """What `EntryLedger.decide` counts. `is_decided`: the strategy has a decision for this candle already;
    `has_opposite`: an open deal of it is to be closed by this signal."""

    is_decided: bool
    has_opposite: bool
    last_entry_bar_at: datetime | None
    trades_today: int
    profit_today: Decimal
    entries_recently: int
    has_ticket: bool
    is_unsure: bool

    @property
    def market_blocked(self) -> str:
        """Why the account must not enter the market; empty where it may."""
        return _blocked(self.has_ticket, self.is_unsure)


def entry_facts(
    *,
    account: int,
    config: int,
    market: int,
    quote: str,
    opposite: str,
    bar: datetime,
    day_start: datetime,
    recent_since: datetime,
    quarantine_since: datetime,
) -> EntryFacts:
    """By their keys; `quote` is the currency whose profits count, `opposite` the side that the signal closes. One
    statement."""
    return EntryFacts(*_rows(_FACTS, locals())[0])


def live_deals(account: int, *, quarantine_since: datetime, quotes_since: datetime) -> list[tuple[Any, ...]]:
    """Every deal of the account that ties up money, as the fields of `LiveDeal` in their order. One statement."""
    return _rows(_LIVE, locals())


def market_blocked(account: int, market: int, quarantine_since: datetime) -> str:
    """Why an account must not enter a market; empty where it may."""
    return _blocked(*_rows(f"SELECT {_BLOCKED}", locals())[0])


def _blocked(has_ticket: bool, is_unsure: bool) -> str:
    if has_ticket:
        return "a reconciliation ticket is open for this market; resolve it first"
    return "the outcome of an order on this market is, or was just now, unknown" if is_unsure else ""


def _rows(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
