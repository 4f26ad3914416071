"""What was stored in words, told in the reader's language.

Reasons, summaries and findings are stored as English sentences: they are the same for everybody, in logs and for
programs. `told` finds the sentence such a text was made from and says it in another language, with what was filled in.
A text that no sentence explains (an exchange's own words, a strategy of one's own) is told as it is stored.
"""

from __future__ import annotations

import re
from functools import cache

from django.utils.translation import get_language, gettext

from algo.localised import ENGLISH, digits
from algo.strategies.schemas import WORDS

PHRASES = (
    "the kill switch is on",
    "kill switch of the %(scope)s: %(why)s; no entries until a person releases it",
    "%(why)s; no entries until a person releases it",
    "no reason given",
    "the account is paused or stopped: no entries until it is activated",
    "the API key has expired at %(at)s: no entries with it; make a new key at the exchange and enter it on the account",
    "the API key expires in less than a day, at %(at)s: no entries with it; make a new key at the exchange "
    "and enter it on the account",
    "%(symbol)s is closed at the exchange: no entries until it opens again",
    "this strategy only records signals: ordering is not switched on",
    "%(side)s entries are not allowed here; allowed: %(allowed)s",
    "neither side",
    "the balances of the account could not be read",
    "there is no closed candle to decide by",
    "the newest candle closes at %(at)s UTC and has not closed yet",
    "the newest candle closed %(age)s s ago; at most %(most)s s are allowed",
    "there is no order book of %(symbol)s",
    "the order book is %(age)s s ahead of our clock; at most %(most)s s are allowed",
    "the order book is %(age)s s old; at most %(most)s s are allowed",
    "the order book is one-sided or crossed",
    "the spread is %(spread)s %%; at most %(most)s %% is allowed",
    "the candles close at %(close)s, which is no price",
    "the candles close at %(close)s and the order book stands at %(middle)s, a factor of %(ratio)s: one of "
    "them is probably in rial and the other in toman",
    "the candles close at %(close)s and the order book stands at %(middle)s, %(basis)s %% apart; at most "
    "%(most)s %% is allowed",
    "a deal on %(symbol)s is already open",
    "the account has %(count)s open deals; at most %(most)s allowed",
    "the account's equity in %(quote)s is not known",
    "live deals stand for %(exposure)s %(quote)s, with this entry %(together)s; at most %(most)s (%(percent)s "
    "%% of the equity) is allowed",
    "the last entry was by the candle of %(last)s UTC; the next may be by that of %(next)s UTC",
    "%(count)s entries were made today; at most %(most)s are allowed",
    "there is a loss today and the day's first equity is not known",
    "today's loss of %(loss)s %(quote)s has reached the limit of %(limit)s (%(percent)s %%)",
    "%(count)s entries were planned on this account in %(minutes)s minutes, more than a sound strategy makes: "
    "the account was paused. Look at its strategies, then activate it",
    "%(fraction)s %% of the balance is too small: %(problem)s",
    "%(quantity)s %(base)s is below the least quantity %(least)s",
    "%(notional)s %(quote)s is below the least order of %(least)s",
    "the order book does not hold %(quantity)s %(base)s",
    "a stop %(percent)s %% from %(price)s cannot be told from it on ticks of %(tick)s",
    "the stop %(stop)s would already be crossed by the last price %(last)s",
    "the stop %(stop)s is outside the exchange's price band around %(last)s",
    "the target %(target)s, one order with the stop, is outside the exchange's price band around %(last)s",
    "the target %(target)s is outside the exchange's price band: it can rest only when price is nearer",
    "this account cannot place stops: only the guardian watches the stop",
    "the target does not pay the fees: take profit is %(target)s %%, and entry and exit on %(symbol)s cost "
    "%(cost)s %%, so a deal that reaches its target earns nothing",
    "it was never checked",
    "it was not checked since the switch was turned",
    "its last check is too old to say anything about now",
    "no live deal and no open order there",
    "deal %(deal)s has not ended",
    "order %(order)s is open on %(symbol)s",
    "ticket %(ticket)s is open: %(kind)s, %(reference)s",
    "order %(order)s on %(symbol)s is not the platform's, and nobody has explained it yet",
    "the whole system",
    "account %(name)s",
    "strategy %(name)s",
    "market %(name)s",
    "paused by %(who)s: %(why)s",
    "paused by %(who)s",
    "The exchange refused the key: %(why)s Resting stops stay where they are. Enter a valid key, then "
    "activate the account: that asks the exchange first.",
    "every check passed",
    "failed: %(names)s. %(what)s: expected %(expected)s, found %(found)s",
    "not checked",
    "checked %(count)s of %(possible)s candles",
    "passed",
    "failed",
    "It runs without an error",
    "Its answers are sound",
    "It leaves the candles as they are",
    "Asked again, it answers the same",
    "The future changes no signal of the past",
    "A live window decides as the whole history does",
    "`execute` is the last element of `signals`",
    "no signals in the candles checked",
    "simulated market",
    "simulated market: only %(stored)s candles of %(market)s are stored, %(needed)s are needed",
    "the %(count)s newest stored candles of %(market)s",
    "this version of it failed its bias checks on %(at)s UTC (%(summary)s). Its backtests do not say what it "
    "would do live. Open deals stay protected. Correct the strategy or its parameters; its page says what was "
    "found",
    "Net profit (%(quote)s)",
    "Net profit",
    "Buy and hold",
    "Growth per year (CAGR)",
    "Sharpe / Sortino / Calmar",
    "Max drawdown",
    "  from peak to trough",
    "  recovered",
    "Deals",
    "Win rate",
    "Profit factor",
    "Expectancy per deal (%(quote)s)",
    "Average win / loss (%(quote)s)",
    "Best / worst deal (%(quote)s)",
    "Longest losing streak",
    "Average hold",
    "Longest hold",
    "Time in the market",
    "Fees paid (%(quote)s)",
    "conservative",
    "freqtrade",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "take profit",
    "stop loss",
    "trailing stop",
    "opposite signal",
    "end of data",
    "breakout buy",
    "breakout sell",
    "momentum buy",
    "momentum sell",
    "order book",
    "close above highest",
    "close below lowest",
    "ema fast above slow",
    "ema fast below slow",
    "rsi below overbought",
    "rsi above oversold",
    "volume enough",
    "ema crossed above",
    "ema crossed below",
    "move up enough",
    "move down enough",
    "rsi rising",
    "rsi falling",
    "rsi from 50 to overbought",
    "rsi from oversold to 50",
    "BREAKOUT",
    "MOMENTUM",
    "ORDER_BOOK",
    "must be smaller than trailing_stop_percent, or the stop hardly ever moves",
    "must be smaller than ema_slow_period (%(period)s)",
    "Viewer",
    "Trader",
    "Trader or Admin",
    "created",
    "changed",
    "rolled back",
    "opposite side",
    "BUY",
    "SELL",
    "take_profit",
    "stop_loss",
    "trailing_stop",
    "%(exchange)s shows a %(side)s order of %(quantity)s %(symbol)s that the platform did not place, or "
    "cannot take into its books. It was left alone. Adopt it, close it, or ignore it where you placed "
    "it. New entries on this market wait for the answer; positions stay protected.",
    "Our %(role)s order %(order)s is nowhere at the exchange, but %(why)s. It counts as never arrived, "
    "and is taken back should it turn up. Look at the exchange, and ignore this with a note. New entries "
    "on this market wait for the answer; positions stay protected.",
    "The exchange does not know our %(role)s order %(order)s any more. It counts cancelled, and its deal "
    "is protected anew. Look at the exchange whether it was filled, and ignore this with a note. New "
    "entries on this market wait for the answer; positions stay protected.",
    "Deal %(deal)s was closed with %(quantity)s %(base)s still open by our books: the account does not "
    "hold them. Somebody moved them by hand. Nothing was bought back. Find out who did, and ignore this "
    "with a note. New entries on this market wait for the answer; positions stay protected.",
    "Deal %(deal)s was closed with %(quantity)s %(base)s more than it had: two of its orders were filled "
    "where one would have done. No deal counts the difference. Settle it at the exchange, and ignore "
    "this with a note. New entries on this market wait for the answer; positions stay protected.",
    "The exchange shows a trade of %(quantity)s %(symbol)s (%(side)s) of an order that neither it nor "
    "the platform lists. Nothing was done about it. Find out whose it is, and ignore this with a note. "
    "New entries on this market wait for the answer; positions stay protected.",
    "The exchange shows trades of %(total)s %(symbol)s (%(side)s), and all orders together explain "
    "%(explained)s. Nothing was done about it. Find out whose the rest is, and ignore this with a note. "
    "New entries on this market wait for the answer; positions stay protected.",
    "A probe order executed: %(side)s %(quantity)s %(symbol)s. It was meant to rest far away. Nothing "
    "else was done. Settle the balance at the exchange, and ignore this with a note. New entries on this "
    "market wait for the answer; positions stay protected.",
    "Live did what the engine does.",
    "%(count)s differences, %(unexplained)s of them without a known reason.",
    "%(count)s differences, each with a known reason.",
    "1 difference, with a known reason.",
    "1 difference, 1 of them without a known reason.",
    "live",
    "engine",
    "compared",
    "equal",
    "time",
    "what",
    "reason",
    "Signals",
    "Profit (%(quote)s)",
    "  of the same deals",
    "Slippage of entries",
    "Candles decided",
    "Parameter",
    "Searched",
    "Train",
    "Fold",
    "Train deals",
    "Test deals",
    "Best set of the fold",
    "Calmar",
    "No set has enough deals yet.",
    "Sharpe ratio",
    "max drawdown",
    "win rate",
    "profit factor",
    "Calmar ratio",
    "net profit",
)
_FILLED = re.compile(r"%\((\w+)\)s|\{(\w+)\}")  # as in ours, and as in those of the strategies' schemas
_FIGURES = re.compile(r"[-+]?[\d.,]+")


