"""Did live say what the strategy says by the stored candles, and did it enter where the engine does? If not, why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from algo.backtest.parity_replay import SAME, Replay, Said
from algo.backtest.parity_values import Cause, Difference, Kind, LiveDeal, LiveDecision, digits
from algo.risk.codes import DenialCode
from algo.strategies.breakout import SignalReason
from providers.types import Side

# Denials that no backtest can know of: it has no switches, books, other deals, or balances of a given second.
ONLY_LIVE = frozenset(
    {
        DenialCode.KILL_SWITCH,
        DenialCode.ACCOUNT_PAUSED,
        DenialCode.KEY_EXPIRING,
        DenialCode.MARKET_BLOCKED,
        DenialCode.STRATEGY_NOT_ORDERING,
        DenialCode.STALE_DATA,
        DenialCode.SPREAD_TOO_WIDE,
        DenialCode.BASIS_TOO_WIDE,
        DenialCode.MAX_OPEN_DEALS,
        DenialCode.MAX_EXPOSURE,
        DenialCode.RUNAWAY,
        DenialCode.BELOW_MINIMUM,
        DenialCode.INSUFFICIENT_BALANCE,
        DenialCode.THIN_BOOK,
        DenialCode.STOP_NOT_PLACEABLE,
    }
)
_NO_CANDLES = {
    "stale_data": "the candle was missing, or late, when live decided",
    "short_history": "there were not enough candles yet when live decided",
}
Because = tuple[Cause, str]
MOST_VALUES = 3  # indicators named in one sentence


@dataclass(slots=True)
class SignalCounts:
    """Candles of the period, those live decided about, and those where either side had something to say."""

    candles: int = 0
    decided: int = 0
    said_live: int = 0
    said_engine: int = 0
    compared: int = 0
    equal: int = 0


def signal_differences(replay: Replay, counts: SignalCounts) -> Iterator[Difference]:
    """Every candle at which live said something else than the strategy says by the candles that are stored."""
    rows = {row.bar: row for row in replay.day.decisions}
    for i in replay.compared:
        row, engine = rows.get(int(replay.candles.open_time[i])), replay.said(i)
        live = _said(row)
        counts.candles += 1
        counts.decided += row is not None
        counts.said_live += live.side is not None
        counts.said_engine += engine.side is not None
        if live.side is None and engine.side is None:
            continue
        counts.compared += 1
        if _same(live, engine):
            counts.equal += 1
            continue
        cause, text = _why_said(replay, i, row, live, engine)
        yield Difference(
            kind=Kind.SIGNAL, cause=cause, at=replay.time(i), text=text, live=str(live), engine=str(engine)
        )
    for row in replay.day.decisions:
        if row.side is not None and replay.index(row.bar) is None:
            counts.said_live += 1
            counts.compared += 1
            yield Difference(
                kind=Kind.SIGNAL,
                cause=Cause.CANDLE_MISSING,
                at=datetime.fromtimestamp(row.bar, replay.day.start.tzinfo),
                text="live decided on this candle, and it is not stored",
                live=str(_said(row)),
            )


def entry_differences(replay: Replay) -> Iterator[Difference]:
    """Every signal of live at which one side entered and the other did not."""
    rows = {row.bar: row for row in replay.day.decisions}
    deals = {deal.bar: deal for deal in replay.day.deals}
    for i, refused in replay.entries().items():
        bar = int(replay.candles.open_time[i])
        row, deal = rows.get(bar), deals.get(bar)
        has_entered = deal is not None and deal.is_filled
        if has_entered == (refused == ""):
            continue
        if deal is not None:
            cause, text = _why_refused(replay, deal, refused) if has_entered else _why_not_filled(deal)
        elif row is not None:
            cause, text = _why_denied(replay, row)
        else:
            continue
        yield Difference(
            kind=Kind.ENTRY,
            cause=cause,
            at=replay.time(i),
            text=text,
            live="entered" if has_entered else "not filled" if deal else row.denial_code or row.outcome if row else "",
            engine=refused or "entered",
            deal=deal.id if deal else None,
        )


# --- signals --------------------------------------------------------------------------------------------------------


def _said(row: LiveDecision | None) -> Said:
    return Said(row.side, row.reason, row.confidence) if row and row.side else Said()


def _same(live: Said, engine: Said) -> bool:
    alike = (live.side, live.reason) == (engine.side, engine.reason)
    return alike and abs(live.confidence - engine.confidence) <= SAME


def _why_said(replay: Replay, i: int, row: LiveDecision | None, live: Said, engine: Said) -> Because:
    if row is None:
        return Cause.NOT_DECIDED, "live did not decide on this candle: no worker, no beat, or the strategy was stopped"
    if row.outcome in _NO_CANDLES:
        return Cause.NO_CANDLES, f"{_NO_CANDLES[row.outcome]}{f' ({row.note})' if row.note else ''}"
    if row.outcome == "error":
        return Cause.STRATEGY_ERROR, f"the strategy failed live: {row.note or 'see the journal'}"
    if live.side is None and engine.side and row.book_side is engine.side.opposite:
        return Cause.BOOK_VETO, f"the order book weighed on the {row.book_side} side and stopped the entry"
    if engine.side is None and live.reason == SignalReason.ORDER_BOOK.name:
        return Cause.BOOK_SIGNAL, "the order book decided, and no books are replayed"
    return _why_seen_otherwise(replay, i, row)


def _why_seen_otherwise(replay: Replay, i: int, row: LiveDecision) -> Because:
    seen = replay.seen_otherwise(i, row.indicators)
    saved = replay.day.rules_saved_at
    is_edited = saved is not None and row.decided_at < saved
    if "close" in seen:
        was, now = seen["close"]
        return (
            Cause.CANDLE_CHANGED,
            f"live saw this candle close at {digits(was)}; the stored one closes at {digits(now)}",
        )
    if is_edited and saved is not None:
        return Cause.RULES_CHANGED, f"the strategy was saved at {saved:%Y-%m-%d %H:%M}, after this decision"
    if seen:
        values = ", ".join(
            f"{name} {digits(was)} (stored: {digits(now)})" for name, (was, now) in list(seen.items())[:MOST_VALUES]
        )
        return Cause.CANDLE_CHANGED, f"live saw {values}: candles before this one were missing, late or have changed"
    return Cause.UNEXPLAINED, "by the same candles and rules the strategy says something else"


# --- entries --------------------------------------------------------------------------------------------------------


def _why_denied(replay: Replay, row: LiveDecision) -> Because:
    """Why live did not enter where the engine does."""
    code = row.denial_code
    if code in ONLY_LIVE:
        return Cause.DENIED_LIVE, f"live was denied by {code}: {row.denial_message or 'see the signal'}"
    because = _by_other_deals(replay, row) or _by_cooldown(replay, row)
    if because is not None:
        return because
    if code and _is_edited(replay, row.decided_at):
        return Cause.RULES_CHANGED, f"live was denied by {code}, and the strategy was saved after this decision"
    said = f"denied by {code}" if code else f"noted as {row.outcome}"
    return Cause.UNEXPLAINED, f"live was {said}, and the engine, which knows that rule, enters"


def _by_other_deals(replay: Replay, row: LiveDecision) -> Because | None:
    others = [other for other in replay.day.others if other.since <= row.decided_at]
    if row.denial_code == DenialCode.DAILY_LOSS and others:
        return Cause.OTHER_DEALS, "the losses of the account's other deals count live"
    if row.denial_code != DenialCode.OPEN_DEAL_EXISTS:
        return None
    if any(other.on_market and _lives(other.until, row.decided_at) for other in others):
        return Cause.OTHER_DEALS, "another deal of the account was open on this market"
    own = _own_open(replay, row.decided_at)
    return None if own is None else (Cause.FOLLOWS, f"deal {own.id} was still open live; the engine had closed it")


def _by_cooldown(replay: Replay, row: LiveDecision) -> Because | None:
    short = _short_of_cooldown(replay, row) if row.denial_code == DenialCode.COOLDOWN else None
    if short is None:
        return None
    return Cause.TIMING, (
        f"live's cooldown had {short.total_seconds():.1f} s to go: it counts from decision to decision, in seconds, "
        "and the engine from candle to candle"
    )


def _why_not_filled(deal: LiveDeal) -> Because:
    if not deal.note:
        return Cause.UNEXPLAINED, "the entry was planned live and nothing was filled, and nothing says why"
    return Cause.NOT_FILLED, f"the entry was planned live and nothing was filled: {deal.note}"


def _why_refused(replay: Replay, deal: LiveDeal, code: str) -> Because:
    """Why the engine does not enter where live did."""
    earlier = [each for each in replay.day.deals if each.bar < deal.bar and each.is_filled]
    if code == DenialCode.OPEN_DEAL_EXISTS and earlier:
        if earlier[-1].parameters != replay.strategy.parameters:
            return Cause.RULES_CHANGED, "by the rules of today the engine still has the deal before this one open"
        return Cause.FOLLOWS, "the engine still has the deal before this one open"
    known = {
        DenialCode.STALE_DATA: (Cause.CANDLE_MISSING, "the candle after this one is not stored: no price to enter at"),
        DenialCode.THIN_BOOK: (Cause.SLIPPAGE, "the engine takes this open for a jump beyond the exchange's band"),
        **dict.fromkeys(
            (DenialCode.BELOW_MINIMUM, DenialCode.INSUFFICIENT_BALANCE, DenialCode.DAILY_LOSS),
            (Cause.BALANCE, "the engine reckons with the balance of the day's first deal, and it has moved since"),
        ),
    }
    if deal.side is Side.SELL:  # the quote that must be there to buy back at the stop
        known[DenialCode.STOP_NOT_PLACEABLE] = known[DenialCode.BELOW_MINIMUM]
    if because := known.get(DenialCode(code)):
        return because
    if deal.parameters != replay.strategy.parameters or _is_edited(replay, deal.created_at):
        return Cause.RULES_CHANGED, f"the engine refuses it by {code}, and the rules were other ones then"
    return Cause.UNEXPLAINED, f"live entered, and the engine refuses it by {code}"


def unmade_deal(replay: Replay, deal: LiveDeal, code: str) -> Difference:
    """A live deal that the engine does not make even by itself, with the deal's own rules and balance."""
    if deal.parameters is None:
        cause, text = Cause.RULES_CHANGED, "the rules frozen on this deal do not fit the strategy of today"
    elif code == DenialCode.STALE_DATA:
        cause, text = Cause.CANDLE_MISSING, "its candle, or the one after, is not stored: no price to enter at"
    else:
        cause, text = Cause.UNEXPLAINED, f"with the deal's own rules and balance the engine refuses it by {code}"
    return Difference(
        kind=Kind.ENTRY, cause=cause, at=deal.created_at, text=text, live="entered", engine=code, deal=deal.id
    )


def _own_open(replay: Replay, at: datetime) -> LiveDeal | None:
    own = (deal for deal in replay.day.deals if deal.created_at < at and deal.is_filled)
    return next((deal for deal in own if _lives(deal.exit_at, at)), None)


def _lives(until: datetime | None, at: datetime) -> bool:
    return until is None or until > at


def _short_of_cooldown(replay: Replay, row: LiveDecision) -> timedelta | None:
    """How much the cooldown lacked in seconds, where counted in candles it was over; None where it was not."""
    earlier = [deal for deal in replay.day.deals if deal.created_at < row.decided_at and deal.is_filled]
    if not earlier:
        return None
    last = max(earlier, key=lambda deal: deal.created_at)
    pause = timedelta(minutes=replay.strategy.parameters.trade_cooldown_minutes)
    passed = row.decided_at - last.created_at
    return pause - passed if passed < pause and timedelta(seconds=row.bar - last.bar) >= pause else None


def _is_edited(replay: Replay, at: datetime) -> bool:
    saved = replay.day.rules_saved_at
    return saved is not None and at < saved
