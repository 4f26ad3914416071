"""A recording of candles, written by hand, on which a strategy makes a deal of every kind.

A candle walks open, one extreme, the other extreme, close (see providers/paper/feeds/replay.py) in twelve trades. Where
a stop or a target is to be reached, the candle's extreme lies a few ticks beyond it, so that only the trade at the
extreme reaches it: what a trade is filled at then depends on no step of the walk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from providers.types import Side

BEGIN = datetime(2026, 11, 27, 6, 0, tzinfo=UTC)
MINUTE = 60
TICK = Decimal("0.01")

# Few candles of warm-up; a breakout is the only signal, whatever volume and RSI say; every exit there is.
PARAMETERS = {
    "ema_fast_period": 2,
    "ema_slow_period": 3,
    "rsi_period": 2,
    "rsi_overbought": 100,
    "rsi_oversold": 0,
    "atr_period": 2,
    "volume_period": 2,
    "volume_threshold": 0,
    "breakout_period": 5,
    "momentum_atr": 20,
    "stop_loss_percent": "1",
    "take_profit_percent": "2",
    "trailing_stop_percent": "1.2",
    "trailing_step_percent": "0.01",
    "trade_cooldown_minutes": 6,
    "max_daily_trades": 100,
    "max_daily_loss_percent": "0",
    "max_basis_percent": "3",  # a gap is no reason to be denied by
    "exit_on_opposite_signal": True,
}


@dataclass
class Recording:
    """Candles in the making; prices in USDT. `side` is that of the deals it is made for: for a SELL all is upside down,
    and what is called up here goes down."""

    side: Side = Side.BUY
    price: Decimal = Decimal("100.00")
    rows: list[tuple[Decimal, Decimal, Decimal, Decimal]] = field(default_factory=list)

    def up(self, by: str) -> Decimal:
        """So much further than now in favour of the deals."""
        return self.price + self.side.sign * Decimal(by)

    def percent(self, price: Decimal, by: str) -> Decimal:
        """So many percent in favour of the deals from `price`, on the tick."""
        return (price * (1 + self.side.sign * Decimal(by) / 100)).quantize(TICK)

    def candle(self, close: Decimal, *also: Decimal, opened: Decimal | None = None) -> None:
        """From where the last one closed (or from `opened`) to `close`, with `also` within its range."""
        first = self.price if opened is None else opened
        reached = (first, close, *also)
        self.rows.append((first, max(reached), min(reached), close))
        self.price = close

    def quiet(self, candles: int) -> None:
        """A zigzag of a tick, in which nothing breaks out: every candle spans the same band."""
        base, band = self.price, (self.up("0.05"), self.up("-0.05"))
        for number in range(candles):
            self.candle(base + (TICK if number % 2 == 0 else 0), *band)
        self.candle(base, *band)

    def breakout(self) -> Decimal:
        """A candle that closes 0.30 further up; what a deal entered at the next open pays: a tick more."""
        self.candle(self.up("0.30"))
        return self.up("0.01")

    def write(self, path: Path) -> Path:
        lines = ["time,open,high,low,close,volume"]
        for number, row in enumerate(self.rows):
            at = int(BEGIN.timestamp()) + number * MINUTE
            lines.append(",".join([str(at), *(f"{price:.2f}" for price in row), "3.000000"]))
        path.write_text("\n".join(lines) + "\n")
        return path


def every_exit(side: Side = Side.BUY, beyond: str = "0.04", rest: int = 0) -> Recording:
    """Deals closed by target, stop, trailing stop, opposite signal and a gap through the stop; and signals that are
    refused for an open deal, for the cooldown and for their side. `beyond` is how far the market goes through a level
    that is to be reached, `rest` how many candles it stands still after an entry that is followed by a fall."""
    r = Recording(side)
    further = side.sign * Decimal(beyond)
    r.quiet(48)  # warm-up

    entry = r.breakout()  # target
    for _ in range(3):
        r.candle(r.up("0.45"), r.up("-0.01"))
    target = r.percent(entry, "2")
    r.candle(target - side.sign * Decimal("0.10"), target + side.sign * Decimal("0.04") + further, r.up("-0.01"))
    r.quiet(7)

    entry = r.breakout()  # stop, within the candle of the entry where it does not rest
    for _ in range(rest):
        r.candle(r.up("-0.01"))
    r.candle(r.percent(entry, "-0.75"), r.percent(entry, "-1") - further + side.sign * Decimal("0.03"))
    r.quiet(2)
    r.candle(r.up("0.80"))  # refused: cooldown
    r.quiet(7)

    r.breakout()  # trailing stop
    for _ in range(3):
        r.candle(r.up("0.30"), r.up("-0.01"))
    best = r.price
    r.candle(r.up("-0.01"))  # where it stays for a minute, so that whoever looks seldom has seen it
    r.candle(r.up("-0.19"))
    stop = r.percent(best, "-1.2")
    r.candle(stop + side.sign * Decimal("0.10"), stop - further)
    r.quiet(7)

    r.breakout()  # opposite signal
    r.candle(r.up("-0.15"), r.up("0.01"))
    r.candle(r.up("-0.15"))
    r.candle(r.up("-0.15"))
    r.quiet(7)

    entry = r.breakout()  # gap
    r.candle(entry, r.up("0.02"), r.up("-0.04"))
    below = r.percent(entry, "-1.5")
    r.candle(below - side.sign * Decimal("0.05"), below - side.sign * Decimal("0.06"), opened=below)
    r.quiet(4)
    return r
