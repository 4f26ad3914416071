"""From closed candles to planned deals: who is due, what the strategies say, what the risk gate allows.

Candles and books are read once per group of strategies, strategies that are alike judge once, and what a group has
nothing to order about is kept together. Whatever is decided leaves a journal row, unique by strategy and candle, so a
task that runs twice finds its work done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import DataError
from django.db.models import Q, QuerySet

from algo.execution.entry_judge import EntryEvidence, decide_entry
from algo.execution.entry_ledger import Decided, EntryRequest
from algo.execution.entry_ledger_orm import OrmEntryLedger
from algo.models import (
    Account,
    AccountState,
    Market,
    Outcome,
    StrategyConfig,
    StrategyStatus,
)
from algo.models.fields import SecretUnreadable
from algo.risk.values import Denial, EntryIntent
from algo.selectors.balances import balances_unspent
from algo.selectors.candles import candles_window
from algo.selectors.sessions import is_lost
from algo.services.accounts import account_stop, balances_note
from algo.services.alone import alone
from algo.services.candles import CLOSE_GRACE, candles_update
from algo.services.decisions import Noted, as_json, decisions_record
from algo.services.strategy_checks import checking_alone, is_version_known, version_refusal, versions_recall
from algo.strategies.interface import Candles, MarketData, StrategyInterface
from algo.strategies.schemas import InvalidParameters
from algo.strategies.strategy_factory import UnknownStrategy, create_strategy, external_names
from providers.clock import Clock
from providers.errors import AuthFailed, ProviderError
from providers.interface import ExchangeProvider
from providers.types import Balance, Capabilities, OrderBook, Resolution, Side

logger = logging.getLogger("algo.strategies")

_DECIDING = 7132  # advisory locks: one for each group
BALANCES_SHARED = 2.0  # wall seconds for which balances serve more than one decision
CHECKING_SECONDS = 5.0  # of one turn for versions that were never checked; at least one of them is

AccountProvider = Callable[[Account], ExchangeProvider]
Ready = tuple[StrategyConfig, StrategyInterface]
Said = tuple[dict[str, Any] | None, dict[str, Any], str]  # the decision, what the journal keeps of it, that as JSON


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
    compared: Decimal | None  # with the price of the exchange that trades; None where it decides without a price
    book: OrderBook | None
    journal: dict[str, Any]
    decision: dict[str, Any] | None


def due_groups(now: datetime) -> list[Group]:
    """Running strategies whose next candle has closed, grouped by what they read."""
    groups: dict[tuple[int, str], list[int]] = {}
    for pk, market, resolution in _due(now).order_by("pk").values_list("pk", "data_market_id", "resolution"):
        groups.setdefault((market, resolution), []).append(pk)
    return [Group(market, Resolution(resolution), tuple(ids)) for (market, resolution), ids in groups.items()]


def _due(now: datetime) -> QuerySet[StrategyConfig]:
    """Grids are never computed: the next candle after the last one seen opens one resolution later, or not at all."""
    closed = Q(last_bar_at=None)
    for resolution in Resolution:
        closed |= Q(resolution=resolution.value, last_bar_at__lte=now - 2 * resolution.duration)
    return _running().filter(closed)


def _running() -> QuerySet[StrategyConfig]:
    """Those that decide over candles."""
    return StrategyConfig.objects.filter(status=StrategyStatus.RUNNING).exclude(strategy__in=external_names())


def deciding_alone(data_market: Market, resolution: Resolution) -> AbstractContextManager[bool]:
    """Whether this process may let that group decide: False while another one does. A dead process lets go at once."""
    return alone(_DECIDING, data_market.pk * len(Resolution) + list(Resolution).index(resolution))


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
    """Let every strategy of a group decide over its newest closed candle; whoever has seen it already is left out.
    `on_planned(account_id)` is called after the commit of a planned deal. Raises `ProviderError` when the candles
    cannot be read: the next tick tries again."""
    due = _due(clock.now()).filter(pk__in=config_ids, data_market=data_market, resolution=resolution.value)
    # Each account and each market once, however many strategies share it.
    configs = list(due.order_by("pk").prefetch_related("account", "market"))
    for config in configs:
        config.data_market = data_market
    ready = [(config, strategy) for config in configs if (strategy := strategy_ready(config, clock.now()))]
    versions_recall(ready)
    known = [_is_known(config, strategy) for config, strategy in ready]
    desk = _Desk(data_market, resolution, data_provider, Books(book_provider), account_provider, clock, on_planned)
    outcomes = desk.decide(_admitted([each for each, is_known in zip(ready, known, strict=True) if is_known], clock))
    # A check takes seconds: whoever passed before has decided by now.
    fresh = [each for each, is_known in zip(ready, known, strict=True) if not is_known]
    return outcomes + desk.decide(_admitted_in_time(fresh, clock))


def _admitted(ready: Sequence[Ready], clock: Clock) -> list[Ready]:
    """Those whose version may trade."""
    return [(config, strategy) for config, strategy in ready if may_trade(config, strategy, clock.now())]


def _admitted_in_time(ready: Sequence[Ready], clock: Clock) -> list[Ready]:
    """The same of versions that were never checked: as many as time allows and no other process is checking. The rest
    stay due, and the next tick goes on with them."""
    admitted, began = [], clock.monotonic()
    for number, (config, strategy) in enumerate(ready):
        if number and clock.monotonic() - began > CHECKING_SECONDS:
            break
        with checking_alone(config) as is_alone:
            if is_alone and may_trade(config, strategy, clock.now()):
                admitted.append((config, strategy))
    return admitted


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the strategies of a group decide with."""

    data_market: Market
    resolution: Resolution
    data_provider: ExchangeProvider
    books: Books
    account_provider: AccountProvider
    clock: Clock
    on_planned: Callable[[int], None]

    def decide(self, ready: Sequence[Ready]) -> list[Outcome]:
        """Each over its newest closed candle; the failure of one keeps no other from deciding. Signals are acted on
        first; what is only for the journal is written together, after them."""
        bars = max((strategy.warmup_bars for _, strategy in ready), default=0)
        if not bars:
            return []
        now = self.clock.now()  # not before: checking a version for the first time takes a while
        grace = self.clock.wall(CLOSE_GRACE)
        candles_update(self.data_market, self.resolution, self.data_provider, now=now, bars=bars, grace=grace)
        candles = candles_window(self.data_market, self.resolution, bars=bars, until=now)
        judge = _Judge(candles, self.resolution, self.books)
        said = [each for config, strategy in ready if (each := judge.turn(config, strategy, now))]
        outcomes = [self._act(each) if isinstance(each, Evaluation) else each for each in said]
        _record([each for each in outcomes if isinstance(each, Noted)], self.clock.now())
        return [each.outcome if isinstance(each, Noted) else each for each in outcomes if each]

    def _act(self, evaluation: Evaluation) -> Outcome | Noted | None:
        try:
            return _act(evaluation, self.resolution, self.account_provider, self.clock, self.on_planned)
        except Exception as exc:  # what a strategy says is users' doing: it must not keep the others from deciding
            if is_lost(exc):
                raise
            logger.exception("%sstrategy=%s failed", settings.STRATEGY_PROCESSOR_LOG_PREFIX, evaluation.config.name)
            return _failed(evaluation.config, evaluation.bar_open_at, exc)


