"""Live against backtest: the same candles through the engine; every decision and fill that differs, with its reason.

A difference has a cause. What no known cause fits is `unexplained`: a defect of the engine, of the live path, or of the
data. That count is the figure to watch; it should be 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from algo.backtest.engine import BacktestSettings
from algo.backtest.parity_deals import Pair, deal_differences
from algo.backtest.parity_replay import EngineDeal, Replay
from algo.backtest.parity_signals import SignalCounts, entry_differences, signal_differences, unmade_deal
from algo.backtest.parity_values import (
    Cause,
    Difference,
    Kind,
    LiveDay,
    LiveDeal,
    LiveDecision,
    OtherDeal,
    Parity,
)
from algo.strategies.interface import Candles, StrategyInterface
from providers.types import ZERO, MarketRules

__all__ = [
    "Cause",
    "Difference",
    "Kind",
    "LiveDay",
    "LiveDeal",
    "LiveDecision",
    "OtherDeal",
    "Parity",
    "compare",
]


def compare(
    day: LiveDay, candles: Candles, strategy: StrategyInterface, rules: MarketRules, settings: BacktestSettings
) -> Parity:
    """Replay `day` over `candles`: its own, at least `warmup_bars` before them, and one after where there is one.

    `settings` hold the balance that the account began the day with. ValueError for fewer than three candles.
    """
    replay, counts = Replay(day, candles, strategy, rules, settings), SignalCounts()
    differences = [*signal_differences(replay, counts), *entry_differences(replay)]
    pairs, unpaired = _pairs(replay)
    told = {each.deal for each in differences}
    differences += [each for each in unpaired if each.deal not in told]
    for pair in pairs:
        differences += deal_differences(pair)
    differences.sort(key=lambda each: each.at)
    return Parity(summary=_summary(replay, counts, pairs, differences), differences=tuple(differences))


def _pairs(replay: Replay) -> tuple[list[Pair], list[Difference]]:
    """Deals that were open at any time of the period, beside the engine's; and those that it does not make."""
    found, missing = [], []
    for deal in replay.day.deals:
        if not deal.is_filled or not _is_of_the_period(replay, deal):
            continue
        engine = replay.partner(deal)
        if isinstance(engine, EngineDeal):
            found.append(Pair(replay, deal, engine))
        else:
            missing.append(unmade_deal(replay, deal, engine))
    return found, missing


def _is_of_the_period(replay: Replay, deal: LiveDeal) -> bool:
    return deal.created_at < replay.until and (deal.exit_at is None or deal.exit_at >= replay.day.start)


# --- figures --------------------------------------------------------------------------------------------------------


def _summary(
    replay: Replay, counts: SignalCounts, pairs: Sequence[Pair], differences: Sequence[Difference]
) -> dict[str, Any]:
    day = replay.day
    live = [deal for deal in day.deals if deal.is_filled and _is_of_the_period(replay, deal)]
    closed = [pair for pair in pairs if pair.close_index is not None and pair.engine.close_index is not None]
    entries = [d for d in differences if d.kind is Kind.ENTRY]
    only_engine = [each for each in entries if each.engine == "entered"]
    unequal = {each.deal for each in differences if each.deal is not None and each.live != "not filled"}
    slippage = [pair.slippage_percent for pair in pairs if pair.live.created_at >= day.start]
    causes = Counter(str(each.cause) for each in differences)
    return {
        "from": day.start.isoformat(),
        "to": min(day.end, replay.until).isoformat(),
        "candles": counts.candles,
        "decided": counts.decided,
        "signals_live": counts.said_live,
        "signals_engine": counts.said_engine,
        "signals_compared": counts.compared,
        "signals_equal": counts.equal,
        "deals_live": len(live),
        "deals_engine": len(replay.free),
        "deals_compared": len(live) + len(only_engine),
        "deals_equal": sum(deal.id not in unequal for deal in live),
        "profit_live": _text(sum((_profit(replay, deal) for deal in live), ZERO)),
        "profit_engine": _text(sum(deal.profit for deal in replay.free)),
        "profit_same_deals_live": _text(sum((pair.live.profit for pair in closed), ZERO)),
        "profit_same_deals_engine": _text(sum(pair.engine.profit for pair in closed)),
        "slippage_percent": round(sum(slippage) / len(slippage), 5) if slippage else None,
        "differences": len(differences),
        "unexplained": causes[str(Cause.UNEXPLAINED)],
        "causes": dict(sorted(causes.items())),
    }


def _profit(replay: Replay, deal: LiveDeal) -> Decimal:
    return deal.profit if deal.exit_at is not None and deal.exit_at < replay.until else ZERO


def _text(amount: Decimal | float) -> str:
    """For JSON: plain digits, at most eight decimals."""
    rounded = round(Decimal(str(amount)), 8)
    return f"{rounded.normalize():f}" if rounded else "0"
