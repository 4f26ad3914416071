"""Bias checks of the strategies at work: run for each version of a config, kept, and asked before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime

from django.db import transaction

from algo.backtest.bias import candles_wanted, check_strategy
from algo.backtest.bias_findings import Checked
from algo.backtest.synthetic import synthetic_market
from algo.models import EventKind, StrategyCheck, StrategyConfig, StrategyStatus
from algo.selectors.candles import candles_window
from algo.selectors.sessions import is_lost
from algo.selectors.strategy_checks import newest_check
from algo.services.alone import alone
from algo.services.backtests import candles_fingerprint
from algo.services.outbox import event_record
from algo.services.strategy_versions import strategy_fingerprint
from algo.strategies.interface import Candles, StrategyInterface
from algo.strategies.strategy_factory import create_strategy
from providers.types import Resolution

logger = logging.getLogger("algo.strategies")

Version = tuple[type, str]  # StrategyInterface.version

MOST_REMEMBERED = 64
_CHECKING = 7131  # advisory locks: one for each config

# What was found is a function of the loaded code, the parameters and the candles: five configs alike are checked once.
_found: dict[tuple[type, str, str], Checked] = {}
_passed: set[tuple[int, Version]] = set()


def strategy_check(config: StrategyConfig, *, now: datetime, again: bool = True) -> StrategyCheck:
    """Check the version that `config` holds, and keep what is found. A running config that fails is stopped.

    Over the newest stored candles of its data market; over a simulated market where there are too few of them, or
    where it says nothing on them. With `again` False a check of equal candles by this process is taken over. Raises
    UnknownStrategy or InvalidParameters, with nothing kept.
    """
    strategy = create_strategy(config.strategy, config.parameters)
    candles, source = _candles(config, strategy, now)
    checked = _checked(strategy, candles, again=again)
    if checked.passed and not checked.signals and not source.startswith(SIMULATED):
        source = f"{SIMULATED}: the strategy says nothing on the {len(candles):,} newest stored candles"
        checked = _checked(strategy, _simulated(config, strategy, candles), again=again)
    return strategy_check_record(config, strategy, checked, source=source, now=now)


@transaction.atomic
def strategy_check_record(
    config: StrategyConfig, strategy: StrategyInterface, checked: Checked, *, source: str, now: datetime
) -> StrategyCheck:
    """Keep what was found of a config's version. A running config that failed is stopped, with an event."""
    check = StrategyCheck.objects.create(
        config=config,
        fingerprint=strategy_fingerprint(strategy),
        passed=checked.passed,
        summary=checked.summary()[:600],
        findings=checked.report(),
        candles=checked.candles,
        source=source[:200],
        checked_at=now,
        seconds=checked.seconds,
    )
    running = StrategyConfig.objects.filter(pk=config.pk, status=StrategyStatus.RUNNING)
    if not checked.passed and running.update(status=StrategyStatus.STOPPED):
        logger.error("strategy=%s stopped: its checks %s", config.name, check.summary)
        payload = {"strategy": config.name, "account": config.account.name, "reason": check_refusal(check)}
        event_record(EventKind.STRATEGY_STOPPED, payload, at=now, config=config)
    return check


def strategy_check_current(config: StrategyConfig, *, now: datetime) -> StrategyCheck:
    """The newest check of the version that `config` holds; made here where that version was never checked."""
    strategy = create_strategy(config.strategy, config.parameters)
    return newest_check(config, strategy_fingerprint(strategy)) or strategy_check(config, now=now, again=False)


def versions_recall(ready: Iterable[tuple[StrategyConfig, StrategyInterface]]) -> None:
    """Look up in one query which of these versions passed their checks: a process that has just started knows none.
    A strategy whose version cannot be told is left to `version_refusal`, which says why."""
    unknown = {config.pk: strategy for config, strategy in ready if (config.pk, strategy.version) not in _passed}
    prints = _fingerprints(unknown.values())
    if not prints:
        return
    checks = StrategyCheck.objects.filter(config__in=unknown, fingerprint__in=set(prints.values()))
    newest = checks.order_by("config_id", "fingerprint", "-checked_at", "-id").distinct("config_id", "fingerprint")
    for config_id, fingerprint, passed in newest.values_list("config_id", "fingerprint", "passed"):
        version = unknown[config_id].version
        if passed and prints.get(version) == fingerprint:
            _passed.add((config_id, version))


def _fingerprints(strategies: Iterable[StrategyInterface]) -> dict[Version, str]:
    found: dict[Version, str] = {}
    for strategy in strategies:
        try:
            found[strategy.version] = found.get(strategy.version) or strategy_fingerprint(strategy)
        except Exception as exc:  # users' code
            if is_lost(exc):
                raise
            logger.info("version of %s cannot be told", type(strategy).__name__, exc_info=exc)
    return found


def is_version_known(config: StrategyConfig, strategy: StrategyInterface) -> bool:
    """Whether `version_refusal` will answer from what is kept, without a check that takes seconds."""
    is_passed = (config.pk, strategy.version) in _passed
    return is_passed or newest_check(config, strategy_fingerprint(strategy)) is not None


def checking_alone(config: StrategyConfig) -> AbstractContextManager[bool]:
    """Whether this process may check that config: False while another one does. A dead process lets go at once."""
    return alone(_CHECKING, config.pk)


def version_refusal(config: StrategyConfig, strategy: StrategyInterface, *, now: datetime) -> str:
    """Why this version must not trade; empty where it passed its checks. A version never checked is checked here.

    For every candle: a version that passed costs one look into a set. One that fails is not remembered, for its config
    is stopped.
    """
    key = (config.pk, strategy.version)
    if key in _passed:
        return ""
    check = strategy_check_current(config, now=now)
    if not check.passed:
        return check_refusal(check)
    _passed.add(key)
    return ""


def check_refusal(check: StrategyCheck) -> str:
    """What a failed check means for who wants to run the config, in sentences."""
    return (
        f"this version of it failed its bias checks on {check.checked_at:%Y-%m-%d %H:%M} UTC ({check.summary}). Its "
        "backtests do not say what it would do live. Open deals stay protected. Correct the strategy or its "
        "parameters; its page says what was found"
    )


# --- which candles --------------------------------------------------------------------------------------------------

SIMULATED = "simulated market"


def _candles(config: StrategyConfig, strategy: StrategyInterface, now: datetime) -> tuple[Candles, str]:
    wanted, fewest = candles_wanted(strategy)
    resolution = Resolution(config.resolution)
    stored = candles_window(config.data_market, resolution, bars=wanted, until=now)
    if len(stored) >= fewest:
        return stored, f"the {len(stored):,} newest stored candles of {config.data_market}"
    few = f"{SIMULATED}: only {len(stored):,} candles of {config.data_market} are stored, {fewest:,} are needed"
    return _simulated(config, strategy, stored), few


def _simulated(config: StrategyConfig, strategy: StrategyInterface, stored: Candles) -> Candles:
    """At the market's own price, where it is known."""
    price = float(stored.close[-1]) if len(stored) and stored.close[-1] > 0 else 100.0
    return synthetic_market(candles_wanted(strategy)[0], seconds=Resolution(config.resolution).seconds, price=price)


def _checked(strategy: StrategyInterface, candles: Candles, *, again: bool) -> Checked:
    key = (*strategy.version, candles_fingerprint(candles))
    if again or key not in _found:
        if len(_found) >= MOST_REMEMBERED:
            _found.clear()
        _found[key] = check_strategy(strategy, candles)
    return _found[key]
