"""What happens to money: one numba pass from signal to signal. Floats; a slow Decimal twin lives in the tests.

`Rules` are plain numbers (fractions, seconds, prices): the pass knows nothing of schemas, markets or clocks. While no
deal is open nothing can happen but a signal, so the pass goes from one to the next; while one is open it looks for the
candles that touch it. What the account was worth at each candle is told afterwards, by `equity`.

Two fill models. Ours, conservative: a stop comes before a target, a gap through a stop fills at the open, a target must
be traded through, a trailing stop rises only after its candle completed. And freqtrade's, so that an outside judge can
check the machine: the high comes before the low, a target is net of fees, fees are paid in quote, the end of data
closes at the last open. `gap_at_open` is the one rule of the two that can be chosen alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from algo.indicators import Series

LONG_AGO = -(2**62)
_SLACK = 1e-9  # as a share: what floats may add to or take from a value that stands exactly on a limit


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
_STOP_LOSS, _TAKE_PROFIT = int(ExitReason.STOP_LOSS), int(ExitReason.TAKE_PROFIT)
_TRAILING_STOP = int(ExitReason.TRAILING_STOP)
_SIGNAL, _END_OF_DATA = int(ExitReason.SIGNAL), int(ExitReason.END_OF_DATA)
_SIDE_NOT_ALLOWED, _STALE_DATA = int(Refusal.SIDE_NOT_ALLOWED), int(Refusal.STALE_DATA)
_OPEN_DEAL_EXISTS, _COOLDOWN = int(Refusal.OPEN_DEAL_EXISTS), int(Refusal.COOLDOWN)
_DAILY_TRADES, _DAILY_LOSS = int(Refusal.DAILY_TRADES), int(Refusal.DAILY_LOSS)
_BELOW_MINIMUM, _INSUFFICIENT_BALANCE = int(Refusal.BELOW_MINIMUM), int(Refusal.INSUFFICIENT_BALANCE)
_THIN_BOOK, _STOP_NOT_PLACEABLE = int(Refusal.THIN_BOOK), int(Refusal.STOP_NOT_PLACEABLE)


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
    use_exits: bool = True  # False: the exits of `Orders` are not listened to
    freqtrade: bool = False
    gap_at_open: bool = True


# The kernel is handed rules as rows of such a table: one pointer, however many they are, and many sets at once.
_KINDS = {float: np.float64, int: np.int64, bool: np.bool_}
RULES = np.dtype([(name, _KINDS[type(value)]) for name, value in Rules(stop=0.0)._asdict().items()])


def rules_table(sets: Sequence[Rules]) -> NDArray[Any]:
    """Rules as the kernel reads them, a row each."""
    return np.array([tuple(one) for one in sets], dtype=RULES)


class Prices(NamedTuple):
    """Columns of candles."""

    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]


class Bar(NamedTuple):
    """One candle. Its close moves nothing: what is decided on it is done at the next open."""

    open: float
    high: float
    low: float


class Orders(NamedTuple):
    """What the strategy says at each close: side of an entry, its confidence, and which deals it closes: those of the
    other side than `leaves`, so that signals of entries can stand there as they are."""

    side: NDArray[np.int8]
    confidence: Series
    leaves: NDArray[np.int8]


class Books(NamedTuple):
    """Recorded order books, best level first. `of_candle` is the row of the book known at a candle's open, -1 for none;
    quantities are of each level, distances its price as a fraction away from the middle. Unused levels hold 0."""

    of_candle: NDArray[np.int32]
    bid_quantity: NDArray[np.float64]
    bid_distance: NDArray[np.float64]
    ask_quantity: NDArray[np.float64]
    ask_distance: NDArray[np.float64]


NO_BOOKS = Books(np.zeros(0, dtype=np.int32), *(np.zeros((0, 0)) for _ in range(4)))


class Market(NamedTuple):
    """The candles of a run. `day_starts` are the first candles of the trading days; `day_marks` the last price known
    before each of them and, at the end, of all: they value what the account holds."""

    times: NDArray[np.int64]
    day_starts: NDArray[np.int64]
    day_marks: NDArray[np.float64]
    prices: Prices
    books: Books


class Account(NamedTuple):
    """What the account holds: available, while no deal is open."""

    quote: float
    base: float


class Position(NamedTuple):
    """A deal as it is entered. `held` is what its exit can trade; a target that is off is infinitely far."""

    side: int
    entry: float
    quantity: float
    held: float
    first_stop: float
    target: float
    opened: int  # index of its entry candle


class Cues(NamedTuple):
    """The signals that a run listens to, in order: of an allowed side, followed in time by a candle that can be traded.

    `candle` is that next one, where the entry would be. Beside it stand its open time and price, the last price before
    it and the confidence: memory hands out columns faster than single values here and there.
    """

    candle: NDArray[np.int64]
    now: NDArray[np.int64]
    open: NDArray[np.float64]
    last: NDArray[np.float64]
    confidence: NDArray[np.float64]


class Day(NamedTuple):
    """The counts of one trading day."""

    number: int
    until: int  # index of the next day's first candle
    trades: int
    loss: float
    equity: float


class Exit(NamedTuple):
    """Where a deal closed: candle, reason, price, and the stop that was in force."""

    candle: int
    reason: int
    price: float
    stop: float


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
# What the account held while the deal was open, and after it.
BALANCE_COLUMNS = ("open_quote", "open_base", "quote", "base")


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def stop_behind(price: float, side: int, distance: float, rules: Any) -> float:
    """Stop at `distance` from a price, rounded toward safety."""
    return snap(price * (1.0 - side * distance), 0.0 if rules.freqtrade else rules.tick_size, side > 0)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def profit_at(entry: float, price: float, side: int, rules: Any) -> float:
    """freqtrade's profit ratio: fees of both sides in quote."""
    fee = rules.exit_fee
    if side > 0:
        return price * (1.0 - fee) / (entry * (1.0 + fee)) - 1.0
    return 1.0 - price * (1.0 + fee) / (entry * (1.0 - fee))


