"""What something is worth in toman, by the latest price that is stored here. Nothing is asked, nothing invented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from algo.models import Candle, Market, MarketQuote
from providers.types import Resolution, canonical_asset

TOMAN = "IRT"
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TomanPrice:
    """Toman for one unit. `as_of` None: the asset is toman itself."""

    price: Decimal
    as_of: datetime | None
    source: str


def toman_price(asset: str) -> TomanPrice | None:
    """The newest price of `asset` in toman among streamed quotes (the bid: what it would bring) and closes of stored
    candles, of any exchange; None where none is known."""
    if canonical_asset(asset) == TOMAN:
        return TomanPrice(Decimal(1), None, "the quote is toman")
    markets = list(Market.objects.filter(pair=f"{canonical_asset(asset)}/{TOMAN}"))
    known = [*_quotes(markets), *_closes(markets)]
    return max(known, key=lambda price: price.as_of or _NEVER, default=None)


def profit_in_toman(quote: str, profits: Mapping[str, float]) -> dict[str, Any] | None:
    """Profits in `quote` by fill model, as toman: {"price", "as_of", "source", "net_profit": {model: toman}}; None
    where no price is known. Figures to read, not amounts to owe."""
    known = toman_price(quote)
    if known is None:
        return None
    return {
        "price": format(known.price, "f"),
        "as_of": known.as_of.isoformat() if known.as_of else None,
        "source": known.source,
        "net_profit": {model: profit * float(known.price) for model, profit in profits.items()},
    }


def _quotes(markets: list[Market]) -> Iterator[TomanPrice]:
    for quote in MarketQuote.objects.filter(market__in=markets).select_related("market"):
        yield TomanPrice(quote.bid, quote.as_of, f"bid of {quote.market}")


def _closes(markets: list[Market]) -> Iterator[TomanPrice]:
    """The newest candle of every series: each is one step down the unique index."""
    for market in markets:
        for resolution in Resolution:
            newest = Candle.objects.filter(market=market, resolution=resolution).order_by("-open_time").first()
            if newest:
                yield TomanPrice(newest.close, newest.open_time + resolution.duration, f"close of {market}")
