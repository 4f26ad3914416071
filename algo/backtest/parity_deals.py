"""The fills of one live deal beside the engine's: entry, quantity, exit, fees. What differs, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from algo.backtest.parity_replay import EngineDeal, Replay
from algo.backtest.parity_values import Cause, Difference, Kind, LiveDeal, digits
from providers.types import Side

LATE = timedelta(seconds=10)  # after the candle opened: a sound platform has its entry filled long before
MOST_FEES = 3.0  # times the market's: no account pays that, so what was written down is wrong
FEE_SHARE = 0.1  # by which the fees may differ: those of a partial fill are rounded
_UNTIMELY = {
    "manual": (Cause.BY_HAND, "a person closed it"),
    "kill_switch": (Cause.KILL_SWITCH, "the kill switch closed it"),
    "emergency": (Cause.EMERGENCY, "the guardian closed it in an emergency"),
}
_STOPS = ("stop_loss", "trailing_stop")
Because = tuple[Cause, str]


@dataclass(frozen=True, slots=True)
class Pair:
    """A live deal and the engine's, and the candles between them."""

    replay: Replay
    live: LiveDeal
    engine: EngineDeal

    @property
    def sign(self) -> int:
        return self.live.side.sign

    @property
    def tolerance(self) -> float:
        """What two prices may differ by, as a share: the slippage that the engine assumes, and a tick."""
        tick = float(self.replay.rules.tick_size) / self.engine.entry_price
        return float(self.replay.settings.slippage_percent) / 100 + tick * (1 + 1e-6)

    @property
    def closed_at(self) -> datetime | None:
        """None where the deal was still open when the comparison ends."""
        at = self.live.exit_at
        return at if at is not None and at < self.replay.until else None

    @property
    def close_index(self) -> int | None:
        return None if self.closed_at is None else self.replay.index_at(self.closed_at)

    @property
    def basis(self) -> float:
        """How far the market that trades may stand from the candles' one, as a share; 0 where they are one."""
        parameters = self.live.parameters
        return 0.0 if self.replay.day.same_market or parameters is None else float(parameters.max_basis_percent) / 100

    @property
    def slippage_percent(self) -> float:
        """What the entry paid beyond the open of the candle after its signal; negative where it paid less."""
        opened = float(self.replay.candles.open[self.engine.open_index])
        return self.sign * (float(self.live.entry_price or 0) / opened - 1) * 100

    def is_worse(self, live: float, engine: float, side: int) -> bool:
        return (live - engine) * side > 0

    def reached(self, index: int, price: float, *, upward: bool) -> float:
        """How far, as a share, the candle stayed short of a price; 0 or less where it got there."""
        candles = self.replay.candles
        return 1 - float(candles.high[index]) / price if upward else float(candles.low[index]) / price - 1


def deal_differences(pair: Pair) -> list[Difference]:
    """Everything in which the fills of a deal differ from the engine's. An entry belongs to its own day's report."""
    is_new = pair.live.created_at >= pair.replay.day.start
    entry = [*_entry(pair), *_quantity(pair)] if is_new else []
    return [*entry, *_exit(pair), *_fees(pair)]


def _differ(pair: Pair, kind: Kind, because: Because, live: str, engine: str, at: datetime | None) -> Difference:
    cause, text = because
    when = at or pair.live.created_at
    return Difference(kind=kind, cause=cause, at=when, text=text, live=live, engine=engine, deal=pair.live.id)


# --- entry ----------------------------------------------------------------------------------------------------------


def _entry(pair: Pair) -> Iterator[Difference]:
    live, engine = float(pair.live.entry_price or 0), pair.engine.entry_price
    if abs(live / engine - 1) <= pair.tolerance:
        return
    because = _why_entry_price(pair, live)
    yield _differ(pair, Kind.ENTRY_PRICE, because, digits(live), digits(engine), pair.live.entry_at)


def _why_entry_price(pair: Pair, live: float) -> Because:
    replay, opened = pair.replay, pair.engine.open_index
    off = f"{pair.slippage_percent:+.3f} % against the candle's open"
    at = pair.live.entry_at
    if at is not None and (late := at - replay.time(opened)) > LATE:
        return Cause.LATE, f"filled {late.total_seconds():.0f} s after the candle opened, {off}"
    beyond = _outside(pair, opened, live)
    if beyond <= pair.tolerance:
        return Cause.SLIPPAGE, f"slippage: filled {off}"
    if beyond <= pair.basis:
        return Cause.OTHER_EXCHANGE, f"filled {off}: the exchange that trades stood elsewhere than the candles' one"
    return Cause.UNEXPLAINED, f"filled {off}, at a price that the candle never showed"


