"""From closed candles to planned deals: who is due, what the strategies say, what the risk gate allows.

Candles and books are read once per group of strategies. Whatever is decided leaves a journal row, unique by strategy
and candle, so a task that runs twice finds its work done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import Sum

from algo.execution.ledger_rows import order_plan
from algo.execution.reconcile import QUARANTINE
from algo.models import (
    FINISHED_DEALS,
    Account,
    AccountState,
    CloseReason,
    Deal,
    DealStatus,
    Decision,
    KillSwitch,
    Market,
    Order,
    Outcome,
    Role,
    Signal,
    StrategyConfig,
    StrategyStatus,
    SystemControl,
    Ticket,
)
from algo.models.fields import SecretUnreadable
from algo.risk.codes import DenialCode
from algo.risk.gate import check_entry
from algo.risk.values import Approval, Denial, EntryIntent, RiskContext
from algo.selectors.candles import candles_window
from algo.services.accounts import account_stop, balances_note
from algo.services.candles import CLOSE_GRACE, candles_update
from algo.strategies.interface import Candles, MarketData, StrategyInterface
from algo.strategies.schemas import InvalidParameters
from algo.strategies.strategy_factory import UnknownStrategy, create_strategy
from providers.clock import Clock
from providers.errors import AuthFailed, ProviderError
from providers.interface import ExchangeProvider
from providers.types import ZERO, Balance, Capabilities, OrderBook, OrderType, Resolution, Side

logger = logging.getLogger("algo.strategies")

AccountProvider = Callable[[Account], ExchangeProvider]


@dataclass(frozen=True, slots=True)
class Group:
    """Strategies that read the same candles."""

    data_market_id: int
    resolution: Resolution
    config_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One strategy over one closed candle."""

    config: StrategyConfig
    strategy: StrategyInterface
    bar_open_at: datetime
    close: Decimal
    book: OrderBook | None
    journal: dict[str, Any]
    decision: dict[str, Any] | None


def due_groups(now: datetime) -> list[Group]:
    """Running strategies whose next candle has closed, grouped by what they read. Grids are never computed: the next
    candle after the last one seen opens one resolution later, or not at all."""
    groups: dict[tuple[int, str], list[int]] = {}
    running = StrategyConfig.objects.filter(status=StrategyStatus.RUNNING)
    for pk, market, resolution, last in running.values_list("pk", "data_market_id", "resolution", "last_bar_at"):
        if last is None or now >= last + 2 * Resolution(resolution).duration:
            groups.setdefault((market, resolution), []).append(pk)
    return [Group(market, Resolution(resolution), tuple(ids)) for (market, resolution), ids in groups.items()]


def evaluate_group(
    data_market: Market,
    resolution: Resolution,
    config_ids: Sequence[int],
    *,
    data_provider: ExchangeProvider,
    book_provider: Callable[[str], ExchangeProvider],
    account_provider: AccountProvider,
    clock: Clock,
    on_planned: Callable[[int], None],
) -> list[Outcome]:
    """Let every strategy of a group decide over its newest closed candle. `on_planned(account_id)` is called after the
    commit of a planned deal. Raises `ProviderError` when the candles cannot be read: the next tick tries again."""
    configs = list(
        StrategyConfig.objects.filter(pk__in=config_ids, status=StrategyStatus.RUNNING)
        .order_by("pk")
        .select_related("account", "market", "data_market")
    )
    strategies = {config.pk: _strategy(config) for config in configs}
    bars = max((s.warmup_bars for s in strategies.values() if s), default=0)
    if not bars:
        return []
    now = clock.now()
    grace = clock.wall(CLOSE_GRACE)
    candles_update(data_market, resolution, data_provider, now=now, bars=bars, grace=grace)
    candles = candles_window(data_market, resolution, bars=bars, until=now)
    books = _Books(book_provider)
    outcomes = []
    for config in configs:
        strategy = strategies[config.pk]
        if strategy is None:
            continue
        try:
            outcome = _run_one(config, strategy, candles, resolution, books, account_provider, clock, on_planned)
        except (OperationalError, InterfaceError):
            raise
        except Exception as exc:  # a strategy is users' code: its failure must not keep the others from deciding
            logger.exception("%sstrategy=%s failed", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name)
            outcome = _note_error(config, candles, now, exc)
        if outcome:
            outcomes.append(outcome)
    return outcomes