@njit(cache=True, nogil=True)
def market_price(price: float, order_side: int, slippage: float, rules: Any) -> float:
    """What a market order gets: slipped, and rounded against it."""
    return snap(price * (1.0 + order_side * slippage), rules.tick_size, order_side > 0)


@njit(cache=True, nogil=True)
def slippage_at(index: int, order_side: int, quantity: float, books: Books, rules: Any) -> float:
    """What a market order of that quantity loses against the candle's price, as a fraction.

    The fixed rate, or where a book was recorded the mean distance of the levels it takes; infinite where the book does
    not hold that much.
    """
    if books.of_candle[index] < 0:
        return rules.slippage
    row = books.of_candle[index]
    if order_side > 0:
        return walked(books.ask_quantity[row], books.ask_distance[row], quantity)
    return walked(books.bid_quantity[row], books.bid_distance[row], quantity)


@njit(cache=True, nogil=True)
def walked(quantities: Series, distances: Series, wanted: float) -> float:
    """Mean distance from the middle of the levels that `wanted` takes; infinite beyond the last one."""
    left, cost = wanted, 0.0
    for level in range(quantities.size):
        taken = min(left, quantities[level])
        cost += taken * distances[level]
        left -= taken
        if left <= 0.0:
            return cost / wanted if wanted > 0.0 else distances[0]
    return np.inf


@njit(cache=True, nogil=True)
def slippage_of_exit(index: int, deal: Position, books: Books, rules: Any) -> float:
    """As `slippage_at` for the exit's market order; a book too thin for it gives the end of the exchange's band."""
    slippage = slippage_at(index, -deal.side, deal.held, books, rules)
    if slippage < np.inf:
        return slippage
    return rules.market_band if rules.market_band < np.inf else rules.slippage


@njit(cache=True, nogil=True)
def exit_quantity(side: int, quantity: float, rules: Any) -> float:
    """What the exit can trade: a BUY paid its fee out of the coin it bought."""
    if side > 0 and not rules.freqtrade:
        return snap(quantity * (1.0 - rules.entry_fee), rules.step_size, False)
    return quantity


@njit(cache=True, nogil=True)
def quantity_for(side: int, fraction: float, price: float, account: Account, rules: Any) -> float:
    """The share of the balance as a quantity, rounded down, with the reserve exchanges ask of a market BUY."""
    if side < 0:
        return snap(fraction * account.base, rules.step_size, False)
    amount = fraction * account.quote / price
    if not rules.freqtrade and rules.market_band < np.inf:
        amount = min(amount, account.quote * (1.0 - rules.entry_fee) / (price * (1.0 + rules.market_band)))
    return snap(amount, rules.step_size, False)