@dataclass(frozen=True, slots=True)
class _Judge:
    """What strategies say over one window of candles. Those of one version, which trade on one market, say the same:
    one of them is asked."""

    candles: Candles
    resolution: Resolution
    books: Books
    _said: dict[tuple[object, int], Said] = field(default_factory=dict)

    def turn(self, config: StrategyConfig, strategy: StrategyInterface, now: datetime) -> Evaluation | Noted | None:
        """One strategy's turn; None when there is no candle it has not seen. Its own failure is its own."""
        bar = _newest_bar(self.candles)
        try:
            return self._turn(config, strategy, bar, now)
        except Exception as exc:  # a strategy is users' code: its failure must not keep the others from deciding
            if is_lost(exc):
                raise
            logger.exception("%sstrategy=%s failed", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name)
            return _failed(config, bar, exc)

    def _turn(
        self, config: StrategyConfig, strategy: StrategyInterface, bar: datetime | None, now: datetime
    ) -> Evaluation | Noted | None:
        allowed_age = strategy.parameters.max_data_age_bars * self.resolution.duration
        if bar is None or now - (bar + self.resolution.duration) > allowed_age:
            return _stale(config, bar, self.resolution, now)
        if config.last_bar_at is not None and bar <= config.last_bar_at:
            return None
        needs_candles = strategy.parameters.needs_candles
        if len(self.candles) < strategy.warmup_bars and needs_candles:
            journal = {"candles": len(self.candles), "needed": strategy.warmup_bars}
            return Noted(config.pk, bar, Outcome.SHORT_HISTORY, as_json(journal))
        book = self.books.get(config.market)
        decision, journal, text = self._judgement(strategy, config.market_id, book)
        if decision is None:
            return Noted(config.pk, bar, Outcome.NO_SIGNAL, text)
        close = Decimal(str(self.candles.close[-1]))
        return Evaluation(config, strategy, bar, close, close if needs_candles else None, book, journal, decision)

    def _judgement(self, strategy: StrategyInterface, market_id: int, book: OrderBook | None) -> Said:
        key = strategy.version, market_id
        if key not in self._said:
            decision, journal = strategy.judge(MarketData(self.candles.window(strategy.warmup_bars), book))
            self._said[key] = decision, journal, as_json(journal)
        return self._said[key]


