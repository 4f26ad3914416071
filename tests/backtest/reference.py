"""The conservative fill model once more: slowly, in Decimal, with the functions of the risk room that live uses.

It shares nothing with the kernel but the rules in words.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from algo.backtest import BacktestSettings
from algo.risk import initial_stop, position_fraction, target_price, trailing_stop
from algo.risk.sizing import MINIMUM_MARGIN
from algo.risk.stops import better_price
from algo.strategies import Candles, SignalArrays, StrategySchema
from providers.types import MarketRules, Side, round_to


def decimal(value: float) -> Decimal:
    """The number a person would write for it."""
    return Decimal(repr(float(value)))


@dataclass
class Deal:
    side: Side
    opened: int
    entry: Decimal
    quantity: Decimal
    held: Decimal
    stop: Decimal
    target: Decimal
    best: Decimal
    trailed: bool = False


@dataclass
class Reference:
    candles: Candles
    signals: SignalArrays
    parameters: StrategySchema
    rules: MarketRules
    settings: BacktestSettings
    deal: Deal | None = None
    deals: list[dict[str, Any]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    course: list[Decimal] = field(default_factory=list)  # equity after each candle

    def run(self) -> Reference:
        self.quote, self.base = self.settings.starting_quote, self.settings.starting_base
        self.last_entry: int | None = None
        self.day, self.trades, self.loss = None, 0, Decimal(0)
        self.mark = self._first_mark()
        for t in range(len(self.candles)):
            self._candle(t)
        return self

    def price(self, column: str, t: int) -> Decimal | None:
        """None where the candle has no such price."""
        value = getattr(self.candles, column)[t]
        return None if math.isnan(value) else decimal(value)

    def _first_mark(self) -> Decimal:
        t = next(t for t in range(len(self.candles)) if self.price("close", t) is not None)
        return self.price("open", t) or self.price("close", t)

    @property
    def equity(self) -> Decimal:
        return self.quote + self.base * self.mark

    def _candle(self, t: int) -> None:
        self._new_day(t)
        said = int(self.signals.side[t - 1]) if t else 0
        left = False
        opens = self.price("open", t)
        if self.deal and opens and said == -self.deal.side.sign and self.parameters.exit_on_opposite_signal:
            self._close(t, self._market(opens, self.deal.side.opposite), "signal")
            left = True
        if said:
            side = Side.BUY if said > 0 else Side.SELL
            reason = "open_deal_exists" if left or self.deal else self._enter(t, side)
            reason = self._data_problem(t) or reason
            if side not in self.settings.allowed_sides:
                reason = "side_not_allowed"
            if reason:
                self.refused[reason] += 1
        self.mark = self.price("close", t) or self.mark
        if self.deal:
            self._inside(t)
        self.course.append(self.equity)

    def _new_day(self, t: int) -> None:
        zone = ZoneInfo(self.settings.time_zone)
        day = datetime.fromtimestamp(int(self.candles.open_time[t]), UTC).astimezone(zone).date()
        if day != self.day:
            self.day, self.trades, self.loss, self.day_equity = day, 0, Decimal(0), self.equity

    def _data_problem(self, t: int) -> str | None:
        seconds = self.settings.resolution.seconds
        no_price = t == len(self.candles) - 1 or self.price("open", t) is None
        gap = int(self.candles.open_time[t] - self.candles.open_time[t - 1]) - seconds
        return "stale_data" if no_price or gap > self.parameters.max_data_age_bars * seconds else None

    def _enter(self, t: int, side: Side) -> str | None:
        if self._data_problem(t) or side not in self.settings.allowed_sides:
            return "not even asked"
        reason = self._count_problem(t)
        if reason:
            return reason
        price = self._market(self.price("open", t), side)
        confidence = decimal(self.signals.confidence[t - 1])
        fraction = position_fraction(
            confidence, self.parameters.max_position_size_percent, self.settings.max_position_size_percent
        )
        quantity = self._quantity(side, fraction, price)
        if not self._tradable(side, quantity, price):
            whole = self._quantity(side, Decimal(1), price)
            return "below_minimum" if self._tradable(side, whole, price) else "insufficient_balance"
        if abs(price / self.mark - 1) > self.rules.market_band:
            return "thin_book"
        if not self._placeable(side, price) or self._missing_at_stop(side, quantity, price) > 0:
            return "stop_not_placeable"
        self._open(t, side, quantity, price)
        return None

    def _placeable(self, side: Side, price: Decimal) -> bool:
        """A stop at least a tick behind the price, above zero, and within the exchange's band."""
        stop, band = initial_stop(price, side, self.parameters.stop_loss_percent, self.rules), self.rules.price_band
        is_behind = stop > 0 and (price - stop) * side.sign >= self.rules.tick_size
        target = target_price(price, side, self.parameters.take_profit_percent, self.rules)
        return is_behind and target > 0 and (band is None or abs(stop / price - 1) <= band)

    def _missing_at_stop(self, side: Side, quantity: Decimal, price: Decimal) -> Decimal:
        """A SELL buys back at its stop for more than it was sold for: what the quote lacks for that."""
        if side is Side.BUY:
            return Decimal(0)
        stop = initial_stop(price, side, self.parameters.stop_loss_percent, self.rules)
        return quantity * stop - quantity * price * (1 - self.rules.taker_fee_rate) - self.quote

    def _count_problem(self, t: int) -> str | None:
        p, now = self.parameters, int(self.candles.open_time[t])
        if self.last_entry is not None and now - self.last_entry < p.trade_cooldown_minutes * 60:
            return "cooldown"
        if self.trades >= p.max_daily_trades:
            return "daily_trades"
        limit = self.day_equity * p.max_daily_loss_percent / 100
        return "daily_loss" if p.max_daily_loss_percent and self.loss > 0 and self.loss >= limit else None

    def _quantity(self, side: Side, fraction: Decimal, price: Decimal) -> Decimal:
        if side is Side.SELL:
            return self.rules.round_quantity(fraction * self.base)
        reserve = self.quote * (1 - self.rules.taker_fee_rate) / (price * (1 + self.rules.market_band))
        return self.rules.round_quantity(min(fraction * self.quote / price, reserve))

    def _held(self, side: Side, quantity: Decimal) -> Decimal:
        if side is Side.SELL:
            return quantity
        return self.rules.round_quantity(quantity * (1 - self.rules.taker_fee_rate))

    def _tradable(self, side: Side, quantity: Decimal, price: Decimal) -> bool:
        rules, p = self.rules, self.parameters
        if quantity <= 0 or quantity < rules.min_quantity or quantity * price < rules.min_notional:
            return False
        stop = initial_stop(price, side, p.stop_loss_percent, rules)
        lowest = min(stop, target_price(price, side, p.take_profit_percent, rules))
        held = self._held(side, quantity)
        worth = held * lowest * (1 - rules.taker_fee_rate)
        return held >= rules.min_quantity and worth >= MINIMUM_MARGIN * rules.min_notional

    def _open(self, t: int, side: Side, quantity: Decimal, price: Decimal) -> None:
        fee, p = self.rules.taker_fee_rate, self.parameters
        if side is Side.BUY:
            self.quote -= quantity * price
            self.base += quantity * (1 - fee)
        else:
            self.base -= quantity
            self.quote += quantity * price * (1 - fee)
        stop = initial_stop(price, side, p.stop_loss_percent, self.rules)
        target = target_price(price, side, p.take_profit_percent, self.rules)
        self.deal = Deal(side, t, price, quantity, self._held(side, quantity), stop, target, price)
        self.last_entry, self.trades = int(self.candles.open_time[t]), self.trades + 1

    def _inside(self, t: int) -> None:
        deal = self.deal
        assert deal
        opens, high, low = (self.price(name, t) for name in ("open", "high", "low"))
        buying = deal.side is Side.BUY
        worst, best = (low, high) if buying else (high, low)
        if worst is not None and (worst <= deal.stop if buying else worst >= deal.stop):
            opens = deal.stop if opens is None else opens
            price = min(deal.stop, opens) if buying else max(deal.stop, opens)
            reason = "trailing_stop" if deal.trailed else "stop_loss"
            self._close(t, self._market(price, deal.side.opposite), reason)
        elif best is not None and (best > deal.target if buying else best < deal.target):
            self._close(t, deal.target, "take_profit")
        elif t == len(self.candles) - 1:
            self._close(t, self._market(self.mark, deal.side.opposite), "end_of_data")
        else:
            self._trail(deal, deal.best if best is None else best)

    def _trail(self, deal: Deal, price: Decimal) -> None:
        deal.best = better_price(deal.side, deal.best, price)
        p = self.parameters
        moved = trailing_stop(
            deal.side, deal.best, deal.stop, p.trailing_stop_percent, p.trailing_step_percent, self.rules
        )
        if moved is not None:
            deal.stop, deal.trailed = moved, True

    def _close(self, t: int, price: Decimal, reason: str) -> None:
        deal, fee = self.deal, self.rules.taker_fee_rate
        assert deal
        worth_before = self._worth_before(deal, price)
        if deal.side is Side.BUY:
            self.quote += deal.held * price * (1 - fee)
            self.base -= deal.held
        else:
            bought = min(deal.held, self.rules.round_quantity(self.quote / (price * (1 + fee))))
            self.quote -= bought * price
            self.base += bought * (1 - fee)
        profit = self.quote + self.base * price - worth_before
        self.loss -= profit
        self.deals.append(
            {
                "side": deal.side.sign,
                "open_index": deal.opened,
                "close_index": t,
                "close_reason": reason,
                "open_price": deal.entry,
                "close_price": price,
                "quantity": deal.quantity,
                "profit": profit,
                "stop_price": deal.stop,
            }
        )
        self.deal = None

    def _worth_before(self, deal: Deal, price: Decimal) -> Decimal:
        """What the account would be worth at `price` had the deal never been: its profit is the difference."""
        fee = self.rules.taker_fee_rate
        if deal.side is Side.BUY:
            return self.quote + deal.quantity * deal.entry + (self.base - deal.quantity * (1 - fee)) * price
        return self.quote - deal.quantity * deal.entry * (1 - fee) + (self.base + deal.quantity) * price

    def _market(self, price: Decimal, side: Side) -> Decimal:
        slipped = price * (1 + side.sign * self.settings.slippage_percent / 100)
        return round_to(slipped, self.rules.tick_size, ROUND_CEILING if side is Side.BUY else ROUND_FLOOR)