@njit(cache=True, nogil=True)
def proposed(side: int, fraction: float, price: float, index: int, account: Account, rules: Any) -> Position:
    """The deal that this share of the balance would make at that price."""
    quantity = quantity_for(side, fraction, price, account, rules)
    held = exit_quantity(side, quantity, rules)
    stop, target = stop_behind(price, side, rules.stop, rules), target_of(price, side, rules)
    return Position(side, price, quantity, held, stop, target, index)


@njit(cache=True, nogil=True)
def too_small(deal: Position, rules: Any) -> bool:
    """Below the exchange's minimum, now or at the exit. A target at or below zero is worth nothing."""
    if deal.quantity <= 0.0 or deal.quantity < rules.min_quantity or deal.quantity * deal.entry < rules.min_notional:
        return True
    lowest = deal.first_stop if np.isinf(deal.target) else min(deal.first_stop, deal.target)
    worth = deal.held * lowest * (1.0 - rules.exit_fee)
    return deal.held < rules.min_quantity or worth < rules.minimum_margin * rules.min_notional


@njit(cache=True, nogil=True)
def refusal_by_day(since_entry: int, day: Day, rules: Any) -> int:
    """The limits of time and of the trading day, in the order of the risk gate. The refusal, or 0."""
    if since_entry < rules.cooldown_seconds:
        return _COOLDOWN
    if day.trades >= rules.max_daily_trades:
        return _DAILY_TRADES
    lost = rules.max_daily_loss > 0.0 and day.loss > 0.0 and day.loss >= rules.max_daily_loss * day.equity
    return _DAILY_LOSS if lost else 0


@njit(cache=True, nogil=True)
def refusal_by_size(deal: Position, is_deep: bool, last: float, account: Account, rules: Any) -> int:
    """The limits that need a size: whether the book holds it, the last price before it, its stop. The refusal, or 0."""
    if too_small(deal, rules):
        whole = proposed(deal.side, 1.0, deal.entry, deal.opened, account, rules)
        return _INSUFFICIENT_BALANCE if too_small(whole, rules) else _BELOW_MINIMUM
    price, stop = deal.entry, deal.first_stop
    if not is_deep or abs(price / last - 1.0) > rules.market_band + _SLACK:
        return _THIN_BOOK
    # Both stand on the grid: what is nearer than half a tick is not a tick away.
    if stop <= 0.0 or (price - stop) * deal.side < max(rules.tick_size / 2.0, 1e-12):
        return _STOP_NOT_PLACEABLE
    if abs(stop / price - 1.0) > rules.price_band + _SLACK or cannot_buy_back(deal, account, rules):
        return _STOP_NOT_PLACEABLE
    return 0


@njit(cache=True, nogil=True)
def cannot_buy_back(deal: Position, account: Account, rules: Any) -> bool:
    """Whether a SELL could not pay its own stop: it costs more than was sold for, and the quote lacks the rest."""
    if deal.side > 0 or rules.freqtrade:
        return False
    if deal.target <= 0.0 and not np.isinf(deal.target):
        return True
    cost = deal.quantity * deal.first_stop
    return cost - deal.quantity * deal.entry * (1.0 - rules.entry_fee) - account.quote > cost * _SLACK


@njit(cache=True, nogil=True)
def entered(deal: Position, account: Account, rules: Any) -> Account:
    """Buy or sell: the account after it."""
    fee, notional = rules.entry_fee, deal.quantity * deal.entry
    if deal.side < 0:
        return Account(account.quote + notional * (1.0 - fee), account.base - deal.quantity)
    if rules.freqtrade:
        return Account(account.quote - notional * (1.0 + fee), account.base + deal.quantity)
    return Account(account.quote - notional, account.base + deal.quantity * (1.0 - fee))


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def moving_price(stop: float, best: float, side: int, rules: Any) -> float:
    """A best price up to which the trailing stop certainly stays where it is: it moves by a step, rounded by a tick."""
    needed = stop * (1.0 + side * rules.trail_step * (1.0 - 1e-9)) - side * rules.tick_size
    reached = needed / (1.0 - side * rules.trail_distance) * (1.0 - side * 1e-12)
    return max(reached, best) if side > 0 else min(reached, best)


@njit(cache=True, nogil=True)
def freqtrade_distance(profit: float, rules: Any) -> float:
    """freqtrade trails closer once the best profit is above the offset, where such a distance is set."""
    if not np.isnan(rules.trail_positive_distance) and profit > rules.trail_offset:
        return rules.trail_positive_distance
    return rules.trail_distance


