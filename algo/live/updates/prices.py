"""Prices for those who look at a market: what the exchanges' streams publish in Redis, at most twice a second, and only
what changed. Nothing of it is kept or told again: a client that comes back gets what stands now."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from algo.live.market_feed import PREFIX, from_ms, quote_news
from algo.live.market_feed import key as feed_key
from algo.live.redis_link import TROUBLE
from algo.live.updates.events import as_json, frame
from algo.live.updates.hub import Client, Hub

logger = logging.getLogger("algo.live")

TELL_SECONDS = 0.5
AGAIN_SECONDS = 0.5
WAIT_SECONDS = 5.0

Market = tuple[str, str]  # exchange and symbol
Key = tuple[Any, ...]  # of what the newest counts: a market's quote, one of its candles


class Prices:
    """The newest quote and candles of the markets that somebody looks at."""

    def __init__(self, server: Redis, hub: Hub) -> None:
        self._redis, self._hub = server, hub
        self._ids: dict[Market, int] = {}
        self._newest: dict[Key, bytes] = {}
        self._changed: set[Key] = set()

    async def run(self) -> None:
        """Until it is cancelled."""
        teller = asyncio.create_task(self._tell())
        try:
            while True:
                try:
                    await self._listen()
                except TROUBLE:
                    await asyncio.sleep(AGAIN_SECONDS)
        finally:
            teller.cancel()

    async def look(self, client: Client, markets: Mapping[Market, int]) -> None:
        """`client` begins to look at these: it gets what is known of them."""
        self._ids |= markets
        unknown = [market for market, pk in markets.items() if (pk, "quote") not in self._newest]
        if unknown:
            await self._read(unknown)
        for key, told in self._newest.items():
            if key[0] in client.markets:
                client.tell_price(key, told)

    async def _read(self, markets: Sequence[Market]) -> None:
        """Where these stand: nothing may be published of a quiet one for a while."""
        try:
            found = await self._redis.mget([feed_key(provider, "market", symbol) for provider, symbol in markets])
        except TROUBLE:
            return
        for (provider, symbol), value in zip(markets, found, strict=True):
            if value:
                self._take(feed_key(provider, symbol), quote_news(symbol, str(value)))

    async def _listen(self) -> None:
        async with self._redis.pubsub() as news:
            await news.psubscribe(f"{PREFIX}:*")
            while True:
                message = await news.get_message(ignore_subscribe_messages=True, timeout=WAIT_SECONDS)
                if message:
                    self._take(message["channel"], message["data"])

    def _take(self, channel: str, data: str) -> None:
        provider, _, symbol = channel.removeprefix(f"{PREFIX}:").partition(":")
        market = self._ids.get((provider, symbol))
        if market is None or market not in self._hub.markets:
            return
        told = json.loads(data)
        if told["type"] == "quote":
            self._keep((market, "quote"), frame("quote", as_json(_quote(market, provider, symbol, told))))
        elif told["type"] == "candle":
            row = told["candle"]
            self._keep((market, told["resolution"], row[0]), frame("candle", as_json(_candle(market, told))))

    def _keep(self, key: Key, told: bytes) -> None:
        if self._newest.get(key) != told:
            self._newest[key] = told
            self._changed.add(key)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            for key in self._changed:
                self._hub.tell_price(key[0], key, self._newest[key])
            self._changed.clear()
            self._forget(self._hub.markets)

    def _forget(self, looked_at: Collection[int]) -> None:
        """What nobody looks at, and candles before the two newest of a series."""
        times: dict[Key, list[int]] = {}
        for key in self._newest:
            if len(key) == 3:
                times.setdefault(key[:2], []).append(key[2])
        old = {(*series, at) for series, known in times.items() for at in sorted(known)[:-2]}
        self._newest = {key: told for key, told in self._newest.items() if key not in old and key[0] in looked_at}


def _quote(market: int, provider: str, symbol: str, told: Mapping[str, Any]) -> dict[str, Any]:
    amounts = {name: told.get(name) for name in ("bid", "ask", "last", "imbalance")}
    return {"market": market, "provider": provider, "symbol": symbol, **amounts, "at": _iso(told["at"])}


def _candle(market: int, told: Mapping[str, Any]) -> dict[str, Any]:
    opened, *amounts = told["candle"]
    named = dict(zip(("open", "high", "low", "close", "volume"), amounts, strict=True))
    place = {"market": market, "resolution": told["resolution"], "time": _iso(opened)}
    return {**place, **named, "closed": told["closed"]}


def _iso(milliseconds: int | None) -> str | None:
    moment = from_ms(milliseconds)
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
