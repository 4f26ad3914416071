"""Prices of a real exchange: its public books, trades and candles are polled, and paper orders match against them.

A thread asks; the exchange's loop only reads what was last heard. A book older than `STALE_AFTER` counts as no book:
better no fill than one at an invented price. Between two polls the market is not seen, so a stop triggers at the first
trade price heard past it. A candle that ended after the last answer about it is not complete (`complete_until`), and
after a silence of the exchange its minutes are asked for again.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np

from providers.clock import Clock
from providers.errors import ProviderError
from providers.interface import ExchangeProvider
from providers.paper.feeds.base import Bars, FeedError, PairSpec, Ticks
from providers.paper.feeds.synthetic import SPECS
from providers.paper.orders import Book
from providers.provider_factory import create_provider
from providers.types import Candle, OrderBook, Resolution

logger = logging.getLogger(__name__)

POLL_EVERY = 3.0  # seconds
# What is mirrored: more pairs at this pace would leave the limits of nobitex 2.2 and wallex 1.4.
PAIRS = ("BTC/USDT", "ETH/USDT", "DOGE/USDT", "USDT/IRT", "BTC/IRT", "ETH/IRT")
STALE_AFTER = 15.0
_FIRST_HISTORY = timedelta(hours=8)
_HISTORY = timedelta(days=35)  # reached page by page, one page per pair and poll
_PAGE = timedelta(minutes=500)
_AGAIN = timedelta(minutes=3)  # before the first minute that is not complete; exchanges revise what they said
# An answer may come from a cache (nobitex 2.2), and our clock may be ahead of theirs: it speaks of this long ago.
_LATENESS = timedelta(seconds=3)
_KEPT_TICKS = 10_000
_AHEAD_MS = 100


@dataclass(slots=True)
class _Market:
    """What was heard of one market. Replaced or appended to by the polling thread only."""

    symbol: str
    spec: PairSpec
    book: Book = field(default_factory=lambda: Book((), ()))
    heard_at: datetime | None = None
    trades: list[tuple[int, int]] = field(default_factory=list)  # (ms, price)
    candles: dict[int, Candle] = field(default_factory=dict)
    oldest: datetime | None = None  # how far back candles were asked for
    complete_until: datetime | None = None  # what opened earlier and ended by then was heard after its end


class MirrorFeed:
    """One client per venue. `poll` is public so that tests can step; `start` polls in the background."""

    name = "mirror"
    ends_at = None

    def __init__(self, clients: Mapping[str, ExchangeProvider], clock: Clock, poll_every: float = POLL_EVERY) -> None:
        self._clients = clients
        self._clock = clock
        self._poll_every = poll_every
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            self._markets = {venue: _markets_of(client) for venue, client in clients.items()}
        except ProviderError as exc:
            raise FeedError(
                f"The exchange to mirror does not answer ({exc}). Check its address and your network."
            ) from exc
        common = set.intersection(*(set(markets) for markets in self._markets.values()))
        self._specs = {pair: SPECS[pair] for pair in PAIRS if pair in common}
        if not self._specs:
            raise FeedError("The exchange to mirror trades none of the pairs of the paper exchange.")
        self.poll()

    @property
    def specs(self) -> Mapping[str, PairSpec]:
        return self._specs

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="mirror-feed", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()

    # -- what was heard ------------------------------------------------------------------------------------------

    def is_still(self, after_ms: int, until_ms: int) -> bool:
        return False

    def ticks(self, venue: str, pair: str, after_ms: int, until_ms: int) -> Ticks:
        trades = self._markets[venue][pair].trades
        first, last = (bisect_right(trades, ms, key=_time_of) for ms in (after_ms, until_ms))
        return _ticks(trades[first:last])

    def last_tick(self, venue: str, pair: str, now_ms: int) -> Ticks:
        trades = self._markets[venue][pair].trades
        count = bisect_right(trades, now_ms, key=_time_of)
        return _ticks(trades[max(count - 1, 0) : count])

    def bars(self, venue: str, pair: str, start_s: int, end_s: int, now_ms: int) -> Bars:
        market = self._markets[venue][pair]
        end = min(end_s, now_ms // 1000 + 1)
        chosen = sorted(time for time in list(market.candles) if start_s <= time < end)
        candles = [market.candles[time] for time in chosen]
        spec = market.spec
        prices = [[_units(getattr(c, name), spec.tick) for c in candles] for name in ("open", "high", "low", "close")]
        columns = [chosen, *prices, [_units(candle.volume, spec.lot) for candle in candles]]
        times, open_, high, low, close, volume = (np.array(column, dtype=np.int64) for column in columns)
        return Bars(times, open_, high, low, close, volume)

    def complete_until(self, venue: str, pair: str, now_ms: int) -> int:
        until = self._markets[venue][pair].complete_until
        return min(int(until.timestamp()), now_ms // 1000) if until else 0

    def book(self, venue: str, pair: str, now_ms: int) -> Book:
        market = self._markets[venue][pair]
        if market.heard_at is None or now_ms / 1000 - market.heard_at.timestamp() > STALE_AFTER:
            return Book((), ())
        return market.book

    def nudge(self, pair: str, price: Decimal, now_ms: int) -> None:
        raise FeedError("A mirror shows another exchange's prices; they cannot be moved.")

    # -- listening -----------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Ask once for everything. What cannot be had now stays as it was."""
        for venue, client in self._clients.items():
            for pair in self._specs:
                market = self._markets[venue][pair]
                self._try(venue, self._poll_price, client, market)
                self._try(venue, self._poll_candles, client, market)

    def _run(self) -> None:
        while not self._stopped.wait(self._poll_every):
            try:
                self.poll()
            except Exception:  # one answer nobody foresaw must not leave the exchange without prices
                logger.exception("polling the mirrored exchange failed; trying again")

    def _try(
        self,
        venue: str,
        ask: Callable[[ExchangeProvider, _Market], None],
        client: ExchangeProvider,
        market: _Market,
    ) -> None:
        try:
            ask(client, market)
        except ProviderError as exc:
            logger.warning("the mirrored %s did not answer: %s", venue, exc)

    def _poll_price(self, client: ExchangeProvider, market: _Market) -> None:
        heard = client.order_book(market.symbol)
        last = heard.last_price if heard.last_price is not None else client.last_price(market.symbol)
        now = self._clock.now()
        if heard.is_usable:
            market.book = _book(heard, now)
            market.heard_at = now
        price = _units(last, market.spec.tick)
        if last > 0 and (not market.trades or market.trades[-1][1] != price):
            # A moment ahead, so that the exchange's loop cannot have passed this time already.
            market.trades.append((int(now.timestamp() * 1000) + _AHEAD_MS, price))
        if len(market.trades) > 2 * _KEPT_TICKS:
            market.trades = market.trades[-_KEPT_TICKS:]

    def _poll_candles(self, client: ExchangeProvider, market: _Market) -> None:
        """The minutes that are not complete, at most a page of them, and one page further into the past until the
        history is long enough."""
        now = self._clock.now()
        known = market.complete_until
        since = max(min(known, now) - _AGAIN, now - _HISTORY) if known else now - _FIRST_HISTORY
        until = min(since + _PAGE, now + timedelta(minutes=1))
        heard = client.candles(market.symbol, Resolution.M1, since, until)
        _keep(market, heard)
        # A later candle in the answer says that those before it have ended; without trades only time does.
        market.complete_until = max([min(until, now - _LATENESS), *(candle.open_time for candle in heard)])
        if market.oldest is None:
            market.oldest = since
        elif market.oldest > now - _HISTORY:
            _keep(market, client.candles(market.symbol, Resolution.M1, market.oldest - _PAGE, market.oldest))
            market.oldest -= _PAGE