@njit(cache=True, nogil=True)
def stop_hit(stop: float, side: int, bar: Bar) -> bool:
    """A touch counts."""
    return bar.low <= stop if side > 0 else bar.high >= stop


@njit(cache=True, nogil=True)
def stop_fill(stop: float, side: int, bar: Bar, rules: Any) -> float:
    """Where a stop that was reached fills, before slippage."""
    if rules.gap_at_open:
        return bar.open if (stop - bar.open) * side > 0.0 else stop
    whole_bar_beyond = stop > bar.high if side > 0 else stop < bar.low
    return bar.open if whole_bar_beyond else stop


@njit(cache=True, nogil=True)
def conservative_exit(deal: Position, stop: float, bar: Bar, rules: Any) -> tuple[int, float]:
    """Stop before target; a target must be traded through and fills at its own price, a stop's is before slippage."""
    side = deal.side
    if stop_hit(stop, side, bar):
        return _STOP_LOSS if stop == deal.first_stop else _TRAILING_STOP, stop_fill(stop, side, bar, rules)
    if bar.high > deal.target if side > 0 else bar.low < deal.target:
        return _TAKE_PROFIT, deal.target
    return 0, np.nan


@njit(cache=True, nogil=True)
def freqtrade_exit(deal: Position, stop: float, is_entry: bool, bar: Bar, rules: Any) -> tuple[int, float]:
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def first_mark(prices: Prices) -> float:
    """Values what the account holds until the first close is known."""
    for t in range(prices.close.size):
        if not np.isnan(prices.close[t]):
            return prices.close[t] if np.isnan(prices.open[t]) else prices.open[t]
    return np.nan


@njit(cache=True, nogil=True)
def prepared(times: NDArray[np.int64], day_starts: NDArray[np.int64], prices: Prices, books: Books) -> Market:
    """What every run over these candles shares."""
    marks = np.empty(day_starts.size + 1)
    marks[0] = first_mark(prices)
    for number in range(1, marks.size):
        until = day_starts[number] if number < day_starts.size else times.size
        marks[number] = mark_before(until, day_starts[number - 1], marks[number - 1], prices.close)
    return Market(times, day_starts, marks, prices, books)


@njit(cache=True, nogil=True)
def mark_before(t: int, start: int, earlier: float, closes: Series) -> float:
    """The last close known before candle `t`, where `earlier` is the one known before candle `start`."""
    while t > start:
        t -= 1
        if not np.isnan(closes[t]):
            return closes[t]
    return earlier


@njit(cache=True, nogil=True)
def day_of(t: int, number: int, account: Account, market: Market) -> Day:
    """Counts of the trading day of candle `t`, which is day `number` or later. It begins with what the account was
    worth at the last price of the day before."""
    starts = market.day_starts
    while number + 1 < starts.size and starts[number + 1] <= t:
        number += 1
    until = starts[number + 1] if number + 1 < starts.size else market.times.size
    return Day(number, until, 0, 0.0, account.quote + account.base * market.day_marks[number])


@njit(cache=True, nogil=True)
def next_exit(start: int, stop: int, side: int, leaves: NDArray[np.int8], opens: Series) -> int:
    """The first candle before `stop` that opens after a signal to leave; `stop` where there is none."""
    for t in range(start, stop):
        if leaves[t - 1] == -side and not np.isnan(opens[t]):
            return t
    return stop