def _outside(pair: Pair, index: int, price: float) -> float:
    """How far a price lies outside of a candle, as a share; 0 within."""
    low, high = float(pair.replay.candles.low[index]), float(pair.replay.candles.high[index])
    return max(low / price - 1, price / high - 1, 0.0)


def _quantity(pair: Pair) -> Iterator[Difference]:
    live, engine = float(pair.live.entry_quantity), pair.engine.quantity
    step = float(pair.replay.rules.step_size)
    price_moves = abs(float(pair.live.entry_price or 0) / pair.engine.entry_price - 1)
    if abs(live - engine) <= engine * (price_moves + pair.tolerance) + step * (1 + 1e-6):
        return
    yield _differ(pair, Kind.QUANTITY, _why_quantity(pair), digits(live), digits(engine), pair.live.entry_at)


def _why_quantity(pair: Pair) -> Because:
    deal = pair.live
    if deal.entry_quantity < deal.planned_quantity:
        share = deal.entry_quantity / deal.planned_quantity * 100
        return Cause.PARTIAL_FILL, f"{share:.1f} % of the planned quantity was filled"
    if deal.available is None:
        return Cause.BALANCE, "the balance before the entry was not recorded"
    if pair.replay.settings.starting_quote and deal.side is Side.BUY and _reserve_binds(pair):
        return Cause.SLIPPAGE, "the size was cut to what the book and the exchange's reserve for MARKET orders allow"
    return Cause.UNEXPLAINED, f"with {deal.available:f} available the engine takes another quantity"


def _reserve_binds(pair: Pair) -> bool:
    """Live keeps the exchange's reserve from the best ask, the engine from the price it fills at."""
    rules, available = pair.replay.rules, float(pair.live.available or 0)
    reserve = available * (1 - float(rules.taker_fee_rate)) / (1 + float(rules.market_band))
    return pair.engine.notional >= reserve * (1 - pair.tolerance * 2)


# --- exit -----------------------------------------------------------------------------------------------------------


def _exit(pair: Pair) -> Iterator[Difference]:
    live_at, engine_at = pair.close_index, pair.engine.close_index
    if live_at is None and engine_at is None:
        return
    live_reason = pair.live.close_reason if live_at is not None else ""
    same_moment = live_at == engine_at and live_reason == pair.engine.close_reason
    if not same_moment:
        because = _why_exit(pair, live_at, live_reason)
        yield _differ(pair, Kind.EXIT, because, _when(pair, live_at, live_reason),
                      _when(pair, engine_at, pair.engine.close_reason), pair.closed_at)  # fmt: skip
        return
    live, engine = float(pair.live.exit_price or 0), pair.engine.exit_price or 0.0
    if abs(live / engine - 1) > pair.tolerance:
        because = _why_exit_price(pair, live_at or 0, live, engine)
        yield _differ(pair, Kind.EXIT_PRICE, because, digits(live), digits(engine), pair.closed_at)


def _when(pair: Pair, index: int | None, reason: str) -> str:
    return "open" if index is None else f"{reason} in the candle of {pair.replay.time(index):%H:%M}"


def _why_exit(pair: Pair, live_at: int | None, reason: str) -> Because:
    """Why a deal ended for another reason, or in another candle."""
    if reason in _UNTIMELY:
        cause, text = _UNTIMELY[reason]
        return cause, f"{text}{f': {pair.live.note}' if pair.live.note else ''}"
    for why in (_by_signal, _by_timing, _by_both_levels, _by_trailing, _by_target, _by_entry_price, _by_exchange):
        because = why(pair, live_at, reason)
        if because is not None:
            return because
    return Cause.UNEXPLAINED, "neither the candles nor anything on record says why the ends differ"


def _by_signal(pair: Pair, live_at: int | None, reason: str) -> Because | None:
    """The engine hears the signals that live gave; what live did not hear is a difference of its own."""
    engine = pair.engine
    if engine.close_reason == "signal" and reason in _STOPS and live_at is not None and live_at == engine.close_index:
        return Cause.TIMING, "the stop was reached while the exit by the opposite signal was on its way"
    return None