class _Books:
    """The order book of each execution market, read once per group."""

    def __init__(self, provider: Callable[[str], ExchangeProvider]) -> None:
        self._provider = provider
        self._books: dict[int, OrderBook | None] = {}

    def get(self, market: Market) -> OrderBook | None:
        if market.pk not in self._books:
            try:
                self._books[market.pk] = self._provider(market.provider).order_book(market.symbol)
            except ProviderError as exc:
                logger.warning("%sno book market=%s why=%s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, market, exc)
                self._books[market.pk] = None
        return self._books[market.pk]


def _strategy(config: StrategyConfig) -> StrategyInterface | None:
    """The strategy of a config, ready; None (and the config stopped) when its parameters cannot work any more."""
    try:
        strategy = create_strategy(config.strategy, config.parameters)
        if strategy.initialize():
            return strategy
        why = "initialize() answered that it cannot run as configured"
    except (UnknownStrategy, InvalidParameters) as exc:
        why = str(exc)
    except Exception as exc:  # users' code again
        logger.exception("%sstrategy=%s cannot start", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name)
        why = f"{type(exc).__name__}: {exc}"
    logger.error("%sstrategy=%s stopped: %s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name, why)
    StrategyConfig.objects.filter(pk=config.pk).update(status=StrategyStatus.STOPPED)
    return None


def _run_one(
    config: StrategyConfig,
    strategy: StrategyInterface,
    candles: Candles,
    resolution: Resolution,
    books: _Books,
    account_provider: AccountProvider,
    clock: Clock,
    on_planned: Callable[[int], None],
) -> Outcome | None:
    """One strategy's turn; None when there is no candle it has not seen. Its own failure is its own."""
    now = clock.now()
    bar = _newest_bar(candles)
    allowed_age = strategy.parameters.max_data_age_bars * resolution.duration
    if bar is None or now - (bar + resolution.duration) > allowed_age:
        return _note_stale(config, bar, resolution, now)
    if config.last_bar_at is not None and bar <= config.last_bar_at:
        return None
    if len(candles) < strategy.warmup_bars and strategy.parameters.needs_candles:
        journal = {"candles": len(candles), "needed": strategy.warmup_bars}
        return _note(config, bar, now, Outcome.SHORT_HISTORY, journal)
    book = books.get(config.market)
    data = MarketData(candles.window(strategy.warmup_bars), book)
    decision, journal = strategy.execute(data), strategy.explain(data)
    evaluation = Evaluation(config, strategy, bar, Decimal(str(candles.close[-1])), book, journal, decision)
    if decision is None:
        return _note(config, bar, now, Outcome.NO_SIGNAL, journal)
    return _act(evaluation, resolution, account_provider, clock, on_planned)


def _newest_bar(candles: Candles) -> datetime | None:
    return datetime.fromtimestamp(int(candles.open_time[-1]), UTC) if len(candles) else None


def _note_stale(config: StrategyConfig, bar: datetime | None, resolution: Resolution, now: datetime) -> Outcome:
    """The candle that should be there is not: say so once for each missing candle."""
    if bar is None:
        # Nothing to count from: the journal's time is only ours, and no candle counts as seen by it.
        begun = datetime.fromtimestamp(now.timestamp() // resolution.seconds * resolution.seconds, UTC)
        _journal(config, begun - resolution.duration, now, Outcome.STALE_DATA, {"newest_candle": None})
        return Outcome.STALE_DATA
    missing = bar + ((now - bar) // resolution.duration - 1) * resolution.duration
    return _note(config, missing, now, Outcome.STALE_DATA, {"newest_candle": bar.isoformat()})


def _note_error(config: StrategyConfig, candles: Candles, now: datetime, exc: Exception) -> Outcome | None:
    bar = _newest_bar(candles)
    return _note(config, bar, now, Outcome.ERROR, {"error": f"{type(exc).__name__}: {exc}"}) if bar else None


@transaction.atomic
def _note(config: StrategyConfig, bar: datetime, now: datetime, outcome: Outcome, journal: dict[str, Any]) -> Outcome:
    _journal(config, bar, now, outcome, journal)
    StrategyConfig.objects.filter(pk=config.pk).update(last_bar_at=bar)
    return outcome


def _journal(config: StrategyConfig, bar: datetime, now: datetime, outcome: Outcome, journal: dict[str, Any]) -> None:
    Decision.objects.bulk_create(
        [Decision(config=config, bar_open_at=bar, decided_at=now, outcome=outcome, journal=journal)],
        ignore_conflicts=True,
    )


# --- acting on a signal ---------------------------------------------------------------------------------------------


def _act(
    evaluation: Evaluation,
    resolution: Resolution,
    account_provider: AccountProvider,
    clock: Clock,
    on_planned: Callable[[int], None],
) -> Outcome | None:
    account = Account.objects.get(pk=evaluation.config.account_id)  # as it is now: its key may be refused, or another
    balances, capabilities = None, Capabilities()
    if account.environment == settings.EXCHANGE_ENVIRONMENT and not _key_is_dead(account, clock.now()):
        balances, capabilities = _ask_account(account, account_provider, clock)
    try:
        outcome = _plan(evaluation, resolution, balances, capabilities, clock)
    except IntegrityError:
        # Another worker planned it first: the constraint is the judge, and its answer is not an error.
        logger.info("%sstrategy=%s already planned", settings.STRATEGY_PROCESSOR_LOG_PREFIX, evaluation.config.name)
        return None
    if outcome in (Outcome.ENTERED, Outcome.EXIT):
        on_planned(account.pk)
    return outcome


def _key_is_dead(account: Account, now: datetime) -> bool:
    """Whether a call with its key could only be refused, and perhaps punished."""
    expired = account.key_expires_at is not None and now >= account.key_expires_at
    return account.state == AccountState.STOPPED or expired


def _ask_account(
    account: Account, account_provider: AccountProvider, clock: Clock
) -> tuple[dict[str, Balance] | None, Capabilities]:
    """Balances, None where they cannot be had, and what the account can do. A refused key stops the account."""
    read_at = clock.now()
    try:
        provider = account_provider(account)
        capabilities = account.known_capabilities(provider.capabilities())
        balances = provider.balances()
    except AuthFailed as exc:
        account_stop(account, str(exc), at=clock.now())
        return None, Capabilities()
    except (ProviderError, SecretUnreadable) as exc:
        logger.warning("%sno balances account=%s why=%s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, account.name, exc)
        return None, Capabilities()
    balances_note(account, balances, read_at=read_at)
    return balances, capabilities


@transaction.atomic
def _plan(
    evaluation: Evaluation,
    resolution: Resolution,
    balances: dict[str, Balance] | None,
    capabilities: Capabilities,
    clock: Clock,
) -> Outcome | None:
    """The account's row is locked: limits are counted and used up in one transaction, by however many workers."""
    config, now = evaluation.config, clock.now()
    decision = evaluation.decision or {}
    account = Account.objects.select_for_update().get(pk=config.account_id)
    side = Side(decision["side"])
    if Decision.objects.filter(config=config, bar_open_at=evaluation.bar_open_at).exists():
        return None
    closing = _close_opposite(evaluation, side)
    intent = EntryIntent(
        side=side,
        confidence=Decimal(str(decision.get("confidence", 1))),
        reason=str(decision.get("reason", "")),
        bar_open_at=evaluation.bar_open_at,
        candle_close=evaluation.close if evaluation.strategy.parameters.needs_candles else None,
    )
    answer = _answer(evaluation, intent, account, balances, capabilities, resolution, clock, now)
    signal = _record_signal(evaluation, intent, answer, now)
    if not isinstance(answer, Denial):
        deal = _plan_deal(evaluation, signal, answer, capabilities, now)
        logger.info(
            "%sstrategy=%s %s %s quantity=%s deal=%s",
            settings.STRATEGY_PROCESSOR_LOG_PREFIX,
            config.name,
            intent.reason,
            side,
            answer.quantity,
            deal.pk,
        )
        return _note(config, evaluation.bar_open_at, now, Outcome.ENTERED, evaluation.journal)
    outcome = Outcome.EXIT if closing else Outcome.DENIED
    journal = evaluation.journal | {"denial": {"code": answer.code, "message": answer.message}}
    return _note(config, evaluation.bar_open_at, now, outcome, journal)


def _close_opposite(evaluation: Evaluation, side: Side) -> bool:
    """An opposite signal closes the strategy's own open deal where its rules say so."""
    if not evaluation.strategy.parameters.exit_on_opposite_signal:
        return False
    open_deals = Deal.objects.filter(
        config=evaluation.config, status=DealStatus.OPEN, side=side.opposite, exit_reason=""
    )
    return bool(open_deals.update(exit_reason=CloseReason.SIGNAL, status=DealStatus.EXITING, note="opposite signal"))


def _answer(
    evaluation: Evaluation,
    intent: EntryIntent,
    account: Account,
    balances: dict[str, Balance] | None,
    capabilities: Capabilities,
    resolution: Resolution,
    clock: Clock,
    now: datetime,
) -> Approval | Denial:
    if account.environment != settings.EXCHANGE_ENVIRONMENT:
        return Denial(
            DenialCode.ACCOUNT_PAUSED,
            f"this is a {account.environment} account, and the exchanges in use are {settings.EXCHANGE_ENVIRONMENT}",
        )
    blocked = _market_blocked(account, evaluation.config.market, clock, now)
    if blocked:
        return Denial(DenialCode.MARKET_BLOCKED, blocked)
    if balances is None and not _key_is_dead(account, now):
        return Denial(DenialCode.STALE_DATA, "the balances of the account could not be read")
    return check_entry(intent, _context(evaluation, account, balances or {}, capabilities, resolution, clock, now))


def _market_blocked(account: Account, market: Market, clock: Clock, now: datetime) -> str:
    if Ticket.objects.filter(account=account, market=market, resolved_at=None).exists():
        return "a reconciliation ticket is open for this market; resolve it first"
    recent = now - clock.wall(QUARANTINE)
    if Order.objects.filter(account=account, market=market, unknown_since__isnull=False).exists() or (
        Order.objects.filter(account=account, market=market, negative_at__gte=recent).exists()
    ):
        return "the outcome of an order on this market is, or was just now, unknown"
    return ""


def _context(
    evaluation: Evaluation,
    account: Account,
    balances: dict[str, Balance],
    capabilities: Capabilities,
    resolution: Resolution,
    clock: Clock,
    now: datetime,
) -> RiskContext:
    config, market = evaluation.config, evaluation.config.market
    base = balances.get(market.base, Balance(market.base, ZERO, ZERO))
    quote = balances.get(market.quote, Balance(market.quote, ZERO, ZERO))
    mid = evaluation.book.mid_price if evaluation.book and evaluation.book.mid_price else evaluation.close
    day = trading_day_start(now)
    live = Deal.objects.filter(account=account).exclude(status__in=FINISHED_DEALS)
    entered = Deal.objects.filter(config=config).exclude(status=DealStatus.CANCELED)
    profit = (
        Deal.objects.filter(account=account, market__quote=market.quote, closed_at__gte=day).aggregate(
            total=Sum("profit")
        )["total"]
        or ZERO
    )
    level = SystemControl.objects.filter(pk=1).values_list("kill_switch", flat=True).first() or KillSwitch.OFF
    return RiskContext(
        now=now,
        parameters=evaluation.strategy.parameters,
        rules=market.rules,
        book=evaluation.book,
        resolution=resolution,
        candles_closed_at=evaluation.bar_open_at + resolution.duration,
        available_base=base.available,
        available_quote=quote.available,
        kill_switch=level != KillSwitch.OFF,
        account_paused=account.state != AccountState.ACTIVE,
        key_expires_at=account.key_expires_at,
        ordering_enabled=StrategyConfig.objects.values_list("ordering_enabled", flat=True).get(pk=config.pk),
        allowed_sides=config.sides,
        open_deal_on_market=live.filter(market=market).exists(),
        open_deals=live.count(),
        last_trade_at=entered.order_by("-created_at").values_list("created_at", flat=True).first(),
        trades_today=entered.filter(created_at__gte=day).count(),
        loss_today=max(-profit, ZERO),
        equity_at_day_start=quote.total + base.total * mid - profit,
        max_position_size_percent=settings.MAX_POSITION_SIZE_PERCENT,
        capabilities=capabilities,
        max_book_age=clock.wall(5),
    )


def trading_day_start(now: datetime) -> datetime:
    """Midnight of the trading day's time zone, as UTC."""
    local = now.astimezone(ZoneInfo(settings.TRADING_DAY_TIME_ZONE))
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def _record_signal(evaluation: Evaluation, intent: EntryIntent, answer: Approval | Denial, now: datetime) -> Signal:
    denial = answer if isinstance(answer, Denial) else None
    return Signal.objects.create(
        config=evaluation.config,
        bar_open_at=evaluation.bar_open_at,
        created_at=now,
        side=intent.side,
        reason=intent.reason[:24],
        confidence=intent.confidence,
        price=evaluation.close,
        indicators=evaluation.journal.get("indicators", {}),
        denial_code=denial.code if denial else "",
        denial_message=denial.message[:400] if denial else "",
        warnings=list(answer.warnings) if isinstance(answer, Approval) else [],
    )


def _plan_deal(
    evaluation: Evaluation, signal: Signal, approval: Approval, capabilities: Capabilities, now: datetime
) -> Deal:
    """Deal and entry order in the transaction of the decision: planned exactly once, or not at all."""
    config = evaluation.config
    deal = Deal.objects.create(
        config=config,
        account=config.account,
        market=config.market,
        signal=signal,
        bar_open_at=evaluation.bar_open_at,
        side=signal.side,
        rules=evaluation.strategy.parameters.model_dump(mode="json"),
        protection_mode=capabilities.protection_mode,
        planned_quantity=approval.quantity,
        planned_price=approval.expected_price,
        initial_stop_price=approval.stop_price,
        stop_price=approval.stop_price,
        target_price=approval.target_price,
        created_at=now,
    )
    order_plan(
        deal,
        role=Role.ENTRY,
        leg=1,
        side=Side(deal.side),
        kind=OrderType.MARKET,
        quantity=approval.quantity,
        price=approval.expected_price if capabilities.market_takes_price else None,
        stop_price=None,
        reason=signal.reason,
        now=now,
    )
    return deal
