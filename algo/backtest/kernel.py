"""What happens to money, candle by candle: one numba pass over signals. Floats; a slow Decimal twin lives in the tests.

`Rules` are plain numbers (fractions, seconds, prices): the pass knows nothing of schemas, markets or clocks.

Two fill models. Ours, conservative: a stop comes before a target, a gap through a stop fills at the open, a target must
be traded through, a trailing stop rises only after its candle completed. And freqtrade's, so that an outside judge can
check the machine: the high comes before the low, a target is net of fees, fees are paid in quote, the end of data
closes at the last open. `gap_at_open` is the one rule of the two that can be chosen alone.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from algo.indicators import Mask, Series

LONG_AGO = -(2**62)


class ExitReason(IntEnum):
    """Why a deal of a backtest closed."""

    NONE = 0
    STOP_LOSS = 1
    TAKE_PROFIT = 2
    TRAILING_STOP = 3
    SIGNAL = 4
    END_OF_DATA = 5


class Refusal(IntEnum):
    """Why a signal made no deal. The names are those of algo.risk.DenialCode."""

    NONE = 0
    SIDE_NOT_ALLOWED = 1
    STALE_DATA = 2
    OPEN_DEAL_EXISTS = 3
    COOLDOWN = 4
    DAILY_TRADES = 5
    DAILY_LOSS = 6
    BELOW_MINIMUM = 7
    INSUFFICIENT_BALANCE = 8
    THIN_BOOK = 9
    STOP_NOT_PLACEABLE = 10


# Plain integers: compiled code reads constants of its module, and keeps them.
_STOP_LOSS, _TAKE_PROFIT, _TRAILING_STOP = (
    int(ExitReason.STOP_LOSS),
    int(ExitReason.TAKE_PROFIT),
    int(ExitReason.TRAILING_STOP),
)
_SIGNAL, _END_OF_DATA = int(ExitReason.SIGNAL), int(ExitReason.END_OF_DATA)
_SIDE_NOT_ALLOWED, _STALE_DATA = int(Refusal.SIDE_NOT_ALLOWED), int(Refusal.STALE_DATA)
_OPEN_DEAL_EXISTS, _COOLDOWN = int(Refusal.OPEN_DEAL_EXISTS), int(Refusal.COOLDOWN)
_DAILY_TRADES, _DAILY_LOSS = int(Refusal.DAILY_TRADES), int(Refusal.DAILY_LOSS)
_BELOW_MINIMUM, _INSUFFICIENT_BALANCE = int(Refusal.BELOW_MINIMUM), int(Refusal.INSUFFICIENT_BALANCE)
_THIN_BOOK, _STOP_NOT_PLACEABLE = int(Refusal.THIN_BOOK), int(Refusal.STOP_NOT_PLACEABLE)
_REFUSALS = len(Refusal)


class Rules(NamedTuple):
    """Plain numbers for the kernel. Fractions, not percents; NaN and infinity are off; a grid of 0 does not round."""

    stop: float
    target: float = math.nan
    trailing: bool = False
    trail_distance: float = 0.0
    trail_positive_distance: float = math.nan  # freqtrade only: the distance once the best profit is above trail_offset
    trail_offset: float = 0.0  # freqtrade only
    trail_only_offset: bool = False  # freqtrade only: no trailing below trail_offset
    trail_step: float = 0.0
    position_fraction: float = 1.0
    max_fraction: float = 1.0
    cooldown_seconds: int = 0
    max_daily_trades: int = 1_000_000_000
    max_daily_loss: float = 0.0  # of the day's first equity; 0 is off
    tick_size: float = 0.0
    step_size: float = 0.0
    min_quantity: float = 0.0
    min_notional: float = 0.0
    minimum_margin: float = 1.0  # times min_notional, for the exit order
    entry_fee: float = 0.0
    exit_fee: float = 0.0
    target_fee: float = 0.0
    slippage: float = 0.0
    market_band: float = math.inf
    price_band: float = math.inf
    candle_seconds: int = 60
    max_age_seconds: int = 1_000_000_000
    allow_buy: bool = True
    allow_sell: bool = True
    freqtrade: bool = False
    gap_at_open: bool = True


class Prices(NamedTuple):
    """Columns of candles, or one candle."""

    open: Any
    high: Any
    low: Any
    close: Any


class Orders(NamedTuple):
    """What the strategy says at each close: side of an entry, its confidence, and exits of either side."""

    side: NDArray[np.int8]
    confidence: Series
    exit_buy: Mask
    exit_sell: Mask


class Account(NamedTuple):
    """What the account holds: available, while no deal is open."""

    quote: float
    base: float


class Position(NamedTuple):
    """An open deal; `side` 0 is none. `held` is what its exit can trade."""

    side: int
    entry: float
    quantity: float
    held: float
    first_stop: float
    target: float
    opened: int  # index of its entry candle


class Moment(NamedTuple):
    """When a signal was said and when it would be done (open times), and whether it could be."""

    said: int
    now: int
    last_entry: int
    tradable: bool
    deal_open: bool


class Day(NamedTuple):
    """The counts of one trading day."""

    number: int
    trades: int
    loss: float
    equity: float


DEAL_COLUMNS = (
    "side",
    "open_index",
    "close_index",
    "exit_reason",
    "open_price",
    "close_price",
    "quantity",
    "notional",
    "fees",
    "profit",
    "profit_ratio",
    "stop_price",
)


@njit(cache=True)
def snap(value: float, grid: float, up: bool) -> float:
    """`value` on the grid, up or down; what is on it but for the rounding of floats stays.

    The answer is the float that its decimal text would give (866 / 10, where 866 * 0.1 is a little more), so that a
    candle that touches a stop touches it.
    """
    if grid <= 0.0:
        return value
    units = value / grid
    nearest = np.round(units)
    if abs(units - nearest) >= 1e-7:
        nearest = np.ceil(units) if up else np.floor(units)
    per_unit = np.round(1.0 / grid)
    return nearest / per_unit if abs(per_unit * grid - 1.0) < 1e-9 else nearest * grid


@njit(cache=True)
def stop_behind(price: float, side: int, distance: float, rules: Any) -> float:
    """Stop at `distance` from a price, rounded toward safety."""
    return snap(price * (1.0 - side * distance), 0.0 if rules.freqtrade else rules.tick_size, side > 0)


@njit(cache=True)
def target_of(entry: float, side: int, rules: Any) -> float:
    """Limit price of the target; freqtrade's is where the profit net of fees reaches it. Infinitely far where off."""
    if np.isnan(rules.target):
        return np.inf * side
    if not rules.freqtrade:
        return snap(entry * (1.0 + side * rules.target), rules.tick_size, side > 0)
    fee = rules.exit_fee
    if side > 0:
        return entry * (1.0 + rules.target) * (1.0 + fee) / (1.0 - fee)
    return entry * (1.0 - rules.target) * (1.0 - fee) / (1.0 + fee)


