"""Backtests that were run, kept for comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from algo.models import BacktestRun, Market
from algo.strategies import Candles


def backtest_record(
    report: Mapping[str, Any], candles: Candles, *, market: Market, now: datetime, requested_by: Any = None
) -> BacktestRun:
    """Keep a report (as `side_by_side` makes it) beside the fingerprint of the candles it was made from."""
    return BacktestRun.objects.create(
        strategy=report["strategy"],
        parameters=report["parameters"],
        market=market,
        resolution=report["resolution"],
        started_at=now,
        data_from=_moment(candles.open_time[0]),
        data_to=_moment(candles.open_time[-1]),
        candles=len(candles),
        data_fingerprint=candles_fingerprint(candles),
        summary=dict(report),
        requested_by=requested_by,
    )


def candles_fingerprint(candles: Candles) -> str:
    """SHA-256 over all arrays: equal for equal candles, whatever file or database they came from."""
    digest = hashlib.sha256()
    for each in fields(candles):
        digest.update(getattr(candles, each.name).tobytes())
    return digest.hexdigest()


def _moment(unix: int) -> datetime:
    return datetime.fromtimestamp(int(unix), UTC)
