"""What a strategy would have done over the last 30 days, before it is saved: from stored candles, within seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext

from algo.backtest import side_by_side
from algo.backtest.watched import run_both_watched
from algo.localised import digits
from algo.models import StrategyConfig
from algo.selectors.candles import candles_coverage, candles_range
from algo.selectors.sessions import is_lost
from algo.sentences import sentence
from algo.services.backtest_money import Money, backtest_settings
from algo.strategies import create_strategy
from providers.interface import ExchangeProvider
from providers.types import Resolution

logger = logging.getLogger("algo.strategies")

PERIOD = timedelta(days=30)
SECONDS = 5.0  # of wall time, which a page may wait
FEWEST_CANDLES = 2  # beside those of the warm-up
ProviderOf = Callable[[str], ExchangeProvider]


@dataclass(frozen=True, slots=True)
class Preview:
    """`report` is that of a backtest (`side_by_side`), None where `why_not` says why there is none. `candles` of the
    period are stored, `missing` are not."""

    candles: int
    missing: int
    report: Mapping[str, Any] | None = None
    why_not: str = ""


class _TooSlow(Exception):
    pass


def strategy_preview(
    config: StrategyConfig, *, provider: ExchangeProvider, now: datetime, seconds: float = SECONDS
) -> Preview:
    """Play `config`, saved or not, over the stored candles of its data market. Nothing is downloaded, nothing stored.
    `provider` is the exchange it trades at. Raises what a strategy raises whose code fails."""
    resolution = Resolution(config.resolution)
    strategy = create_strategy(config.strategy, config.parameters)
    start = now - PERIOD
    covered = candles_coverage(config.data_market, resolution, start, now)
    candles = candles_range(config.data_market, resolution, start - strategy.warmup_bars * resolution.duration, now)
    needed = strategy.warmup_bars + FEWEST_CANDLES
    if len(candles) < needed:
        return Preview(covered.stored, covered.missing, why_not=_too_few(config, len(candles), needed))
    deadline = time.monotonic() + seconds

    def told(done: int, total: int) -> None:
        if done < total and time.monotonic() > deadline:
            raise _TooSlow

    settings = backtest_settings(Money(), config.market.rules, resolution, config, provider)
    try:
        results = run_both_watched(candles, strategy, config.market.rules, settings, told)
    except _TooSlow:
        why = gettext("The strategy needs more than %(seconds)s s for 30 days: save it, then run a backtest of it.") % {
            "seconds": digits(f"{seconds:.0f}")
        }
        return Preview(covered.stored, covered.missing, why_not=why)
    except ValueError as exc:
        return Preview(covered.stored, covered.missing, why_not=sentence(str(exc)))
    return Preview(covered.stored, covered.missing, side_by_side(results))


def strategy_played(config: StrategyConfig, provider_of: ProviderOf, *, now: datetime) -> Preview:
    """`strategy_preview`; what the strategy's own code raises is told in `why_not`. Raises only what says that the
    database is gone."""
    try:
        return strategy_preview(config, provider=provider_of(config.market.provider), now=now)
    except Exception as exc:  # users' code: whatever it raises is theirs to read
        if is_lost(exc):
            raise
        logger.exception("preview of %s failed", config.strategy)
        return Preview(
            0,
            0,
            why_not=gettext("%(strategy)s failed: %(name__)s: %(why)s")
            % {"strategy": config.strategy, "name__": type(exc).__name__, "why": exc},
        )


def _too_few(config: StrategyConfig, stored: int, needed: int) -> str:
    have = gettext("only %(stored)s candles") % {"stored": digits(f"{stored:,}")} if stored else gettext("no candles")
    return gettext(
        "What it would have done is not known: %(have)s of %(data_market)s are stored, and it "
        "needs %(needed)s, most of them to warm up. Fetch candles on the market's page, or run a "
        "backtest of it, which downloads them."
    ) % {"have": have, "data_market": config.data_market, "needed": digits(f"{needed:,}")}
