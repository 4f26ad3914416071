"""Seeded prices without end: a pure function of (seed, pair, second), so a restart continues the same path.

The price of a coin is exp(level + swings + noise):
- level: hourly anchors of a mean-reverting walk (time constant 5 days), so prices stay sane over weeks;
- swings: a rise of seven to eight minutes on rising volume, a fall of two to three, the coins taking turns, the lows
  climbing for an hour and falling back: breakouts come often, and a trade soon meets its stop or target;
- noise: one-second steps whose volatility clusters, tied to the anchors each full hour.

The pace is that of BTCUSDT on 2021-05-19, the day of the crash (1440 one-minute candles of Binance; ours in brackets):
close-to-close sigma 0.565 % [0.51 %], median absolute move 0.227 % [0.33 %], mean high-low range 0.73 % [0.45 %],
volume over the mean of the 20 minutes before: 90 % quantile 1.69 [1.84]. Without that day's tail (kurtosis 23 [3]), but
all day long, and with more rhythm than any real market has: it is made for demonstrations and tests, not for judging
a strategy.

Measured with BreakoutStrategy's rules on BTC, ETH and DOGE against USDT and BTC/IRT, 4 seeds x 1500 starting seconds:
with breakout_period 5 the first BUY signal comes after 35 s (median), 88 s (90 %), 167 s (99 %); from entry to a 0.3 %
stop or 0.6 % target 102 s, 154 s, 205 s; the first trade opened and closed 133 s, 214 s, 276 s after the start, later
than 340 s once in 1200. With breakout_period 20: first signal 45 s, 132 s, 230 s; closed 153 s, 250 s, 343 s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from providers.paper.coins import REAL, made_up
from providers.paper.feeds.base import Bars, FeedError, Ints, PairSpec, Ticks, bars_from_ticks
from providers.paper.feeds.depth import synthetic_book
from providers.paper.feeds.noise import Floats, normal, smooth, stream, uniform
from providers.paper.orders import Book

DAY = 86_400
_HOUR = 3_600
# The swings. Their figures were chosen by running the default indicators over the result: see the module's docstring.
_CYCLE = 600  # seconds from one low to the next
_RISE = 450
_KNEE = 130  # seconds after the low at which `_BEND` of the rise is done
_BEND = 0.29
_SWING = 0.023  # height of a rise (log)
_SWING_SPREAD = 0.1  # sigma of its logarithm
_WAVE = 0.0015  # the lows climb by this for six cycles, and fall back in two
_LOW_NOISE = 0.0005
_STEP_SIGMA = 0.0001  # of one second's noise, times the volatility of the moment
_BURST_FROM = 0.27  # share of the cycle at which volume rises, until the top
_BURST_SIZE = 3.5
_ANCHOR_MEMORY = 24 * 28  # hours summed for one anchor
_ANCHOR_DECAY = 120.0  # hours: mean reversion
_KEPT_DAYS = 12  # of single pairs, beside the running day and the one before
_KEPT_BARS = 720  # days of single pairs


@dataclass(frozen=True, slots=True)
class Character:
    """One coin against its quote: its price, how lively it is, and when in the common cycle it turns."""

    base_price: float
    pace: float  # scales every movement
    phase: int  # seconds
    notional: float  # quote money traded per second, roughly


_COINS = {
    "BTC/USDT": Character(100_000.0, 1.0, 0, 4_000.0),
    "ETH/USDT": Character(4_000.0, 1.0, 200, 3_000.0),
    "DOGE/USDT": Character(0.2, 1.05, 400, 1_500.0),
    "XRP/USDT": Character(2.2, 1.0, 60, 2_000.0),
    "SOL/USDT": Character(150.0, 1.0, 120, 2_000.0),
    "ADA/USDT": Character(0.6, 1.0, 260, 1_500.0),
    "BNB/USDT": Character(800.0, 0.95, 320, 1_500.0),
    "TRX/USDT": Character(0.28, 0.9, 360, 1_500.0),
    "LTC/USDT": Character(90.0, 1.0, 460, 1_500.0),
    "TON/USDT": Character(2.5, 1.0, 540, 1_500.0),
    "USDT/IRT": Character(110_000.0, 0.12, 300, 200_000_000.0),
}
_LOTS = {  # smallest amounts and price steps of the USDT markets; toman markets have whole tomans
    "BTC": ("0.01", "0.000001"),
    "ETH": ("0.01", "0.00001"),
    "DOGE": ("0.00001", "0.1"),
    "XRP": ("0.0001", "0.1"),
    "SOL": ("0.01", "0.001"),
    "ADA": ("0.00001", "0.1"),
    "BNB": ("0.01", "0.001"),
    "TRX": ("0.00001", "0.1"),
    "LTC": ("0.01", "0.001"),
    "TON": ("0.0001", "0.01"),
}
_TOP_NOTIONAL = {"DOGE": 3_000.0}  # USDT on the best level, where it is not 4,000


@dataclass(frozen=True, slots=True)
class Listing:
    """What is traded: the grids of each pair, the character of each coin, and of each toman market the two whose
    product it is."""

    specs: Mapping[str, PairSpec]
    characters: Mapping[str, Character]
    crosses: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, coins: int) -> Listing:
        """So many coins, each in USDT and in toman, and USDT itself. Raises ValueError."""
        more = made_up(coins)
        lots = {coin: (Decimal(tick), Decimal(lot)) for coin, (tick, lot) in _LOTS.items()}
        lots |= {coin.code: (coin.tick_size, coin.step_size) for coin in more}
        characters = _COINS | {f"{coin.code}/USDT": Character(coin.price, 1.0, coin.phase, 1_500.0) for coin in more}
        dollars = [
            PairSpec(f"{coin}/USDT", tick, lot, _TOP_NOTIONAL.get(coin, 4_000.0)) for coin, (tick, lot) in lots.items()
        ]
        toman = [PairSpec(f"{coin}/IRT", Decimal(1), lot, 400_000_000.0) for coin, (_, lot) in lots.items()]
        bridge = PairSpec("USDT/IRT", Decimal(1), Decimal("0.01"), 500_000_000.0)
        specs = {spec.pair: spec for spec in (*dollars, bridge, *toman)}
        return cls(specs, characters, {f"{coin}/IRT": (f"{coin}/USDT", "USDT/IRT") for coin in lots})


SPECS = Listing.of(REAL).specs


class SyntheticFeed:
    """One trade a second per pair, for ever. `nudges` are earlier price moves to keep: (ms, coin pair, log factor)."""

    name = "synthetic"
    ends_at = None

    def __init__(
        self,
        seed: int,
        nudges: Iterable[tuple[int, str, float]] = (),
        swing: float = _SWING,
        coins: int = REAL,
    ) -> None:
        self.seed = seed
        self._listing = Listing.of(coins)
        self.nudges = list(nudges)
        self._swing = swing
        self._ticks: OrderedDict[tuple[str, int], Ticks] = OrderedDict()
        self._bars: OrderedDict[tuple[str, int], Bars] = OrderedDict()
        self._books: dict[str, tuple[tuple[int, int], Book]] = {}  # the last one of each pair, and of which trade
        self._newest = 0

    @property
    def specs(self) -> Mapping[str, PairSpec]:
        return self._listing.specs

    def is_still(self, after_ms: int, until_ms: int) -> bool:
        return after_ms // 1000 == until_ms // 1000

    def ticks(self, venue: str, pair: str, after_ms: int, until_ms: int) -> Ticks:
        if until_ms <= after_ms:
            return Ticks.joined([])
        days = range(after_ms // 1000 // DAY, until_ms // 1000 // DAY + 1)
        return Ticks.joined([self._day(pair, day).between(after_ms, until_ms) for day in days])

    def last_tick(self, venue: str, pair: str, now_ms: int) -> Ticks:
        return self.ticks(venue, pair, now_ms - 1000, now_ms)

    def bars(self, venue: str, pair: str, start_s: int, end_s: int, now_ms: int) -> Bars:
        """Whole days come from a cache; the running day is rebuilt from its ticks."""
        now_s = now_ms // 1000
        today = now_s // DAY
        parts = []
        for day in range(start_s // DAY, min((end_s - 1) // DAY, today) + 1):
            bars = self._day_bars(pair, day)
            if day == today:
                running = bars_from_ticks(self.ticks(venue, pair, now_s // 60 * 60_000 - 1, now_ms), 60)
                bars = _joined([bars.between(0, now_s // 60 * 60), running])
            parts.append(bars.between(start_s, end_s))
        return _joined(parts)

    def complete_until(self, venue: str, pair: str, now_ms: int) -> int:
        return now_ms // 1000

    def book(self, venue: str, pair: str, now_ms: int) -> Book:
        tick = self.last_tick(venue, pair, now_ms)
        at, price = int(tick.times[0]), int(tick.prices[0])
        known = self._books.get(pair)
        if known is None or known[0] != (at, price):
            book = synthetic_book(self.specs[pair], f"{self.seed}", price, at, self._lean(pair, at // 1000))
            known = self._books[pair] = (at, price), book
        return known[1]

    def nudge(self, pair: str, price: Decimal, now_ms: int) -> None:
        """Shift the coin from the next second on; its toman market moves with it."""
        if pair not in self.specs:
            raise FeedError(f"{pair} is not a pair of this feed; it has {', '.join(self.specs)}")
        last = self.specs[pair].price(int(self.last_tick("", pair, now_ms).prices[0]))
        coin = self._coin_of(pair)
        self.nudges.append((now_ms // 1000 * 1000 + 1000, coin, float(np.log(float(price / last)))))
        self._forget(coin)

    def _forget(self, coin: str) -> None:
        """Drop the coin and its crosses from the caches; the other markets stay as they are."""
        moved = {coin} | {cross for cross, legs in self._listing.crosses.items() if coin in legs}
        for cache in (self._ticks, self._bars):
            for key in [key for key in cache if key[0] in moved]:
                del cache[key]

    def _coin_of(self, pair: str) -> str:
        """The pair whose path moves this one."""
        return self._listing.crosses.get(pair, (pair,))[0]

    def close(self) -> None:
        """Nothing to stop."""

    # -- the path ------------------------------------------------------------------------------------------------

    def _day(self, pair: str, day: int) -> Ticks:
        """One day of trades. The running day and the one before stay; older ones only while charts are drawn."""
        key = (pair, day)
        if key not in self._ticks:
            self._ticks[key] = self._generate(pair, day)
            self._newest = max(self._newest, day)
            old = [each for each in self._ticks if each[1] < self._newest - 1]
            for each in old[: max(len(old) - _KEPT_DAYS, 0)]:
                del self._ticks[each]
        self._ticks.move_to_end(key)
        return self._ticks[key]

    def _day_bars(self, pair: str, day: int) -> Bars:
        key = (pair, day)
        if key not in self._bars:
            self._bars[key] = bars_from_ticks(self._day(pair, day), 60)
            while len(self._bars) > _KEPT_BARS:
                self._bars.popitem(last=False)
        self._bars.move_to_end(key)
        return self._bars[key]

    def _generate(self, pair: str, day: int) -> Ticks:
        seconds = np.arange(day * DAY, (day + 1) * DAY, dtype=np.int64)
        spec = self.specs[pair]
        if pair in self._listing.crosses:
            legs = self._listing.crosses[pair]
            coin, bridge = (self._day(name, day) for name in legs)
            scale = float(self.specs[legs[0]].tick * self.specs[legs[1]].tick / spec.tick)
            prices = np.rint(coin.prices * scale * bridge.prices).astype(np.int64)
            return Ticks(coin.times, prices, coin.volumes, coin.buys)
        value = np.exp(self._log_price(pair, seconds))
        prices = np.maximum(np.rint(value / float(spec.tick)), 1).astype(np.int64)
        lots = self._notional(pair, seconds) / value / float(spec.lot)
        volumes = np.maximum(np.rint(lots), 1).astype(np.int64)
        return Ticks(seconds * 1000, prices, volumes, self._taker_bought(pair, seconds, prices))

    def _log_price(self, pair: str, seconds: Ints) -> Floats:
        character = self._listing.characters[pair]
        moves = self._anchored_noise(pair, seconds) + self._swings(pair, seconds)
        value = np.log(character.base_price) + character.pace * moves
        for since_ms, coin, shift in self.nudges:
            if coin == pair:
                value = value + shift * (seconds * 1000 >= since_ms)
        return value

    def _anchored_noise(self, pair: str, seconds: Ints) -> Floats:
        """One-second noise, pinned to the hourly anchors; `seconds` are whole hours."""
        hours = np.arange(seconds[0] // _HOUR, seconds[-1] // _HOUR + 2)
        anchors = self._anchors(pair, hours)
        sigma = _STEP_SIGMA * self._volatility(pair, seconds)
        steps = (sigma * normal(stream(self.seed, pair, "step"), seconds)).reshape(-1, _HOUR)
        walk = np.cumsum(steps, axis=1)
        share = np.arange(1, _HOUR + 1) / _HOUR
        bridge = walk - share * walk[:, -1:]
        level = anchors[:-1, None] + share * (anchors[1:] - anchors[:-1])[:, None]
        return np.asarray((bridge + level).reshape(-1))

    def _anchors(self, pair: str, hours: Ints) -> Floats:
        lags = np.arange(_ANCHOR_MEMORY)
        shocks = normal(stream(self.seed, pair, "anchor"), np.arange(hours[0] - _ANCHOR_MEMORY + 1, hours[-1] + 1))
        return np.convolve(shocks, 0.006 * np.exp(-lags / _ANCHOR_DECAY), mode="valid")

    def _volatility(self, pair: str, seconds: Ints) -> Floats:
        """Clusters: a fast and a slow series of calm and storm around 1."""
        fast = smooth(stream(self.seed, pair, "vol-fast"), seconds / 420.0)
        slow = smooth(stream(self.seed, pair, "vol-slow"), seconds / 5400.0)
        return np.asarray(np.exp(0.35 * fast + 0.45 * slow - 0.15))

    def _swings(self, pair: str, seconds: Ints) -> Floats:
        times, levels = self._turns(pair, seconds)
        return np.interp(seconds.astype(np.float64), times, levels)

    def _turns(self, pair: str, seconds: Ints) -> tuple[Floats, Floats]:
        """Lows and highs of the swings around `seconds`: (times, log levels), alternating."""
        phase = self._listing.characters[pair].phase
        cycles = np.arange((seconds[0] - phase) // _CYCLE - 1, (seconds[-1] - phase) // _CYCLE + 3)
        key = [stream(self.seed, pair, "turn", number) for number in range(6)]
        starts = cycles * _CYCLE + phase + 24.0 * (uniform(key[0], cycles) - 0.5)
        knees = starts + _KNEE + 30.0 * (uniform(key[5], cycles) - 0.5)
        tops = cycles * _CYCLE + phase + _RISE + 50.0 * (uniform(key[1], cycles) - 0.5)
        step = cycles + int(8 * uniform(key[2], np.array([0]))[0])
        wave = _WAVE * np.interp(step % 8, (0, 6, 8), (0.0, 6.0, 0.0))
        lows = wave + _LOW_NOISE * normal(key[3], cycles)
        highs = lows + self._swing * np.exp(_SWING_SPREAD * normal(key[4], cycles))
        bends = lows + _BEND * (highs - lows)
        times, levels = np.stack((starts, knees, tops), axis=1), np.stack((lows, bends, highs), axis=1)
        return times.reshape(-1), levels.reshape(-1)

    def _progress(self, pair: str, seconds: Ints) -> Floats:
        """Where in its cycle each second is: 0 at a low, 1 at the next."""
        return ((seconds - self._listing.characters[pair].phase) % _CYCLE) / _CYCLE

    def _notional(self, pair: str, seconds: Ints) -> Floats:
        """Quote money traded in each second: rises with the later part of a rise, and with volatility."""
        progress = self._progress(pair, seconds)
        burst = 1.0 + _BURST_SIZE * np.clip((progress - _BURST_FROM) / 0.08, 0.0, 1.0) * (
            progress < _RISE / _CYCLE + 0.02
        )
        spread = np.exp(0.8 * normal(stream(self.seed, pair, "volume"), seconds) - 0.32)
        usual = self._listing.characters[pair].notional
        return np.asarray(usual * burst * spread * self._volatility(pair, seconds) ** 0.2)

    def _taker_bought(self, pair: str, seconds: Ints, prices: Ints) -> np.ndarray:
        moved = np.diff(prices, prepend=prices[:1])
        coin = uniform(stream(self.seed, pair, "side"), seconds) < 0.5
        return np.asarray(np.where(moved == 0, coin, moved > 0))

    def _lean(self, pair: str, second: int) -> float:
        """How the depth leans: with the swing, and by chance, so that imbalances come and go."""
        coin = self._coin_of(pair)
        now = np.array([second])
        with_swing = 0.5 if self._progress(coin, now)[0] < _RISE / _CYCLE else -0.5
        chance = float(smooth(stream(self.seed, pair, "lean"), now / 45.0)[0])
        return float(np.clip(with_swing + 0.5 * chance, -1.0, 1.0))


def _joined(parts: list[Bars]) -> Bars:
    names = ("times", "open", "high", "low", "close", "volume")
    none = np.zeros(0, np.int64)
    return Bars(*(np.concatenate([getattr(part, name) for part in parts] or [none]) for name in names))
