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
    "nothing",
    "entered",
    "not filled",
    "%(reason)s in the candle of %(at)s",
    "%(count)s × %(what)s",
    "signal",
    "entry",
    "entry price",
    "quantity",
    "exit",
    "exit price",
    "fees",
    "unexplained: %(why)s",
    "book veto: %(why)s",
    "book signal: %(why)s",
    "not decided: %(why)s",
    "no candles: %(why)s",
    "strategy error: %(why)s",
    "candle missing: %(why)s",
    "candle changed: %(why)s",
    "rules changed: %(why)s",
    "denied live: %(why)s",
    "other deals: %(why)s",
    "follows: %(why)s",
    "timing: %(why)s",
    "late: %(why)s",
    "not filled: %(why)s",
    "partial fill: %(why)s",
    "balance: %(why)s",
    "slippage: %(why)s",
    "other exchange: %(why)s",
    "by hand: %(why)s",
    "kill switch: %(why)s",
    "emergency: %(why)s",
    "stop gap: %(why)s",
    "target touch: %(why)s",
    "target missed: %(why)s",
    "within candle: %(why)s",
    "fee rate: %(why)s",
    "the candle was missing, or late, when live decided",
    "the candle was missing, or late, when live decided (%(note)s)",
    "there were not enough candles yet when live decided",
    "there were not enough candles yet when live decided (%(note)s)",
    "live decided on this candle, and it is not stored",
    "live did not decide on this candle: no worker, no beat, or the strategy was stopped",
    "the strategy failed live: %(why)s",
    "see the journal",
    "the order book weighed on the %(side)s side and stopped the entry",
    "the order book decided, and no books are replayed",
    "live saw this candle close at %(was)s; the stored one closes at %(now)s",
    "the strategy was saved at %(at)s, after this decision",
    "live saw %(values)s: candles before this one were missing, late or have changed",
    "by the same candles and rules the strategy says something else",
    "live was denied by %(code)s: %(why)s",
    "see the signal",
    "live was denied by %(code)s, and the strategy was saved after this decision",
    "live was denied by %(code)s, and the engine, which knows that rule, enters",
    "live was noted as %(outcome)s, and the engine, which knows that rule, enters",
    "the losses of the account's other deals count live",
    "another deal of the account was open on this market",
    "deal %(deal)s was still open live; the engine had closed it",
    "live's cooldown had %(seconds)s s to go: it counts from decision to decision, in seconds, and the engine "
    "from candle to candle",
    "the entry was planned live and nothing was filled, and nothing says why",
    "the entry was planned live and nothing was filled: %(why)s",
    "by the rules of today the engine still has the deal before this one open",
    "the engine still has the deal before this one open",
    "the candle after this one is not stored: no price to enter at",
    "the engine takes this open for a jump beyond the exchange's band",
    "the engine reckons with the balance of the day's first deal, and it has moved since",
    "the engine refuses it by %(code)s, and the rules were other ones then",
    "live entered, and the engine refuses it by %(code)s",
    "the rules frozen on this deal do not fit the strategy of today",
    "its candle, or the one after, is not stored: no price to enter at",
    "with the deal's own rules and balance the engine refuses it by %(code)s",
    "a person closed it",
    "the kill switch closed it",
    "the guardian closed it in an emergency",
    "a person closed it: %(note)s",
    "the kill switch closed it: %(note)s",
    "the guardian closed it in an emergency: %(note)s",
    "filled %(late)s s after the candle opened, %(off)s %% against the candle's open",
    "slippage: filled %(off)s %% against the candle's open",
    "filled %(off)s %% against the candle's open: the exchange that trades stood elsewhere than the candles' one",
    "filled %(off)s %% against the candle's open, at a price that the candle never showed",
    "%(share)s %% of the planned quantity was filled",
    "the balance before the entry was not recorded",
    "the size was cut to what the book and the exchange's reserve for MARKET orders allow",
    "with %(available)s available the engine takes another quantity",
    "neither the candles nor anything on record says why the ends differ",
    "the stop was reached while the exit by the opposite signal was on its way",
    "the same exit, %(away)s s from the boundary between two candles",
    "stop and target lie within one candle: the engine takes the stop for the first",
    "live trails with every price it sees, the engine after each completed candle",
    "the target was touched and not traded through: live was filled, the engine not",
    "the candle went %(beyond)s %% beyond the target; live's order was not filled there in time",
    "the stop hangs on the entry price; the candle reached the engine's, and not live's",
    "the stop hangs on the entry price; the candle reached live's, and not the engine's",
    "the exchange that trades and the candles' one stood apart by up to %(basis)s %%",
    "%(off)s %% better: live trails with every price, the engine after each candle",
    "%(off)s %% worse: live trails with every price, the engine after each candle",
    "the stop was filled %(off)s %% better than the engine's",
    "the stop was filled %(off)s %% worse than the engine's",
    "filled %(off)s %% better than the engine's",
    "filled %(off)s %% worse than the engine's",
    "filled %(off)s %% better: the exchange that trades stood elsewhere",
    "filled %(off)s %% worse: the exchange that trades stood elsewhere",
    "filled %(off)s %% better, at a price that the candle never showed",
    "filled %(off)s %% worse, at a price that the candle never showed",
    "live paid %(live)s %% of what was traded, the engine reckons with %(engine)s %%",
    "%(count)s differences, %(unexplained)s of them without a known reason. The first %(listed)s are listed.",
    "%(count)s differences, each with a known reason. The first %(listed)s are listed.",
    "None of the %(sets)s sets made %(deals)s deals, so there is nothing to judge. Take a longer period or a "
    "wider space, or ask for fewer with --min-deals.",
    "The best of %(sets)s sets is not distinguishable from luck: %(why)s. Do not trade it.",
    "The best of %(sets)s sets is more than luck explains: %(proofs)s. But %(doubts)s. Do not trade it yet.",
    "The best of %(sets)s sets is more than luck explains: %(proofs)s. Try it on paper before any money.",
    "its daily returns are too few, or too much alike, for a Sharpe ratio",
    "with so many trials the probability of any skill is %(skill)s (deflated Sharpe ratio; %(asked)s is asked for)",
    "in %(reached)s of %(worlds)s shuffled markets the best of %(sets)s sets did as well as on the real one",
    "it loses money on the very candles it was chosen on",
    "the probability of skill is %(skill)s after all trials",
    "%(reached)s of %(worlds)s shuffled markets reach the real one (p = %(value)s)",
    "no shuffled markets were searched, and a market that merely rises explains as much",
    "%(few)s shuffled markets are too few to tell luck apart; take %(least)s at least",
    "no candles were kept unseen to confirm it",
    "it made no deal on unseen candles",
    "it loses money on unseen candles",
    "on unseen candles its Sharpe ratio falls from %(train)s to %(test)s",
    "searching and trading in %(folds)s steps would have lost money",
    "on unseen candles it earned %(profit)s %% in %(deals)s deals",
    "no candles were kept unseen: there is no test of the result",
    "much worse on unseen candles than in training: Sharpe %(test)s against %(train)s, profit %(test_profit)s %% "
    "against %(train_profit)s %%",
    "few deals: %(deals)s in training; below %(least)s every figure is a guess",
    "few deals: %(deals)s in the test; below %(least)s every figure is a guess",
    "few days: %(days)s daily returns in training; below %(least)s a Sharpe ratio is a guess",
    "the best lies on the border of the space in %(names)s: better ones may lie beyond it",
    "walk-forward keeps %(kept)s of what training promised; below 50 %% is fragile",
    "%(profit)s unseen, %(won)s of %(folds)s folds won, efficiency %(kept)s",
    "Best so far is set %(number)s: %(figures)s, %(deals)s deals.",
    "none had enough deals: nothing traded",
    "buying back at the stop %(stop)s costs %(cost)s %(quote)s; %(more)s more must be available for that",
    "%(available)s is available for this %(side)s; even all of it is too little for an order on %(symbol)s "
    "(least %(least)s %(quote)s, and its stop needs a margin above that)",
    "%(quantity)s %(base)s would fill up to %(off)s %% from the last price; the exchange cancels beyond %(band)s "
    "%%, we stop at %(most)s %%",
    "after fees the exit of %(quantity)s %(base)s would be worth %(worth)s %(quote)s; its own order needs "
    "%(least)s to be safe from the exchange's minimum",
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