class Books:
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


def strategy_ready(config: StrategyConfig, now: datetime) -> StrategyInterface | None:
    """The strategy of a config, ready; None (and the config stopped) when its parameters cannot work any more."""
    strategy = None
    try:
        strategy = create_strategy(config.strategy, config.parameters)
        why = "" if strategy.initialize() else "initialize() answered that it cannot run as configured"
    except (UnknownStrategy, InvalidParameters) as exc:
        why = str(exc)
    except Exception as exc:  # users' code again
        logger.exception("%sstrategy=%s cannot start", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name)
        why = f"{type(exc).__name__}: {exc}"
    if not why:
        return strategy
    _stop(config, why, now)
    return None


def _is_known(config: StrategyConfig, strategy: StrategyInterface) -> bool:
    """Whether the check of this version is kept; False too where that cannot be told: `may_trade` says why."""
    try:
        return is_version_known(config, strategy)
    except Exception as exc:  # users' code
        if is_lost(exc):
            raise
        return False


def may_trade(config: StrategyConfig, strategy: StrategyInterface, now: datetime) -> bool:
    """Whether this version passed its bias checks. One that failed is stopped: open deals do not depend on it. Where
    the check itself breaks, the config sits this turn out, and the others decide."""
    try:
        why = version_refusal(config, strategy, now=now)
    except Exception as exc:  # users' code is looked at in there, and what it says is stored
        if is_lost(exc):
            raise
        logger.exception("%sstrategy=%s could not be checked", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name)
        _journal_unchecked(config, now, exc)
        return False
    if why:
        _stop(config, why, now)
    return not why


def _journal_unchecked(config: StrategyConfig, now: datetime, exc: Exception) -> None:
    text = f"its bias checks could not be run: {type(exc).__name__}: {str(exc)!a}"
    _note_failure(config, text, now)


