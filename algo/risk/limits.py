"""Each limit of the risk gate as a function without side effects: a Denial, or None where it has nothing to say."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from algo.risk.codes import DenialCode
from algo.risk.sizing import BAND_MARGIN, Size, plain, shortfall, size_at, size_entry
from algo.risk.stops import PERCENT, initial_stop, stop_crossed, target_price
from algo.risk.values import Denial, EntryIntent, RiskContext
from providers.types import ZERO, OrderBook, ProtectionMode, Side

# Rial is ten toman. A ratio in here is no market move but a unit that was mixed up.
_UNIT_FACTOR = (Decimal(5), Decimal(20))
LAST_OF_A_KEY = timedelta(days=1)
# A strategy gone mad plans entries as fast as candles close. Far below what the exchanges allow, far above what a sound
# account does.
RUNAWAY_ENTRIES = 30
RUNAWAY_WINDOW = timedelta(minutes=10)


def kill_switch(intent: EntryIntent, context: RiskContext) -> Denial | None:
    if not context.kill_switch:
        return None
    why = context.kill_switch_reason or "the kill switch is on"
    return Denial(DenialCode.KILL_SWITCH, f"{why}; no entries until a person releases it")


def account_paused(intent: EntryIntent, context: RiskContext) -> Denial | None:
    if not context.account_paused:
        return None
    return Denial(DenialCode.ACCOUNT_PAUSED, "the account is paused or stopped: no entries until it is activated")


def key_expiring(intent: EntryIntent, context: RiskContext) -> Denial | None:
    """In its last day a key opens nothing: a position may outlive it, and then nobody could close it."""
    expires_at = context.key_expires_at
    if expires_at is None or context.now < expires_at - LAST_OF_A_KEY:
        return None
    when, advice = f"{expires_at:%Y-%m-%d %H:%M} UTC", "make a new key at the exchange and enter it on the account"
    said = "has expired at" if context.now >= expires_at else "expires in less than a day, at"
    return Denial(DenialCode.KEY_EXPIRING, f"the API key {said} {when}: no entries with it; {advice}")


def market_blocked(intent: EntryIntent, context: RiskContext) -> Denial | None:
    """Closed at the exchange, by its rules as they were last read, or closed by us until something is explained."""
    if not context.rules.is_open:
        symbol = context.rules.symbol
        return Denial(DenialCode.MARKET_BLOCKED, f"{symbol} is closed at the exchange: no entries until it opens again")
    return Denial(DenialCode.MARKET_BLOCKED, context.market_blocked) if context.market_blocked else None


def strategy_not_ordering(intent: EntryIntent, context: RiskContext) -> Denial | None:
    if context.ordering_enabled:
        return None
    return Denial(DenialCode.STRATEGY_NOT_ORDERING, "this strategy only records signals: ordering is not switched on")


def side_not_allowed(intent: EntryIntent, context: RiskContext) -> Denial | None:
    if intent.side in context.allowed_sides:
        return None
    allowed = ", ".join(sorted(context.allowed_sides)) or "neither side"
    return Denial(DenialCode.SIDE_NOT_ALLOWED, f"{intent.side} entries are not allowed here; allowed: {allowed}")


def stale_data(intent: EntryIntent, context: RiskContext) -> Denial | None:
    """Old candles, a candle that has not closed, a book that is missing, old, one-sided or crossed, or balances that
    could not be read."""
    problem = _candle_problem(context) or _book_problem(context)
    if not problem and not context.balances_known:
        problem = "the balances of the account could not be read"
    return Denial(DenialCode.STALE_DATA, problem) if problem else None


def _candle_problem(context: RiskContext) -> str | None:
    closed_at, now = context.candles_closed_at, context.now
    if closed_at is None:
        return "there is no closed candle to decide by" if context.parameters.needs_candles else None
    if closed_at > now:
        return f"the newest candle closes at {closed_at:%Y-%m-%d %H:%M:%S} UTC and has not closed yet"
    oldest = context.parameters.max_data_age_bars * context.resolution.duration
    if now - closed_at > oldest:
        return f"the newest candle closed {_seconds(now - closed_at)} s ago; at most {_seconds(oldest)} s are allowed"
    return None


def _book_problem(context: RiskContext) -> str | None:
    book, allowed = context.book, context.max_book_age
    if book is None:
        return f"there is no order book of {context.rules.symbol}"
    age = context.now - book.as_of
    if abs(age) > allowed:
        word = "old" if age > timedelta(0) else "ahead of our clock"
        return f"the order book is {_seconds(abs(age))} s {word}; at most {_seconds(allowed)} s are allowed"
    if not book.is_usable:
        return "the order book is one-sided or crossed"
    return None


def spread_too_wide(intent: EntryIntent, context: RiskContext) -> Denial | None:
    book = _book(context)
    spread = (book.asks[0].price - book.bids[0].price) / _mid(book) * PERCENT
    limit = context.parameters.max_spread_percent
    if spread <= limit:
        return None
    return Denial(DenialCode.SPREAD_TOO_WIDE, f"the spread is {spread:.3f} %; at most {limit} % is allowed")


def basis_too_wide(intent: EntryIntent, context: RiskContext) -> Denial | None:
    """The candles' exchange against the exchange that trades; also finds rial taken for toman."""
    if intent.candle_close is None:
        return None
    middle = _mid(_book(context))
    if intent.candle_close <= 0:
        return Denial(DenialCode.BASIS_TOO_WIDE, f"the candles close at {intent.candle_close}, which is no price")
    ratio = max(intent.candle_close / middle, middle / intent.candle_close)
    if _UNIT_FACTOR[0] <= ratio <= _UNIT_FACTOR[1]:
        return Denial(
            DenialCode.BASIS_TOO_WIDE,
            f"the candles close at {intent.candle_close} and the order book stands at {middle}, "
            f"a factor of {ratio:.2f}: one of them is probably in rial and the other in toman",
        )
    basis, limit = abs(intent.candle_close / middle - 1) * PERCENT, context.parameters.max_basis_percent
    if basis <= limit:
        return None
    return Denial(
        DenialCode.BASIS_TOO_WIDE,
        f"the candles close at {intent.candle_close} and the order book stands at {middle}, {basis:.3f} % apart; "
        f"at most {limit} % is allowed",
    )