@njit(cache=True)
def profit_at(entry: float, price: float, side: int, rules: Any) -> float:
    """freqtrade's profit ratio: fees of both sides in quote."""
    fee = rules.exit_fee
    if side > 0:
        return price * (1.0 - fee) / (entry * (1.0 + fee)) - 1.0
    return 1.0 - price * (1.0 + fee) / (entry * (1.0 - fee))


@njit(cache=True)
def market_price(price: float, order_side: int, rules: Any) -> float:
    """What a market order gets: slipped, and rounded against it."""
    return snap(price * (1.0 + order_side * rules.slippage), rules.tick_size, order_side > 0)


@njit(cache=True)
def exit_quantity(side: int, quantity: float, rules: Any) -> float:
    """What the exit can trade: a BUY paid its fee out of the coin it bought."""
    if side > 0 and not rules.freqtrade:
        return snap(quantity * (1.0 - rules.entry_fee), rules.step_size, False)
    return quantity


@njit(cache=True)
def quantity_for(side: int, fraction: float, price: float, account: Account, rules: Any) -> float:
    """The share of the balance as a quantity, rounded down, with the reserve exchanges ask of a market BUY."""
    if side < 0:
        return snap(fraction * account.base, rules.step_size, False)
    amount = fraction * account.quote / price
    if not rules.freqtrade and rules.market_band < np.inf:
        amount = min(amount, account.quote * (1.0 - rules.entry_fee) / (price * (1.0 + rules.market_band)))
    return snap(amount, rules.step_size, False)