@njit(cache=True, nogil=True)
def closing(deal: Position, opens: Series, highs: Series, lows: Series, leaves: NDArray[np.int8], rules: Any) -> Exit:
    """How the deal ends, the price before slippage: by signal at an open, else inside a candle, else with the data
    (then the price is NaN: it is the last one known). Only candles are looked into that reach the stop, the target or
    what moves the stop."""
    side, stop, best, t, last = deal.side, deal.first_stop, deal.entry, deal.opened, opens.size - 1
    while True:
        bar = Bar(opens[t], highs[t], lows[t])
        reason, price = conservative_exit(deal, stop, bar, rules)
        if reason != 0:
            return Exit(t, reason, price, stop)
        if t == last:
            return Exit(last, _END_OF_DATA, np.nan, stop)
        beyond, after = deal.target, t + 1
        if rules.trailing:
            extreme = bar.high if side > 0 else bar.low
            best = extreme if (extreme - best) * side > 0.0 else best
            stop = trailed(stop, deal.entry, best, side, rules)
            moving = moving_price(stop, best, side, rules)
            beyond = min(beyond, moving) if side > 0 else max(beyond, moving)
        floor, ceiling = (stop, beyond) if side > 0 else (beyond, stop)
        i, four = np.uintp(after), np.uintp(4)  # unsigned, so that no index can count from the end
        while i + four <= last:  # four at a time while nothing happens; a price that is missing is no extreme
            low, high = np.inf, -np.inf
            for k in range(i, i + four):
                low = lows[k] if lows[k] < low else low
                high = highs[k] if highs[k] > high else high
            if low <= floor or high >= ceiling:
                break
            i += four
        while i < last and not (lows[i] <= floor or highs[i] >= ceiling):
            i += np.uintp(1)
        t = int(np.intp(i))
        left = next_exit(after, t + 1, side, leaves, opens) if rules.use_exits else t + 1
        if left <= t:
            return Exit(left, _SIGNAL, opens[left], stop)


@njit(cache=True, nogil=True)
def freqtrade_closing(
    deal: Position, opens: Series, highs: Series, lows: Series, leaves: NDArray[np.int8], rules: Any
) -> Exit:
    """As `closing`, but that the end of data has a price: the last open."""
    side, stop, last = deal.side, deal.first_stop, opens.size - 1
    for t in range(deal.opened, opens.size):
        bar = Bar(opens[t], highs[t], lows[t])
        if rules.trailing and (stop < bar.low if side > 0 else stop > bar.high):
            stop = trailed(stop, deal.entry, bar.high if side > 0 else bar.low, side, rules)
        reason, price = freqtrade_exit(deal, stop, deal.opened == t, bar, rules)
        if reason != 0:
            return Exit(t, reason, price, stop)
        if rules.use_exits and t < last and next_exit(t + 1, t + 2, side, leaves, opens) == t + 1:
            return Exit(t + 1, _SIGNAL, opens[t + 1], stop)
    return Exit(last, _END_OF_DATA, opens[last], stop)


@njit(cache=True, nogil=True)
def asked_price(
    index: int, opened: float, side: int, fraction: float, account: Account, books: Books, rules: Any
) -> tuple[float, bool]:
    """What the entry's market order gets, for the quantity the touch would pay for, and whether the book holds it."""
    price = market_price(opened, side, slippage_at(index, side, 0.0, books, rules), rules)
    quantity = quantity_for(side, fraction, price, account, rules)
    slippage = slippage_at(index, side, quantity, books, rules)
    return (price, False) if slippage == np.inf else (market_price(opened, side, slippage, rules), True)


@njit(cache=True, nogil=True)
def entries_of(sides: NDArray[np.int8], rules: Any, refused: NDArray[np.int64]) -> NDArray[np.int64]:
    """The candles that follow a signal of an allowed side, in order. Others are counted in `refused`; a signal that no
    candle follows is left out."""
    found, said, kept = np.empty(sides.size, dtype=np.int64), 0, 0
    for t in range(1, sides.size):
        found[said] = t  # without a branch, which the machine could not guess: the next one overwrites it
        said += sides[t - 1] != 0
    buy, sell = np.int8(1 if rules.allow_buy else 2), np.int8(-1 if rules.allow_sell else 2)  # no side is 2
    for k in range(said):
        t = found[k]
        found[kept] = t
        kept += (sides[t - 1] == buy) | (sides[t - 1] == sell)
    refused[_SIDE_NOT_ALLOWED] += said - kept
    return found[:kept]


@njit(cache=True, nogil=True)
def cues_of(market: Market, orders: Orders, rules: Any, refused: NDArray[np.int64]) -> Cues:
    """What a run with such rules reacts to: the limits that the risk gate looks at first, and that no account changes.
    What does not pass is counted in `refused`."""
    candle = entries_of(orders.side, rules, refused)
    now, opened = np.empty_like(candle), np.empty(candle.size)
    last, confidence = np.empty(candle.size), np.empty(candle.size)
    times, opens, closes, confidences = market.times, market.prices.open, market.prices.close, orders.confidence
    final, one = np.uintp(times.size - 1), np.uintp(1)
    oldest, kept = rules.candle_seconds + rules.max_age_seconds, 0
    for k in range(candle.size):
        t = np.uintp(candle[k])  # unsigned, so that no index can count from the end
        candle[kept], now[kept], opened[kept] = t, times[t], opens[t]
        last[kept], confidence[kept] = closes[t - one], confidences[t - one]
        kept += (times[t] - times[t - one] <= oldest) & (t < final) & (not np.isnan(opens[t]))
    refused[_STALE_DATA] += candle.size - kept
    start, mark = 0, market.day_marks[0]
    for k in range(kept):
        if np.isnan(last[k]):
            last[k] = mark_before(candle[k], start, mark, closes)
        start, mark = candle[k], last[k]
    return Cues(candle[:kept], now[:kept], opened[:kept], last[:kept], confidence[:kept])


