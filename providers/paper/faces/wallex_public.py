"""Wallex' public market data (contract: wallex 3 and 8). Each method answers one address."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from starlette.requests import Request

from providers.paper.engine import Exchange, to_ms
from providers.paper.faces import wallex_wire as wire
from providers.paper.faces.charts import chart, day_figures
from providers.paper.faces.common import JSON, places, plain
from providers.paper.faces.wallex_answers import Failure, invalid, page_in
from providers.paper.profiles import VenueProfile
from providers.types import ZERO

_RESOLUTIONS = {
    "1": 60, "15": 900, "60": 3600, "180": 10800, "240": 14400, "360": 21600, "480": 28800, "720": 43200,
    "D": 86400, "1D": 86400, "2D": 172800, "3D": 259200,
}  # fmt: skip


class PublicCalls:
    """What needs no key."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._venue = exchange.venues["wallex"]
        self._pairs = {wire.symbol_of(pair): pair for pair in self._venue.profile.markets}
        self._created = datetime(2024, 1, 1, tzinfo=UTC)

    def pair(self, symbol: Any) -> str:
        """Raises `Failure` for a market that is not listed."""
        pair = self._pairs.get(str(symbol or "").upper())
        if pair is None:
            raise invalid("symbol", "The selected symbol is invalid.")
        return pair

    def markets(self, request: Request, now: datetime) -> Any:
        """Now and then a market's direction is an empty list: one in so many, another one each minute (10)."""
        profile = self._venue.profile
        every, style = int(profile.switch("empty_direction_every")), wire.Style.of(profile)
        rows = {}
        for index, (symbol, pair) in enumerate(self._pairs.items()):
            rows[symbol] = wire.market_row(
                profile.markets[pair], self._venue.depth(pair, now), day_figures(self._exchange, "wallex", pair, now),
                self._created, style=style, toman=self._toman(pair),
                has_direction=not every or (index + int(now.timestamp()) // 60) % every != 0,
                takes_market_orders=takes_market_orders(profile, symbol),
            )  # fmt: skip
        return {"symbols": rows}

    def _toman(self, pair: str) -> Decimal:
        return Decimal(1) if pair.endswith("/IRT") else self._venue.last.get("USDT/IRT", ZERO)

    def hector(self, request: Request, now: datetime) -> Any:
        profile = self._venue.profile
        rows = [
            wire.hector_row(
                profile.markets[pair], day_figures(self._exchange, "wallex", pair, now), self._created,
                takes_market_orders=takes_market_orders(profile, symbol),
            )
            for symbol, pair in self._pairs.items()
        ]  # fmt: skip
        return {"markets": rows}

    def otc_markets(self, request: Request, now: datetime) -> Any:
        """For reading; instant trade itself is out, on purpose."""
        return {
            symbol: wire.otc_row(
                self._venue.profile.markets[pair], day_figures(self._exchange, "wallex", pair, now), self._created
            )
            for symbol, pair in self._pairs.items()
        }

    def currencies(self, request: Request, now: datetime) -> Any:
        """Assets and their networks; none is open, since nothing is deposited on paper (3.8)."""
        assets = map(wire.asset_name, self._venue.profile.assets)
        return {
            asset: {"key": asset, "name": wire.NAMES[asset][0], "name_en": wire.NAMES[asset][1], "networks": [],
                    "can_deposit": False, "can_withdraw": False}
            for asset in assets
        }  # fmt: skip

    def currency_stats(self, request: Request, now: datetime) -> Any:
        coins = [pair for pair in self._pairs.values() if pair.endswith("/USDT")]
        days = [(pair.split("/")[0], day_figures(self._exchange, "wallex", pair, now)) for pair in coins]
        return [wire.currency_row(asset, rank, day, now) for rank, (asset, day) in enumerate(days, start=1)]

    def fair_prices(self, request: Request, now: datetime) -> Any:
        last = self._venue.last
        return {symbol: plain(last[pair]) for symbol, pair in self._pairs.items() if pair in last}

    def depth(self, request: Request, now: datetime) -> Any:
        symbol = request.query_params.get("symbol")
        if str(symbol or "").upper() not in self._pairs:
            raise Failure(422, 422, "The selected symbol is invalid.", {"symbol": symbol})
        return self._depth_of(self.pair(symbol), now)

    def depth_all(self, request: Request, now: datetime) -> Any:
        return {symbol: self._depth_of(pair, now) for symbol, pair in self._pairs.items()}

    def _depth_of(self, pair: str, now: datetime) -> dict[str, Any]:
        book = self._venue.depth(pair, now)
        as_number = self._venue.profile.switch("depth_price_as_number")
        sides = {"ask": book.asks, "bid": book.bids}
        return {name: wire.depth_rows(levels, price_as_number=as_number) for name, levels in sides.items()}

    def public_trades(self, request: Request, now: datetime) -> Any:
        symbol = str(request.query_params.get("symbol", "")).upper()
        pair = self.pair(symbol)
        spec = self._exchange.feed.specs[pair]
        ticks = self._exchange.feed.ticks("wallex", pair, to_ms(now) - 120_000, to_ms(now))
        rows = []
        first, size = page_in(request, default=int(self._venue.profile.switch("public_trades_shown")))
        newest = range(len(ticks) - 1 - first, max(len(ticks) - 1 - first - size, -1), -1)
        for index in newest:
            price, volume = spec.price(ticks.prices[index]), spec.volume(ticks.volumes[index])
            at = datetime.fromtimestamp(int(ticks.times[index]) / 1000, UTC)
            rows.append(
                {
                    "symbol": symbol, "quantity": places(volume), "price": places(price),
                    "sum": places(price * volume), "isBuyOrder": bool(ticks.buys[index]), "timestamp": wire.iso(at),
                }
            )  # fmt: skip
        return {"latestTrades": rows}

    def history(self, request: Request, now: datetime) -> Any:
        """Candles without envelope; `15` and `240` lie as they do on the exchange, if the switch is on (3.6)."""
        query = request.query_params
        try:
            pair = self._pairs[query.get("symbol", "").upper()]
            seconds = _RESOLUTIONS[query.get("resolution", "")]
            start, end = int(query["from"]), int(query["to"])
        except (KeyError, ValueError):
            return JSON({"s": "error", "errmsg": "Invalid parameters"})
        if self._venue.profile.switch("candle_quirks"):
            if query["resolution"] == "15":
                seconds, start = 60, max(start, min(end, int(now.timestamp())) - 86_400)
            elif query["resolution"] == "240":
                seconds = 3600
        found = chart(self._exchange, "wallex", pair, seconds, start, end, now)
        columns = {"o": found.open, "h": found.high, "l": found.low, "c": found.close, "v": found.volume}
        texts = {name: [places(value) for value in column] for name, column in columns.items()}
        return JSON({"s": "ok" if len(found) else "no_data", "t": found.times, **texts})


def takes_market_orders(profile: VenueProfile, symbol: str) -> bool:
    """Whether `isMarketTypeEnable` is true (3.1)."""
    return symbol not in str(profile.switch("market_type_disabled")).upper().replace(" ", "").split(",")