@njit(cache=True)
def too_small(side: int, quantity: float, price: float, rules: Any) -> bool:
    """Below the exchange's minimum, now or at the exit."""
    if quantity <= 0.0 or quantity < rules.min_quantity or quantity * price < rules.min_notional:
        return True
    lowest = min(stop_behind(price, side, rules.stop, rules), abs(target_of(price, side, rules)))
    held = exit_quantity(side, quantity, rules)
    worth = held * lowest * (1.0 - rules.exit_fee)
    return held < rules.min_quantity or worth < rules.minimum_margin * rules.min_notional


@njit(cache=True)
def refusal_by_rule(side: int, moment: Moment, day: Day, rules: Any) -> int:
    """The limits that need no size, in the order of the risk gate. The refusal, or 0."""
    if not (rules.allow_buy if side > 0 else rules.allow_sell):
        return _SIDE_NOT_ALLOWED
    if not moment.tradable or moment.now - moment.said - rules.candle_seconds > rules.max_age_seconds:
        return _STALE_DATA
    if moment.deal_open:
        return _OPEN_DEAL_EXISTS
    if moment.now - moment.last_entry < rules.cooldown_seconds:
        return _COOLDOWN
    if day.trades >= rules.max_daily_trades:
        return _DAILY_TRADES
    lost = rules.max_daily_loss > 0.0 and day.loss > 0.0 and day.loss >= rules.max_daily_loss * day.equity
    return _DAILY_LOSS if lost else 0


@njit(cache=True)
def refusal_by_size(side: int, fraction: float, prices: Any, account: Account, rules: Any) -> int:
    """The limits that need a size; `prices` are the entry's and the last before it."""
    price, last = prices
    if too_small(side, quantity_for(side, fraction, price, account, rules), price, rules):
        whole = quantity_for(side, 1.0, price, account, rules)
        return _INSUFFICIENT_BALANCE if too_small(side, whole, price, rules) else _BELOW_MINIMUM
    if abs(price / last - 1.0) > rules.market_band:
        return _THIN_BOOK
    stop = stop_behind(price, side, rules.stop, rules)
    if stop <= 0.0 or (price - stop) * side < max(rules.tick_size, 1e-12):
        return _STOP_NOT_PLACEABLE
    return _STOP_NOT_PLACEABLE if abs(stop / price - 1.0) > rules.price_band else 0


@njit(cache=True)
def entered(
    side: int, fraction: float, price: float, index: int, account: Account, rules: Any
) -> tuple[Position, Account]:
    """Buy or sell: the deal, and the account after it."""
    quantity = quantity_for(side, fraction, price, account, rules)
    fee = rules.entry_fee
    if side < 0:
        after = Account(account.quote + quantity * price * (1.0 - fee), account.base - quantity)
    elif rules.freqtrade:
        after = Account(account.quote - quantity * price * (1.0 + fee), account.base + quantity)
    else:
        after = Account(account.quote - quantity * price, account.base + quantity * (1.0 - fee))
    held = exit_quantity(side, quantity, rules)
    stop, target = stop_behind(price, side, rules.stop, rules), target_of(price, side, rules)
    return Position(side, price, quantity, held, stop, target, index), after


@njit(cache=True)
def trailed(stop: float, entry: float, best: float, side: int, rules: Any) -> float:
    """The stop after `best` was seen: moved toward profit where the rules allow, never back."""
    distance = rules.trail_distance
    if rules.freqtrade:
        profit = profit_at(entry, best, side, rules)
        if rules.trail_only_offset and profit < rules.trail_offset:
            return stop
        distance = freqtrade_distance(profit, rules)
    raised = stop_behind(best, side, distance, rules)
    gain = (raised - stop) * side
    return raised if gain > 0.0 and gain >= stop * rules.trail_step * (1.0 - 1e-9) else stop