def _by_timing(pair: Pair, live_at: int | None, reason: str) -> Because | None:
    engine = pair.engine
    if reason != engine.close_reason or live_at is None or engine.close_index is None:
        return None
    if abs(live_at - engine.close_index) != 1 or pair.closed_at is None:
        return None
    edge = pair.replay.time(max(live_at, engine.close_index))
    away = abs((pair.closed_at - edge).total_seconds())
    if away > LATE.total_seconds():
        return None
    return Cause.TIMING, f"the same exit, {away:.1f} s from the boundary between two candles"


def _by_both_levels(pair: Pair, live_at: int | None, reason: str) -> Because | None:
    """Stop and target within one candle: the engine takes the stop for the first, whatever came first."""
    engine = pair.engine
    if live_at is None or live_at != engine.close_index:
        return None
    is_reached = pair.reached(live_at, _target(pair), upward=pair.sign > 0) <= pair.tolerance
    if reason == "take_profit" and engine.close_reason in _STOPS and is_reached:
        return Cause.WITHIN_CANDLE, "stop and target lie within one candle: the engine takes the stop for the first"
    return None


def _by_trailing(pair: Pair, live_at: int | None, reason: str) -> Because | None:
    parameters, engine = pair.live.parameters, pair.engine
    if parameters is None or parameters.trailing_stop_percent <= 0:
        return None
    if "trailing_stop" not in (reason, engine.close_reason) or not _trail_alike(pair, live_at, reason):
        return None
    return Cause.WITHIN_CANDLE, "live trails with every price it sees, the engine after each completed candle"


def _trail_alike(pair: Pair, live_at: int | None, reason: str) -> bool:
    """Whether both stops stood where trailing may put them: live's at most a step behind the engine's, and no further
    ahead than the best price up to then allows."""
    engine, live_stop, parameters = pair.engine, float(pair.live.stop_price), pair.live.parameters
    behind = (float(parameters.trailing_step_percent) / 100 if parameters else 0.0) + pair.tolerance
    if live_at is not None and (engine.close_index is None or live_at < engine.close_index):
        is_reached = pair.reached(live_at, live_stop, upward=pair.sign < 0) <= pair.tolerance
        return reason == "trailing_stop" and is_reached and _is_earned(pair, live_at, live_stop)
    if engine.close_index is None:
        return False
    if live_at == engine.close_index:
        return (1 - live_stop / engine.stop_price) * pair.sign <= behind and _is_earned(pair, live_at, live_stop)
    through = -pair.reached(engine.close_index, engine.stop_price, upward=pair.sign < 0)
    return engine.close_reason == "trailing_stop" and through <= behind


def _is_earned(pair: Pair, index: int, stop: float) -> bool:
    """Whether the prices from the entry up to that candle can have moved the stop there."""
    candles, parameters = pair.replay.candles, pair.live.parameters
    span = slice(pair.engine.open_index, index + 1)
    best = float(candles.high[span].max() if pair.sign > 0 else candles.low[span].min())
    distance = float(parameters.trailing_stop_percent) / 100 if parameters else 0.0
    return (stop / (best * (1 - pair.sign * distance)) - 1) * pair.sign <= pair.tolerance


def _by_target(pair: Pair, live_at: int | None, reason: str) -> Because | None:
    engine, target = pair.engine, _target(pair)
    if reason == "take_profit" and live_at is not None:
        short = pair.reached(live_at, target, upward=pair.sign > 0)
        if abs(short) <= pair.tolerance:
            return Cause.TARGET_TOUCH, "the target was touched and not traded through: live was filled, the engine not"
    if engine.close_reason == "take_profit" and engine.close_index is not None:
        through = -pair.reached(engine.close_index, target, upward=pair.sign > 0)
        is_brief = live_at is None or live_at >= engine.close_index
        if is_brief and through <= max(pair.tolerance * 4, pair.basis):
            return Cause.TARGET_MISSED, (
                f"the candle went {through * 100:.3f} % beyond the target; live's order was not filled there in time"
            )
    return None