@njit(cache=True, nogil=True)
def simulate(
    cues: Cues, market: Market, orders: Orders, account: Account, rules: Any, out: tuple[Any, Any, Any]
) -> int:
    """Play the cues: what is said at the close of one candle is done at the open of the next. Gives how many deals.

    Written into `out`: the closed deals (DEAL_COLUMNS), what the account held while each was open and after it
    (BALANCE_COLUMNS), and counts by Refusal, added to those that are there.
    """
    deals, balances, refused = out
    _, _, day_marks, (opens, highs, lows, _), books = market
    candles, times, opened, known, confidences = cues
    sides, _, leaves = orders
    has_books = books.of_candle.size > 0
    count, last_entry, open_until, day = 0, LONG_AGO, -1, day_of(0, 0, account, market)
    for k in range(candles.size):
        t = candles[k]
        if t <= open_until:
            refused[_OPEN_DEAL_EXISTS] += 1
            continue
        if t >= day.until:
            day = day_of(t, day.number, account, market)
        code = refusal_by_day(times[k] - last_entry, day, rules)
        if code != 0:
            refused[code] += 1
            continue
        side = int(sides[t - 1])
        fraction = min(min(confidences[k], 1.0) * rules.position_fraction, rules.max_fraction)
        asked, is_deep = market_price(opened[k], side, rules.slippage, rules), True
        if has_books:
            asked, is_deep = asked_price(t, opened[k], side, fraction, account, books, rules)
        deal = proposed(side, fraction, asked, t, account, rules)
        code = refusal_by_size(deal, is_deep, known[k], account, rules)
        if code != 0:
            refused[code] += 1
            continue
        account = entered(deal, account, rules)
        balances[count, 0], balances[count, 1] = account.quote, account.base
        end = (
            freqtrade_closing(deal, opens, highs, lows, leaves, rules)
            if rules.freqtrade
            else closing(deal, opens, highs, lows, leaves, rules)
        )
        last_entry, open_until = times[k], end.candle
        trades, lost = day.trades + 1, day.loss
        if open_until >= day.until:
            trades, lost, day = 0, 0.0, day_of(open_until, day.number, account, market)
        price = day_marks[-1] if np.isnan(end.price) else end.price
        if end.reason != _TAKE_PROFIT and not rules.freqtrade:
            slippage = slippage_of_exit(open_until, deal, books, rules) if has_books else rules.slippage
            price = market_price(price, -side, slippage, rules)
        fee = rules.target_fee if end.reason == _TAKE_PROFIT else rules.exit_fee
        account, (fees, profit, ratio) = settled(deal, price, fee, account, rules)
        day = Day(day.number, day.until, trades, lost - profit, day.equity)
        row = deals[count]
        row[0], row[1], row[2], row[3] = deal.side, deal.opened, end.candle, end.reason
        row[4], row[5], row[6], row[7] = deal.entry, price, deal.quantity, deal.quantity * deal.entry
        row[8], row[9], row[10], row[11] = fees, profit, ratio, end.stop
        balances[count, 2], balances[count, 3] = account.quote, account.base
        count += 1
    return count


# --- many sets at once ----------------------------------------------------------------------------------------------
# In this file, because the compiler's cache notices changes of a function's own file only, not of what it calls.

FIGURES = (
    "final_equity",
    "net_profit",
    "net_profit_percent",
    "deals",
    "win_rate_percent",
    "profit_factor",
    "max_drawdown_percent",
    "sharpe",
    "fees_paid",
    "exposure_percent",
)
_DAYS_A_YEAR = 365.0
BLOCK = 64  # candles whose extremes are known together


class Counted(NamedTuple):
    """The part of the candles that figures are counted over: marks, also by blocks, and the last candle of each day."""

    first: int
    start: float  # equity as the counting begins
    marks: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    day_ends: NDArray[np.int64]