def open_deal_exists(intent: EntryIntent, context: RiskContext) -> Denial | None:
    if not context.open_deal_on_market:
        return None
    return Denial(DenialCode.OPEN_DEAL_EXISTS, f"a deal on {context.rules.symbol} is already open")


def max_open_deals(intent: EntryIntent, context: RiskContext) -> Denial | None:
    limit = context.parameters.max_open_deals
    if context.open_deals < limit:
        return None
    return Denial(
        DenialCode.MAX_OPEN_DEALS, f"the account has {context.open_deals} open deals; at most {limit} allowed"
    )


def max_exposure(intent: EntryIntent, context: RiskContext) -> Denial | None:
    """Money tied up in deals, this one included: orders of unknown fate at full size, BUY and SELL added up, never
    netted."""
    size = size_entry(intent, context)
    together = context.exposure + size.notional
    if together == 0:
        return None
    quote, percent = context.rules.quote, context.parameters.max_exposure_percent
    if context.equity is None:
        return Denial(DenialCode.MAX_EXPOSURE, f"the account's equity in {quote} is not known")
    limit = context.equity * percent / PERCENT
    if together <= limit:
        return None
    return Denial(
        DenialCode.MAX_EXPOSURE,
        f"live deals stand for {plain(context.exposure)} {quote}, with this entry {plain(together)}; at most "
        f"{plain(limit)} ({percent} % of the equity) is allowed",
    )


def cooldown(intent: EntryIntent, context: RiskContext) -> Denial | None:
    """Counted from candle to candle, as a backtest does: how fast a decision was made is no matter of the rule."""
    pause, last = timedelta(minutes=context.parameters.trade_cooldown_minutes), context.last_entry_bar_at
    if not pause or last is None or (intent.bar_open_at or context.now) - last >= pause:
        return None
    return Denial(
        DenialCode.COOLDOWN,
        f"the last entry was by the candle of {last:%H:%M} UTC; the next may be by that of {last + pause:%H:%M} UTC",
    )


def daily_trades(intent: EntryIntent, context: RiskContext) -> Denial | None:
    limit = context.parameters.max_daily_trades
    if context.trades_today < limit:
        return None
    return Denial(
        DenialCode.DAILY_TRADES, f"{context.trades_today} entries were made today; at most {limit} are allowed"
    )


def daily_loss(intent: EntryIntent, context: RiskContext) -> Denial | None:
    percent = context.parameters.max_daily_loss_percent
    if percent == 0 or context.loss_today <= 0:
        return None
    if context.equity_at_day_start is None:
        return Denial(DenialCode.DAILY_LOSS, "there is a loss today and the day's first equity is not known")
    limit = context.equity_at_day_start * percent / PERCENT
    if context.loss_today < limit:
        return None
    return Denial(
        DenialCode.DAILY_LOSS,
        f"today's loss of {plain(context.loss_today)} {context.rules.quote} has reached the limit of {plain(limit)} "
        f"({percent} %)",
    )


def runaway(intent: EntryIntent, context: RiskContext) -> Denial | None:
    if context.entries_recently < RUNAWAY_ENTRIES:
        return None
    return Denial(
        DenialCode.RUNAWAY,
        f"{context.entries_recently} entries were planned on this account in {_seconds(RUNAWAY_WINDOW) // 60} minutes, "
        "more than a sound strategy makes: the account was paused. Look at its strategies, then activate it",
    )