def told(text: str) -> str:
    """`text` in the reader's language, as far as it is one of our sentences."""
    if not text or (get_language() or ENGLISH) == ENGLISH:
        return text
    for pattern, phrase in _known():
        if found := pattern.fullmatch(text):
            filled = {name: _filled_in(value) for name, value in found.groupdict().items()}
            return gettext(phrase).format(**filled) if "{" in phrase else gettext(phrase) % filled
    if "; " in text:
        return gettext("; ").join(told(part) for part in text.split("; "))
    return gettext(text)


def _filled_in(value: str) -> str:
    """A number in the reader's digits; a sentence inside a sentence is told too."""
    return digits(value) if _FIGURES.fullmatch(value) else told(value)


@cache
def _known() -> list[tuple[re.Pattern[str], str]]:
    """The longest first: the most said counts."""
    return [(_pattern(phrase), phrase) for phrase in sorted({*PHRASES, *WORDS.values()}, key=len, reverse=True)]


def _pattern(phrase: str) -> re.Pattern[str]:
    parts, at = [], 0
    for hole in _FILLED.finditer(phrase):
        parts += [re.escape(phrase[at : hole.start()].replace("%%", "%")), f"(?P<{hole.group(1) or hole.group(2)}>.+?)"]
        at = hole.end()
    return re.compile("".join(parts) + re.escape(phrase[at:].replace("%%", "%")), re.DOTALL)