@njit(cache=True, nogil=True)
def play_sets(
    cues: Cues, market: Market, orders: Orders, account: Account, table: Any, counted: Counted, out: Any, rows: Series
) -> None:
    """The kernel once for each row of rules, all of which have the same cues."""
    deals, balances, _ = out
    for i in range(table.size):
        count = simulate(cues, market, orders, account, table[i], out)
        figures_of(deals[:count], balances[:count], account, counted, rows[i])


@njit(cache=True, nogil=True)
def figures_of(deals: Series, balances: Series, account: Account, counted: Counted, row: Series) -> None:
    """FIGURES of one run into `row`."""
    won, wins, losses, fees, held = 0, 0.0, 0.0, 0.0, 0.0
    for i in range(deals.shape[0]):
        profit = deals[i, 9]
        won += profit > 0.0
        wins += max(profit, 0.0)
        losses -= min(profit, 0.0)
        fees += deals[i, 8]
        held += deals[i, 2] - deals[i, 1] + 1.0
    final, fall, sharpe = course_of(deals, balances, account, counted)
    count = deals.shape[0]
    row[0], row[1], row[2] = final, final - counted.start, (final / counted.start - 1.0) * 100.0
    row[3], row[4] = count, 100.0 * won / count if count else np.nan
    row[5], row[6], row[7] = wins / losses if losses > 0.0 else np.nan, fall * 100.0, sharpe
    row[8], row[9] = fees, 100.0 * held / (counted.marks.size - counted.first)


@njit(cache=True, nogil=True)
def course_of(deals: Series, balances: Series, account: Account, counted: Counted) -> tuple[float, float, float]:
    """Final equity, deepest fall as a fraction, and Sharpe ratio, along stretches over which the balances stay."""
    marks, peak, fall, day, before = counted.marks, counted.start, 0.0, 0, counted.start
    returns = np.empty(counted.day_ends.size)
    quote, base = account.quote, account.base
    done = counted.first
    for stretch in range(2 * deals.shape[0] + 1):
        deal, is_open = stretch // 2, stretch % 2 == 1  # flat, open, flat, open, ... flat
        if is_open:
            until, quote, base = int(deals[deal, 2]), balances[deal, 0], balances[deal, 1]
        else:
            until = int(deals[deal, 1]) if deal < deals.shape[0] else marks.size
            if deal > 0:
                quote, base = balances[deal - 1, 2], balances[deal - 1, 3]
        if until > done:
            if until - done <= 2 * BLOCK:  # too short for blocks: a call would cost more than the loop
                for t in range(done, until):
                    worth = quote + base * marks[t]
                    peak = max(peak, worth)
                    fall = 1.0 - worth / peak if worth < peak * (1.0 - fall) else fall
            else:
                peak, fall = fallen(peak, fall, Account(quote, base), done, until, marks, counted)
            while day < returns.size and counted.day_ends[day] < until:
                worth = quote + base * marks[counted.day_ends[day]]
                returns[day], before, day = worth / before - 1.0, worth, day + 1
            done = until
    final = quote + base * marks[-1]
    if returns.size < 2:
        return final, fall, np.nan
    mean = returns.mean()
    deviation = np.sqrt(((returns - mean) ** 2).sum() / (returns.size - 1))
    return final, fall, mean / deviation * np.sqrt(_DAYS_A_YEAR) if deviation > 1e-12 else np.nan


@njit(cache=True, nogil=True)
def fallen(
    peak: float, fall: float, held: Account, start: int, until: int, marks: Series, counted: Counted
) -> tuple[float, float]:
    """Highest equity and deepest fall after a stretch in which the account holds the same. A block in which neither
    can change is not looked into."""
    t = start
    while t < until:
        block = t // BLOCK
        if t == block * BLOCK and t + BLOCK <= until:
            high = held.quote + held.base * counted.highest[block]
            low = held.quote + held.base * counted.lowest[block]
            if high <= peak and low >= peak * (1.0 - fall):
                t += BLOCK
                continue
        for i in range(t, min((block + 1) * BLOCK, until)):
            worth = held.quote + held.base * marks[i]
            if worth > peak:
                peak = worth
            elif worth < peak * (1.0 - fall):
                fall = 1.0 - worth / peak
        t = (block + 1) * BLOCK
    return peak, fall
