"""What Wallex tells beyond the common vocabulary. TMN markets are in toman, as on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers.types import Side


@dataclass(frozen=True, slots=True)
class ActiveMarket:
    """A market of the current list, which names no minimums. Only those with `is_spot` are traded here."""

    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    step_size: Decimal
    is_spot: bool
    allows_market_orders: bool
    price: Decimal | None
    volume_24h: Decimal | None
    quote_volume_24h: Decimal | None
    change_24h_percent: Decimal | None


@dataclass(frozen=True, slots=True)
class MarketStats:
    """The last 24 hours and the best prices. None: not told, as for a market where nothing was traded. The quantity of
    the last trade is left out: the wire repeats its price there (contract: wallex 3.1)."""

    symbol: str
    best_bid: Decimal | None
    best_ask: Decimal | None
    last_price: Decimal | None
    high_24h: Decimal | None
    low_24h: Decimal | None
    volume_24h: Decimal | None
    quote_volume_24h: Decimal | None
    change_24h_percent: Decimal | None
    last_side: Side | None
    buy_share_percent: Decimal | None  # of the orders in the book


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """A trade of the market; `side` is the taker's. There is no id: equal ones cannot be told apart."""

    symbol: str
    price: Decimal
    quantity: Decimal
    side: Side | None
    executed_at: datetime


@dataclass(frozen=True, slots=True)
class FeeRates:
    """Fractions: 0.002 is 0.2 %."""

    maker: Decimal
    taker: Decimal


@dataclass(frozen=True, slots=True)
class Currency:
    """An asset and its networks, as sent: their fields are not documented (contract: wallex 3.8)."""

    asset: str
    networks: tuple[Mapping[str, Any], ...]
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CurrencyStats:
    """Worldwide figures in US dollars. Not prices of Wallex: never trade on them. None: not told. `figures` are the
    other numbers, by the wire's own names (`percent_change_7d`, `ath`, …)."""

    asset: str
    name: str
    rank: int | None
    price_usd: Decimal | None
    market_cap_usd: Decimal | None
    volume_24h_usd: Decimal | None
    updated_at: datetime | None
    figures: Mapping[str, Decimal]