@njit(cache=True)
def freqtrade_distance(profit: float, rules: Any) -> float:
    """freqtrade trails closer once the best profit is above the offset, where such a distance is set."""
    if not np.isnan(rules.trail_positive_distance) and profit > rules.trail_offset:
        return rules.trail_positive_distance
    return rules.trail_distance


@njit(cache=True)
def stop_hit(stop: float, side: int, bar: Prices) -> bool:
    """A touch counts."""
    return bar.low <= stop if side > 0 else bar.high >= stop


@njit(cache=True)
def stop_fill(stop: float, side: int, bar: Prices, rules: Any) -> float:
    """Where a stop that was reached fills, before slippage."""
    if rules.gap_at_open:
        return bar.open if (stop - bar.open) * side > 0.0 else stop
    whole_bar_beyond = stop > bar.high if side > 0 else stop < bar.low
    return bar.open if whole_bar_beyond else stop


@njit(cache=True)
def conservative_exit(deal: Position, stop: float, bar: Prices, rules: Any) -> tuple[int, float]:
    """Stop before target; the target must be traded through, and fills at its own price."""
    side = deal.side
    if stop_hit(stop, side, bar):
        price = market_price(stop_fill(stop, side, bar, rules), -side, rules)
        return _STOP_LOSS if stop == deal.first_stop else _TRAILING_STOP, price
    if bar.high > deal.target if side > 0 else bar.low < deal.target:
        return _TAKE_PROFIT, deal.target
    return 0, np.nan


@njit(cache=True)
def freqtrade_exit(deal: Position, stop: float, is_entry: bool, bar: Prices, rules: Any) -> tuple[int, float]:
    """Initial stop, then target, then trailing stop. `stop` was already trailed with this candle's best price."""
    side = deal.side
    hit = stop_hit(stop, side, bar)
    if hit and stop == deal.first_stop:
        return _STOP_LOSS, stop_fill(stop, side, bar, rules)
    best = profit_at(deal.entry, bar.high if side > 0 else bar.low, side, rules)
    if not np.isnan(rules.target) and np.round(best, 8) > rules.target:
        return _TAKE_PROFIT, min(max(deal.target, bar.low), bar.high)
    if not hit:
        return 0, np.nan
    if not is_entry:
        return _TRAILING_STOP, stop_fill(stop, side, bar, rules)
    # Raised and hit within the entry candle: freqtrade assumes the worst path that can do both.
    if rules.trail_only_offset and not np.isnan(rules.trail_positive_distance):
        worst = bar.open * (1.0 + side * (rules.trail_offset - rules.trail_positive_distance))
    else:
        worst = bar.open * (1.0 - side * freqtrade_distance(best, rules))
    return _TRAILING_STOP, max(worst, bar.low) if side > 0 else min(worst, bar.high)


@njit(cache=True)
def settled(deal: Position, price: float, fee: float, account: Account, rules: Any) -> tuple[Account, Any]:
    """Close the deal: the account after it, and its (fees, profit, profit ratio). Dust counts at the exit price."""
    notional = deal.quantity * deal.entry
    if deal.side > 0:
        sold = deal.held * price
        kept = deal.quantity if rules.freqtrade else deal.quantity * (1.0 - rules.entry_fee)
        cost = notional * (1.0 + rules.entry_fee) if rules.freqtrade else notional
        profit = sold * (1.0 - fee) + (kept - deal.held) * price - cost
        after = Account(account.quote + sold * (1.0 - fee), account.base - deal.held)
        return after, (notional * rules.entry_fee + sold * fee, profit, profit / cost)
    # Buy back what was sold; after a large loss perhaps only what the quote still pays for.
    affordable = snap(account.quote / (price * (1.0 + fee)), rules.step_size, False)
    bought = min(deal.held, max(affordable, 0.0))
    fees = notional * rules.entry_fee + bought * price * fee
    profit = notional - deal.quantity * price - fees
    if rules.freqtrade:
        after = Account(account.quote - bought * price * (1.0 + fee), account.base + bought)
    else:
        after = Account(account.quote - bought * price, account.base + bought * (1.0 - fee))
    return after, (fees, profit, profit / notional)


