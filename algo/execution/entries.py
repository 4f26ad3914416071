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

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from algo.execution.entry_judge import EntryEvidence, decide_entry
from algo.execution.entry_ledger import Decided, EntryRequest
from algo.execution.entry_ledger_orm import OrmEntryLedger
from algo.models import (
    Account,
    AccountState,
    Decision,
    Market,
    Outcome,
    StrategyConfig,
    StrategyStatus,
)
from algo.models.fields import SecretUnreadable
from algo.risk.values import Denial, EntryIntent
from algo.selectors.candles import candles_window
from algo.selectors.sessions import is_lost
from algo.services.accounts import account_stop, balances_note
from algo.services.candles import CLOSE_GRACE, candles_update
from algo.services.strategy_checks import version_refusal
from algo.strategies.interface import Candles, MarketData, StrategyInterface
from algo.strategies.schemas import InvalidParameters
from algo.strategies.strategy_factory import UnknownStrategy, create_strategy
from providers.clock import Clock
from providers.errors import AuthFailed, ProviderError
from providers.interface import ExchangeProvider
from providers.types import Balance, Capabilities, OrderBook, Resolution, Side

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
    strategies = {config.pk: _strategy(config, clock.now()) for config in configs}
    bars = max((s.warmup_bars for s in strategies.values() if s), default=0)
    if not bars:
        return []
    now = clock.now()  # not before: checking a version for the first time takes a while
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
        except Exception as exc:  # a strategy is users' code: its failure must not keep the others from deciding
            if is_lost(exc):
                raise
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


def _strategy(config: StrategyConfig, now: datetime) -> StrategyInterface | None:
    """The strategy of a config, ready; None (and the config stopped) when its parameters cannot work any more, or when
    this version of it failed its bias checks. Open deals do not depend on it."""
    strategy = None
    try:
        strategy = create_strategy(config.strategy, config.parameters)
        why = "" if strategy.initialize() else "initialize() answered that it cannot run as configured"
    except (UnknownStrategy, InvalidParameters) as exc:
        why = str(exc)
    except Exception as exc:  # users' code again
        logger.exception("%sstrategy=%s cannot start", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name)
        why = f"{type(exc).__name__}: {exc}"
    if strategy and not why:
        why = version_refusal(config, strategy, now=now)
    if not why:
        return strategy
    logger.error("%sstrategy=%s stopped: %s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name, why)
    StrategyConfig.objects.filter(pk=config.pk).update(status=StrategyStatus.STOPPED)
    resolution = Resolution(config.resolution)
    newest = _running_bar(now, resolution) - resolution.duration
    _journal(config, newest, now, Outcome.ERROR, {"error": f"stopped: {why}"})
    return None


def _running_bar(now: datetime, resolution: Resolution) -> datetime:
    """When the candle that is not closed yet began, by our own count: for the journal, where no candle is known."""
    return datetime.fromtimestamp(now.timestamp() // resolution.seconds * resolution.seconds, UTC)


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
        newest = _running_bar(now, resolution) - resolution.duration
        _journal(config, newest, now, Outcome.STALE_DATA, {"newest_candle": None})
        return Outcome.STALE_DATA
    missing = bar + ((now - bar) // resolution.duration - 1) * resolution.duration
    return _note(config, missing, now, Outcome.STALE_DATA, {"newest_candle": bar.isoformat()})


def _note_error(config: StrategyConfig, candles: Candles, now: datetime, exc: Exception) -> Outcome | None:
    bar = _newest_bar(candles)
    return _note(config, bar, now, Outcome.ERROR, {"error": f"{type(exc).__name__}: {exc}"}) if bar else None


@transaction.atomic
def _note(config: StrategyConfig, bar: datetime, now: datetime, outcome: Outcome, journal: dict[str, Any]) -> Outcome:
    _journal(config, bar, now, outcome, journal)
    older = Q(last_bar_at=None) | Q(last_bar_at__lt=bar)  # a worker that was held up must not wind it back
    StrategyConfig.objects.filter(older, pk=config.pk).update(last_bar_at=bar)
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
    balances, capabilities, read_at = None, Capabilities(), clock.now()
    if account.environment == settings.EXCHANGE_ENVIRONMENT and not _key_is_dead(account, read_at):
        balances, capabilities = _ask_account(account, account_provider, clock)
    evidence = EntryEvidence(
        book=evaluation.book,
        resolution=resolution,
        balances=balances,
        read_at=read_at,
        environment=settings.EXCHANGE_ENVIRONMENT,
        time_zone=settings.TRADING_DAY_TIME_ZONE,
        max_position_size_percent=settings.MAX_POSITION_SIZE_PERCENT,
    )
    decided = decide_entry(OrmEntryLedger(), _request(evaluation, capabilities), evidence, clock)
    if decided is None:
        return None
    _log(evaluation.config, decided)
    if decided.outcome in (Outcome.ENTERED, Outcome.EXIT):
        on_planned(account.pk)
    return decided.outcome


def _request(evaluation: Evaluation, capabilities: Capabilities) -> EntryRequest:
    config, parameters, decision = evaluation.config, evaluation.strategy.parameters, evaluation.decision or {}
    intent = EntryIntent(
        side=Side(decision["side"]),
        confidence=Decimal(str(decision.get("confidence", 1))),
        reason=str(decision.get("reason", "")),
        bar_open_at=evaluation.bar_open_at,
        candle_close=evaluation.close if parameters.needs_candles else None,
    )
    return EntryRequest(
        account_id=config.account_id,
        config_id=config.pk,
        market_id=config.market_id,
        bar_open_at=evaluation.bar_open_at,
        intent=intent,
        price=evaluation.close,
        rules=config.market.rules,
        parameters=parameters,
        capabilities=capabilities,
        journal=evaluation.journal,
    )


def _log(config: StrategyConfig, decided: Decided) -> None:
    prefix, answer = settings.STRATEGY_PROCESSOR_LOG_PREFIX, decided.answer
    if isinstance(answer, Denial):
        logger.info("%sstrategy=%s denied code=%s", prefix, config.name, answer.code)
    else:
        logger.info("%sstrategy=%s planned quantity=%s deal=%s", prefix, config.name, answer.quantity, decided.deal_id)


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