def mirror_feed(nobitex_url: str | None, wallex_url: str | None, clock: Clock) -> MirrorFeed:
    """A running mirror. With one address given, both faces show that exchange's prices. Raises `FeedError`."""
    named = {"nobitex": nobitex_url, "wallex": wallex_url}
    try:
        clients = {name: create_provider(name, base_url=url, clock=clock) for name, url in named.items() if url}
    except ValueError as exc:
        raise FeedError(f"The address of the exchange to mirror cannot be used: {exc}.") from exc
    if not clients:
        raise FeedError("A mirror needs --mirror-nobitex-url or --mirror-wallex-url.")
    only = next(iter(clients.values()))
    feed = MirrorFeed({name: clients.get(name, only) for name in named}, clock)
    feed.start()
    return feed


def _markets_of(client: ExchangeProvider) -> dict[str, _Market]:
    rules = [rule for rule in client.markets() if rule.pair in PAIRS]
    return {rule.pair: _Market(rule.symbol, SPECS[rule.pair]) for rule in rules}


def _keep(market: _Market, candles: Iterable[Candle]) -> None:
    for candle in candles:
        market.candles[int(candle.open_time.timestamp())] = candle


def _book(heard: OrderBook, now: datetime) -> Book:
    return Book(heard.bids, heard.asks, version=int(now.timestamp() * 1000))


def _units(value: Decimal, unit: Decimal) -> int:
    return round(value / unit)


def _time_of(trade: tuple[int, int]) -> int:
    return trade[0]


def _ticks(trades: list[tuple[int, int]]) -> Ticks:
    """Trade sizes are not heard; one lot each, so that a touched limit fills slowly, not at once."""
    times = np.array([time for time, _ in trades], dtype=np.int64)
    prices = np.array([price for _, price in trades], dtype=np.int64)
    return Ticks(times, prices, np.ones(len(trades), dtype=np.int64), np.ones(len(trades), dtype=np.bool_))
