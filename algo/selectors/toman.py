"""What something is worth in toman, by the latest price that is stored here. Nothing is asked, nothing invented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from algo.models import Candle, Market, MarketQuote
from algo.models.fields import plain
from providers.types import Resolution, canonical_asset

TOMAN, TETHER = "IRT", "USDT"
OLDEST_CLOSE = timedelta(days=1)  # a price of the time: of a candle that ended at most so long before
CROSSED = ("BTC", "ETH")  # coins whose price in toman over that in USDT is a price of USDT
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


# --- the price of USDT at some time ----------------------------------------------------------------------------------

_AT = f"""
SELECT moment.number, found.price, found.ended, found.series
FROM unnest(%(moments)s::timestamptz[]) WITH ORDINALITY AS moment(at, number)
CROSS JOIN LATERAL (
    SELECT newest.price, newest.open_time + series.length AS ended, series.number AS series
    FROM unnest(%(markets)s::bigint[], %(others)s::bigint[], %(resolutions)s::text[], %(lengths)s::interval[])
        WITH ORDINALITY AS series(market, other, resolution, length, number)
    CROSS JOIN LATERAL (
        SELECT candle.open_time, candle.close / coalesce(other.close, 1) AS price
        FROM {Candle._meta.db_table} AS candle
        LEFT JOIN {Candle._meta.db_table} AS other
            ON other.market_id = series.other AND other.resolution = series.resolution
            AND other.open_time = candle.open_time
        WHERE candle.market_id = series.market AND candle.resolution = series.resolution
            AND candle.open_time <= moment.at - series.length
            AND candle.open_time >= moment.at - series.length - %(oldest)s
            AND (series.other IS NULL OR other.close IS NOT NULL)
        ORDER BY candle.open_time DESC LIMIT 1
    ) AS newest
    ORDER BY series.other IS NOT NULL, ended DESC, series.number LIMIT 1
) AS found
"""  # noqa: S608 - the table's name


def tether_prices(moments: Sequence[datetime]) -> list[TomanPrice | None]:
    """What one USDT was worth in toman at each of `moments`, by candles that had ended by then, at most
    `OLDEST_CLOSE` before: of a market of USDT where one is stored, else what a coin cost in toman over what it cost in
    USDT, in the same candle at the same exchange. None where neither is known. Two queries."""
    series = _tether_series()
    found: list[TomanPrice | None] = [None] * len(moments)
    if not series or not moments:
        return found
    kinds = [(*each, resolution) for each in series for resolution in Resolution]
    asked: dict[str, Any] = {
        "moments": list(moments),
        "markets": [market.pk for market, _, _ in kinds],
        "others": [other.pk if other else None for _, other, _ in kinds],
        "resolutions": [resolution.value for _, _, resolution in kinds],
        "lengths": [resolution.duration for _, _, resolution in kinds],
        "oldest": OLDEST_CLOSE,
    }
    with connection.cursor() as cursor:
        cursor.execute(_AT, asked)
        for number, price, ended, at in cursor.fetchall():
            market, other, _ = kinds[at - 1]
            source = f"close of {market}" + (f" over that of {other.symbol}" if other else "")
            found[number - 1] = TomanPrice(plain(price), ended, source)
    return found


def _tether_series() -> list[tuple[Market, Market | None]]:
    """Markets of USDT in toman; then, of each coin and exchange, its market in toman and that in USDT."""
    quotes = (TOMAN, TETHER)
    pairs = [f"{TETHER}/{TOMAN}", *(f"{coin}/{quote}" for coin in CROSSED for quote in quotes)]
    by = {(market.provider, market.pair): market for market in Market.objects.filter(pair__in=pairs)}
    direct = [(market, None) for (_, pair), market in sorted(by.items()) if pair == pairs[0]]
    crossed = [
        (market, other)
        for coin in CROSSED
        for (provider, pair), market in sorted(by.items())
        if pair == f"{coin}/{TOMAN}" and (other := by.get((provider, f"{coin}/{TETHER}")))
    ]
    return [*direct, *crossed]