@njit(cache=True)
def first_price(prices: Prices) -> float:
    """Values what the account holds until the first close is known."""
    for t in range(prices.close.size):
        if not np.isnan(prices.close[t]):
            return prices.close[t] if np.isnan(prices.open[t]) else prices.open[t]
    return np.nan


@njit(cache=True)
def simulate(  # noqa: C901, PLR0912, PLR0915 - one pass; all that has a name of its own stands above
    times: NDArray[np.int64],
    days: NDArray[np.int64],
    prices: Prices,
    orders: Orders,
    account: Account,
    rules: Any,
) -> tuple[Series, Series, NDArray[np.int64]]:
    """Play the orders: what is said at the close of one candle is done at the open of the next.

    Gives the closed deals (columns of DEAL_COLUMNS), the equity in quote after each candle, and counts by Refusal.
    """
    n = times.size
    deals = np.empty((np.count_nonzero(orders.side), 12))
    equity, refused = np.empty(n), np.zeros(_REFUSALS, dtype=np.int64)
    count, last_entry, mark = 0, LONG_AGO, first_price(prices)
    deal, stop, best = Position(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0), 0.0, 0.0
    day = Day(days[0], 0, 0.0, account.quote + account.base * mark)
    for t in range(n):
        bar, is_last = Prices(prices.open[t], prices.high[t], prices.low[t], prices.close[t]), t == n - 1
        if days[t] != day.number:
            day = Day(days[t], 0, 0.0, equity[t - 1])
        reason, price = 0, np.nan
        # At the open: leave by signal, or enter.
        leaves = t > 0 and (orders.exit_buy[t - 1] if deal.side > 0 else orders.exit_sell[t - 1])
        if deal.side != 0 and leaves and not np.isnan(bar.open):
            reason, price = _SIGNAL, market_price(bar.open, -deal.side, rules)
        side = int(orders.side[t - 1]) if t > 0 else 0
        if side != 0:
            tradable = not is_last and not np.isnan(bar.open)
            moment = Moment(times[t - 1], times[t], last_entry, tradable, deal.side != 0)
            code = refusal_by_rule(side, moment, day, rules)
            confident = min(orders.confidence[t - 1], 1.0) * rules.position_fraction
            fraction, asked = min(confident, rules.max_fraction), market_price(bar.open, side, rules)
            if code == 0:
                code = refusal_by_size(side, fraction, (asked, mark), account, rules)
            if code == 0:
                deal, account = entered(side, fraction, asked, t, account, rules)
                stop, best, last_entry = deal.first_stop, deal.entry, times[t]
                day = Day(day.number, day.trades + 1, day.loss, day.equity)
            refused[code] += 1
        mark = mark if np.isnan(bar.close) else bar.close
        # Inside the candle.
        if deal.side != 0 and reason == 0:
            extreme = bar.high if deal.side > 0 else bar.low
            if rules.freqtrade:
                if rules.trailing and (stop < bar.low if deal.side > 0 else stop > bar.high):
                    stop = trailed(stop, deal.entry, extreme, deal.side, rules)
                reason, price = freqtrade_exit(deal, stop, deal.opened == t, bar, rules)
            else:
                reason, price = conservative_exit(deal, stop, bar, rules)
            if reason == 0 and is_last:
                reason = _END_OF_DATA
                price = bar.open if rules.freqtrade else market_price(mark, -deal.side, rules)
        if reason != 0:
            fee = rules.target_fee if reason == _TAKE_PROFIT else rules.exit_fee
            account, (fees, profit, ratio) = settled(deal, price, fee, account, rules)
            day = Day(day.number, day.trades, day.loss - profit, day.equity)
            deals[count, :4] = deal.side, deal.opened, t, reason
            deals[count, 4:8] = deal.entry, price, deal.quantity, deal.quantity * deal.entry
            deals[count, 8:] = fees, profit, ratio, stop
            count += 1
            deal = Position(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
        elif deal.side != 0 and rules.trailing and not rules.freqtrade:
            best = extreme if (extreme - best) * deal.side > 0.0 else best
            stop = trailed(stop, deal.entry, best, deal.side, rules)
        equity[t] = account.quote + account.base * mark
    return deals[:count], equity, refused