def _by_entry_price(pair: Pair, live_at: int | None, reason: str) -> Because | None:
    """Stop and target hang on the entry price: where that differs, a candle may reach one and not the other."""
    engine, differs = pair.engine, abs(float(pair.live.entry_price or 0) / pair.engine.entry_price - 1)
    if engine.close_reason in _STOPS and engine.close_index is not None:
        short = -pair.reached(engine.close_index, engine.stop_price, upward=pair.sign < 0)
        if 0 <= short <= differs + pair.tolerance:
            return Cause.SLIPPAGE, "the stop hangs on the entry price; the candle reached the engine's, and not live's"
    if reason in _STOPS and live_at is not None:
        stop = float(pair.live.stop_price)
        short = pair.reached(live_at, stop, upward=pair.sign < 0)
        apart = abs(stop / engine.stop_price - 1)
        if short <= pair.tolerance and differs > 0 and apart <= differs + pair.tolerance:
            return Cause.SLIPPAGE, "the stop hangs on the entry price; the candle reached live's, and not the engine's"
    return None


def _by_exchange(pair: Pair, live_at: int | None, reason: str) -> Because | None:
    """Candles of one exchange, orders at another: believed as far as the strategy lets the two stand apart."""
    if not pair.basis:
        return None
    gaps = []
    if live_at is not None:
        level, upward = (_target(pair), pair.sign > 0) if reason == "take_profit" else (
            float(pair.live.stop_price), pair.sign < 0
        )  # fmt: skip
        gaps.append(pair.reached(live_at, level, upward=upward))
    if pair.engine.close_index is not None:
        level = _target(pair) if pair.engine.close_reason == "take_profit" else pair.engine.stop_price
        upward = (pair.engine.close_reason == "take_profit") == (pair.sign > 0)
        gaps.append(-pair.reached(pair.engine.close_index, level, upward=upward))
    furthest = max(gaps, default=0.0)
    if furthest > pair.basis:
        return None
    return Cause.OTHER_EXCHANGE, (
        f"the exchange that trades and the candles' one stood apart by up to {max(furthest, 0) * 100:.3f} %"
    )


def _target(pair: Pair) -> float:
    percent = pair.live.parameters.take_profit_percent if pair.live.parameters else Decimal(0)
    return float(pair.live.entry_price or 0) * (1 + pair.sign * float(percent) / 100)


def _why_exit_price(pair: Pair, index: int, live: float, engine: float) -> Because:
    off = f"{abs(live / engine - 1) * 100:.3f} %"
    better = "worse" if pair.is_worse(live, engine, -pair.sign) else "better"
    if pair.live.close_reason in _STOPS:
        if pair.live.close_reason == "trailing_stop" and _outside(pair, index, live) <= pair.tolerance:
            return Cause.WITHIN_CANDLE, f"{off} {better}: live trails with every price, the engine after each candle"
        if _outside(pair, index, live) <= pair.tolerance:
            return Cause.STOP_GAP, f"the stop was filled {off} {better} than the engine's"
    if _outside(pair, index, live) <= pair.tolerance:
        return Cause.SLIPPAGE, f"filled {off} {better} than the engine's"
    if _outside(pair, index, live) <= pair.basis:
        return Cause.OTHER_EXCHANGE, f"filled {off} {better}: the exchange that trades stood elsewhere"
    return Cause.UNEXPLAINED, f"filled {off} {better}, at a price that the candle never showed"


# --- fees -----------------------------------------------------------------------------------------------------------


def _fees(pair: Pair) -> Iterator[Difference]:
    """As a share of what was traded, once both are closed."""
    live, engine = pair.live, pair.engine
    if pair.close_index is None or engine.close_index is None or not live.exit_price or engine.exit_price is None:
        return
    ours = float(live.fees) / float(live.entry_quantity * ((live.entry_price or Decimal(0)) + live.exit_price))
    theirs = engine.fees / (engine.quantity * (engine.entry_price + engine.exit_price))
    if abs(ours - theirs) <= max(theirs, ours) * FEE_SHARE:
        return
    text = f"live paid {ours * 100:.3f} % of what was traded, the engine reckons with {theirs * 100:.3f} %"
    cause = Cause.UNEXPLAINED if theirs > 0 and not 0 <= ours <= MOST_FEES * theirs else Cause.FEE_RATE
    yield _differ(pair, Kind.FEES, (cause, text), f"{ours * 100:.3f} %", f"{theirs * 100:.3f} %",
                  pair.closed_at)  # fmt: skip