def _stop(config: StrategyConfig, why: str, now: datetime) -> None:
    logger.error("%sstrategy=%s stopped: %s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name, why)
    StrategyConfig.objects.filter(pk=config.pk).update(status=StrategyStatus.STOPPED)
    _note_failure(config, f"stopped: {why}", now)


def _note_failure(config: StrategyConfig, error: str, now: datetime) -> None:
    """Where it never came to a candle: beside the newest one by our own count, which so counts as seen by nobody."""
    resolution = Resolution(config.resolution)
    newest = running_bar(now, resolution) - resolution.duration
    decisions_record([Noted(config.pk, newest, Outcome.ERROR, as_json({"error": error}), counts=False)], now=now)


def running_bar(now: datetime, resolution: Resolution) -> datetime:
    """When the candle that is not closed yet began, by our own count: for the journal, where no candle is known."""
    return datetime.fromtimestamp(now.timestamp() // resolution.seconds * resolution.seconds, UTC)


def _newest_bar(candles: Candles) -> datetime | None:
    return datetime.fromtimestamp(int(candles.open_time[-1]), UTC) if len(candles) else None


def _stale(config: StrategyConfig, bar: datetime | None, resolution: Resolution, now: datetime) -> Noted:
    """The candle that should be there is not: say so once for each missing candle."""
    if bar is None:
        # Nothing to count from: the journal's time is only ours, and no candle counts as seen by it.
        newest = running_bar(now, resolution) - resolution.duration
        return Noted(config.pk, newest, Outcome.STALE_DATA, as_json({"newest_candle": None}), counts=False)
    missing = bar + ((now - bar) // resolution.duration - 1) * resolution.duration
    return Noted(config.pk, missing, Outcome.STALE_DATA, as_json({"newest_candle": bar.isoformat()}))


def _failed(config: StrategyConfig, bar: datetime | None, exc: Exception) -> Noted | None:
    text = as_json({"error": f"{type(exc).__name__}: {str(exc)!a}"})
    return Noted(config.pk, bar, Outcome.ERROR, text) if bar else None


def _record(notes: Sequence[Noted], now: datetime) -> None:
    """All of them together; where one cannot be kept, each by itself, and that one with the reason."""
    try:
        decisions_record(notes, now=now)
    except DataError:
        for note in notes:
            try:
                decisions_record([note], now=now)
            except DataError as exc:
                logger.warning(
                    "%sstrategy=%s journal not kept: %s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, note.config_id, exc
                )
                reason = as_json({"error": f"its journal cannot be kept: {str(exc)!a}"})
                decisions_record([replace(note, outcome=Outcome.ERROR, journal=reason)], now=now)


# --- acting on a signal ---------------------------------------------------------------------------------------------


def _act(
    evaluation: Evaluation,
    resolution: Resolution,
    account_provider: AccountProvider,
    clock: Clock,
    on_planned: Callable[[int], None],
) -> Outcome | None:
    evidence, capabilities = entry_evidence(evaluation, resolution, account_provider, clock)
    decided = decide_entry(OrmEntryLedger(), entry_request(evaluation, capabilities), evidence, clock)
    if decided is None:
        return None
    entry_told(evaluation.config, decided, on_planned)
    return decided.outcome


def entry_evidence(
    evaluation: Evaluation, resolution: Resolution, account_provider: AccountProvider, clock: Clock
) -> tuple[EntryEvidence, Capabilities]:
    """What the gate is shown of the account, and what that account can do. Asks its exchange: in no transaction."""
    account = Account.objects.get(pk=evaluation.config.account_id)  # as it is now: its key may be refused, or another
    balances, capabilities, read_at = None, Capabilities(), clock.now()
    if account.environment == settings.EXCHANGE_ENVIRONMENT and not _key_is_dead(account, read_at):
        balances, capabilities, read_at = _ask_account(account, account_provider, clock)
    evidence = EntryEvidence(
        book=evaluation.book,
        resolution=resolution,
        balances=balances,
        read_at=read_at,
        environment=settings.EXCHANGE_ENVIRONMENT,
        time_zone=settings.TRADING_DAY_TIME_ZONE,
        max_position_size_percent=settings.MAX_POSITION_SIZE_PERCENT,
    )
    return evidence, capabilities


def entry_told(config: StrategyConfig, decided: Decided, on_planned: Callable[[int], None]) -> None:
    """Log what was decided, and have the account looked after where that is needed."""
    _log(config, decided)
    if decided.outcome in (Outcome.ENTERED, Outcome.EXIT):
        on_planned(config.account_id)


def entry_request(evaluation: Evaluation, capabilities: Capabilities) -> EntryRequest:
    """What is asked of the ledger."""
    config, parameters, decision = evaluation.config, evaluation.strategy.parameters, evaluation.decision or {}
    intent = EntryIntent(
        side=Side(decision["side"]),
        confidence=Decimal(str(decision.get("confidence", 1))),
        reason=str(decision.get("reason", "")),
        bar_open_at=evaluation.bar_open_at,
        candle_close=evaluation.compared,
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
) -> tuple[dict[str, Balance] | None, Capabilities, datetime]:
    """Balances, None where they cannot be had, what the account can do, and when they were read. A refused key stops
    the account. Balances that another strategy has just read and nobody spent of are not asked for again: calls are
    few, and many strategies of an account may speak over the same candle."""
    read_at = clock.now()
    try:
        provider = account_provider(account)
        capabilities = account.known_capabilities(provider.capabilities())
        kept = balances_unspent(account, read_at, clock.wall(BALANCES_SHARED))
        if kept is not None and account.balances_read_at is not None:
            return kept, capabilities, account.balances_read_at
        balances = provider.balances()
    except AuthFailed as exc:
        account_stop(account, str(exc), at=clock.now())
        return None, Capabilities(), read_at
    except (ProviderError, SecretUnreadable) as exc:
        logger.warning("%sno balances account=%s why=%s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, account.name, exc)
        return None, Capabilities(), read_at
    balances_note(account, balances, read_at=read_at)
    return balances, capabilities, read_at
