"""May this entry be made? Pure: what was read outside the transaction and what was counted inside it, put before the
risk gate. The same over whatever store counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from algo.execution.entry_ledger import Decided, EntryCounts, EntryLedger, EntryRequest, EntryWindows, LiveDeal
from algo.execution.reconcile import QUARANTINE
from algo.models import AccountState, KillSwitch
from algo.risk.codes import DenialCode
from algo.risk.gate import check_entry
from algo.risk.limits import RUNAWAY_WINDOW
from algo.risk.values import Approval, Denial, RiskContext
from providers.clock import Clock
from providers.types import ZERO, Balance, OrderBook, Resolution

# Wall seconds.
BOOK_MAX_AGE = 5.0
QUOTE_MAX_AGE = 60.0  # for what open deals are worth: older than this, only what is realised counts


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryEvidence:
    """What was read before the transaction. `balances` is None where they could not be had; `read_at` is before the
    call that read them."""

    book: OrderBook | None
    resolution: Resolution
    balances: Mapping[str, Balance] | None
    read_at: datetime
    environment: str  # of the exchanges in use
    time_zone: str  # of the trading day
    max_position_size_percent: Decimal  # for everybody


def decide_entry(ledger: EntryLedger, request: EntryRequest, evidence: EntryEvidence, clock: Clock) -> Decided | None:
    """Count, judge and keep in one transaction of `ledger`. None where this was not to be decided (any more)."""
    now = clock.now()

    def judge(counts: EntryCounts) -> Approval | Denial:
        # The wait for the locks is over, and the book has aged meanwhile.
        return judge_entry(request, evidence, counts, now=clock.now(), max_book_age=clock.wall(BOOK_MAX_AGE))

    return ledger.decide(request, judge, windows=entry_windows(now, clock, evidence.time_zone), now=now)


def entry_windows(now: datetime, clock: Clock, time_zone: str) -> EntryWindows:
    return EntryWindows(
        day_start=trading_day_start(now, time_zone),
        quarantine_since=now - clock.wall(QUARANTINE),
        recent_since=now - RUNAWAY_WINDOW,
        quotes_since=now - clock.wall(QUOTE_MAX_AGE),
    )


def trading_day_start(now: datetime, time_zone: str) -> datetime:
    """Midnight of the trading day's time zone, as UTC."""
    local = now.astimezone(ZoneInfo(time_zone))
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def judge_entry(
    request: EntryRequest, evidence: EntryEvidence, counts: EntryCounts, *, now: datetime, max_book_age: timedelta
) -> Approval | Denial:
    """The risk gate's answer."""
    if counts.environment != evidence.environment:
        return Denial(
            DenialCode.ACCOUNT_PAUSED,
            f"this is a {counts.environment} account, and the exchanges in use are {evidence.environment}",
        )
    return check_entry(request.intent, risk_context(request, evidence, counts, now=now, max_book_age=max_book_age))


def risk_context(
    request: EntryRequest, evidence: EntryEvidence, counts: EntryCounts, *, now: datetime, max_book_age: timedelta
) -> RiskContext:
    """All that the gate looks at."""
    rules, held = request.rules, evidence.balances or {}
    quote = held.get(rules.quote, Balance(rules.quote, ZERO, ZERO))
    base = held.get(rules.base, Balance(rules.base, ZERO, ZERO))
    mid = evidence.book.mid_price if evidence.book else None
    live = [deal for deal in counts.live if deal.quote == rules.quote]
    standing = [deal for deal in counts.live if not deal.is_in_doubt]
    open_profits = [open_profit(deal) for deal in live]
    elsewhere = (deal for deal in live if deal.market_id != request.market_id)
    equity = quote.total + base.total * (mid or request.price) + worth(elsewhere, evidence.read_at)
    return RiskContext(
        now=now,
        parameters=request.parameters,
        rules=rules,
        book=evidence.book,
        resolution=evidence.resolution,
        candles_closed_at=request.bar_open_at + evidence.resolution.duration,
        available_base=base.available,
        available_quote=quote.available,
        balances_known=evidence.balances is not None,
        equity=equity,
        kill_switch=counts.kill_switch != KillSwitch.OFF,
        kill_switch_reason=counts.kill_switch_reason,
        account_paused=counts.account_state != AccountState.ACTIVE,
        key_expires_at=counts.key_expires_at,
        market_blocked=counts.market_blocked,
        ordering_enabled=counts.ordering_enabled,
        allowed_sides=counts.allowed_sides,
        open_deal_on_market=any(deal.market_id == request.market_id for deal in standing),
        open_deals=len(standing),
        exposure=sum(map(exposure_of, live), ZERO),
        last_entry_bar_at=counts.last_entry_bar_at,
        trades_today=counts.trades_today,
        # A gain that is not realised pays for no loss: it may be gone before anybody takes it.
        loss_today=max(-counts.profit_today - sum(min(each, ZERO) for each in open_profits), ZERO),
        equity_at_day_start=equity - counts.profit_today - sum(open_profits),
        entries_recently=counts.entries_recently,
        max_position_size_percent=evidence.max_position_size_percent,
        capabilities=request.capabilities,
        max_book_age=max_book_age,
    )


def exposure_of(deal: LiveDeal) -> Decimal:
    """What a deal stands for, in quote: until it is open, all that was planned; then what it holds, at its own price.
    A SELL deal owes the base that it sold: it counts like a BUY."""
    if deal.opened_at is None or deal.entry_price is None:
        return deal.planned_quantity * deal.planned_price
    return deal.held * deal.entry_price


def open_profit(deal: LiveDeal) -> Decimal:
    """Profit that is not realised, before fees; zero where it or the market's price is not known."""
    if deal.opened_at is None or deal.entry_price is None or deal.price is None:
        return ZERO
    return deal.side.sign * (deal.price - deal.entry_price) * deal.held


def worth(deals: Iterable[LiveDeal], read_at: datetime) -> Decimal:
    """What deals add to the balances of `read_at`: base that a BUY bought, less base that a SELL owes. A deal opened
    later than that is in those balances as the money it had not spent yet."""
    settled = (deal for deal in deals if deal.opened_at is not None and deal.opened_at <= read_at)
    return sum((deal.side.sign * deal.held * (deal.price or deal.entry_price or ZERO) for deal in settled), ZERO)
