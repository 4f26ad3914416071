"""Writes of the quotes that the streams tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import connection

from algo.models import Market, MarketQuote

_TOO_LARGE = Decimal(10) ** 20


@dataclass(frozen=True, slots=True)
class QuoteRow:
    """One market's quote; see MarketQuote."""

    market_id: int
    bid: Decimal
    ask: Decimal
    last: Decimal | None
    as_of: datetime
    received_at: datetime


def quotes_record(rows: Sequence[QuoteRow]) -> int:
    """Keep these quotes, in one statement; how many were kept. A crossed or impossible one is left out, and so is one
    of a market that is gone: neither may cost the others their place."""
    rows = [row for row in rows if _is_possible(row)]
    if not rows:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {MarketQuote._meta.db_table} AS kept (market_id, bid, ask, last, as_of, received_at) "  # noqa: S608 - our names
            "SELECT row.* FROM unnest(%s::bigint[], %s::numeric[], %s::numeric[], %s::numeric[], %s::timestamptz[], "
            "%s::timestamptz[]) AS row (market_id, bid, ask, last, as_of, received_at) "
            f"JOIN {Market._meta.db_table} market ON market.id = row.market_id ORDER BY row.market_id "
            "ON CONFLICT (market_id) DO UPDATE SET bid = excluded.bid, ask = excluded.ask, last = excluded.last, "
            "as_of = excluded.as_of, received_at = excluded.received_at",
            [[getattr(row, name) for row in rows] for name in QuoteRow.__dataclass_fields__],
        )
        return int(cursor.rowcount)


def _is_possible(row: QuoteRow) -> bool:
    amounts = (row.bid, row.ask) if row.last is None else (row.bid, row.ask, row.last)
    return all(amount.is_finite() and 0 < amount < _TOO_LARGE for amount in amounts) and row.bid < row.ask