def below_minimum(intent: EntryIntent, context: RiskContext, size: Size) -> Denial | None:
    """The share is too small although the balance would not be. Never enlarged: a person may raise the share."""
    problem = shortfall(intent.side, size.quantity, size.expected_price, context)
    if problem is None or _even_all_is_too_little(intent.side, context):
        return None
    return Denial(DenialCode.BELOW_MINIMUM, f"{size.fraction * PERCENT:.2f} % of the balance is too small: {problem}")


def insufficient_balance(intent: EntryIntent, context: RiskContext, size: Size) -> Denial | None:
    """Even all of the available balance could not be traded."""
    if size.quantity > 0 and shortfall(intent.side, size.quantity, size.expected_price, context) is None:
        return None
    rules = context.rules
    buying = intent.side is Side.BUY
    have = f"{context.available_quote} {rules.quote}" if buying else f"{context.available_base} {rules.base}"
    return Denial(
        DenialCode.INSUFFICIENT_BALANCE,
        f"{have} is available for this {intent.side}; even all of it is too little for an order on {rules.symbol} "
        f"(least {rules.min_notional} {rules.quote}, and its stop needs a margin above that)",
    )


def _even_all_is_too_little(side: Side, context: RiskContext) -> bool:
    whole = size_at(side, Decimal(1), context)
    return shortfall(side, whole.quantity, whole.expected_price, context) is not None


def thin_book(intent: EntryIntent, context: RiskContext, size: Size) -> Denial | None:
    """The size would use up the book, or push price so far that the exchange cancels the rest."""
    if not size.in_book:
        return Denial(DenialCode.THIN_BOOK, f"the order book does not hold {size.quantity} {context.rules.base}")
    reference = context.reference_price or _mid(_book(context))
    moved = (size.worst_price / reference - 1) * intent.side.sign
    limit = context.rules.market_band * BAND_MARGIN
    if moved <= limit:
        return None
    return Denial(
        DenialCode.THIN_BOOK,
        f"{size.quantity} {context.rules.base} would fill up to {moved * PERCENT:.3f} % from the last price; "
        f"the exchange cancels beyond {context.rules.market_band * PERCENT:.2f} %, we stop at {limit * PERCENT:.2f} %",
    )


def stop_not_placeable(intent: EntryIntent, context: RiskContext, size: Size) -> Denial | None:
    """The stop (and, where they are one order, the target) must be acceptable before there is anything to protect."""
    problem = _stop_problem(intent.side, size.expected_price, context) or _buy_back_problem(intent.side, size, context)
    return Denial(DenialCode.STOP_NOT_PLACEABLE, problem) if problem else None


def _stop_problem(side: Side, price: Decimal, context: RiskContext) -> str | None:
    rules, parameters = context.rules, context.parameters
    stop = initial_stop(price, side, parameters.stop_loss_percent, rules)
    last = context.reference_price or price
    if stop <= 0 or abs(price - stop) < rules.tick_size:
        return (
            f"a stop {parameters.stop_loss_percent} % from {price} cannot be told from it on ticks of {rules.tick_size}"
        )
    if stop_crossed(side, stop, price) or stop_crossed(side, stop, last):
        return f"the stop {stop} would already be crossed by the last price {last}"
    mode = context.capabilities.protection_mode
    if mode is not ProtectionMode.NO_STOPS and outside_band(stop, last, rules.price_band):
        return f"the stop {stop} is outside the exchange's price band around {last}"
    target = target_price(price, side, parameters.take_profit_percent, rules)
    if target <= 0 or (mode is ProtectionMode.NATIVE_OCO and outside_band(target, last, rules.price_band)):
        return f"the target {target}, one order with the stop, is outside the exchange's price band around {last}"
    return None


def _buy_back_problem(side: Side, size: Size, context: RiskContext) -> str | None:
    """A SELL deal buys back at its stop for more than it was sold for: the rest must be there, or it never can."""
    if side is Side.BUY:
        return None
    rules = context.rules
    stop = initial_stop(size.expected_price, side, context.parameters.stop_loss_percent, rules)
    cost, proceeds = size.quantity * stop, size.notional * (1 - rules.taker_fee_rate)
    missing = cost - proceeds - context.available_quote
    if missing <= 0:
        return None
    return f"buying back at the stop {stop} costs {cost} {rules.quote}; {missing} more must be available for that"


def outside_band(price: Decimal, reference: Decimal, band: Decimal | None) -> bool:
    """True where an exchange with this price band would refuse the price."""
    return band is not None and abs(price / reference - 1) > band


def _book(context: RiskContext) -> OrderBook:
    if context.book is None:
        raise ValueError("this limit needs the order book that stale_data asks for first")
    return context.book


def _mid(book: OrderBook) -> Decimal:
    return book.mid_price or ZERO


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
