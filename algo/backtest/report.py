"""A backtest as plain values: what a command prints, a page shows and a file keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from algo.backtest.engine import BacktestResult, FillModel
from algo.backtest.metrics import metrics_of


def summary(result: BacktestResult) -> dict[str, Any]:
    """One run: what was asked, its figures, what was refused and the warnings. JSON-able."""
    settings = result.settings
    return {
        "strategy": result.strategy_name,
        "symbol": result.rules.symbol,
        "provider": result.rules.provider,
        "pair": result.rules.pair,
        "quote": result.rules.quote,
        "resolution": str(settings.resolution),
        "time_zone": settings.time_zone,
        "fill_model": str(settings.fill_model),
        "from": result.time(result.first),
        "to": result.time(len(result.candles) - 1),
        "candles": len(result.candles) - result.first,
        "warmup_candles": result.first,
        "parameters": result.parameters.model_dump(mode="json"),
        "costs": _costs(result),
        "metrics": metrics_of(result).as_dict(),
        "signals": {"buy": int((result.signals.side > 0).sum()), "sell": int((result.signals.side < 0).sum())},
        "refused": dict(result.refused),
        "warnings": list(result.warnings),
    }


def side_by_side(results: Mapping[FillModel, BacktestResult]) -> dict[str, Any]:
    """Several fill models of one run: the first one's summary, and the figures of each under `models`."""
    summaries = {str(model): summary(result) for model, result in results.items()}
    first = next(iter(summaries.values()))
    return {**first, "models": {model: _figures(one) for model, one in summaries.items()}}


def _figures(one: Mapping[str, Any]) -> dict[str, Any]:
    return {"metrics": one["metrics"], "refused": one["refused"]}


def _costs(result: BacktestResult) -> dict[str, str]:
    settings, rules = result.settings, result.rules
    taker = rules.taker_fee_rate if settings.taker_fee_rate is None else settings.taker_fee_rate
    maker = rules.maker_fee_rate if settings.maker_fee_rate is None else settings.maker_fee_rate
    return {
        "taker_fee_rate": str(taker),
        "maker_fee_rate": str(maker),
        "slippage_percent": str(settings.slippage_percent),
        "target_pays": "maker" if settings.target_is_maker else "taker",
    }
