"""A strategy that says nothing by itself: its signals are sent to it, and it gives them its rules of risk."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import Field

from algo.strategies.interface import StrategyInterface
from algo.strategies.schemas import StrategySchema


class ExternalSignalsSchema(StrategySchema):
    """The rules of risk, and how far a signal may choose its own."""

    largest_stop_loss_percent: Decimal = Field(
        Decimal(2),
        gt=0,
        le=50,
        title="Widest stop of a signal (%)",
        description="A signal may name a stop up to here; one that names none gets the stop loss above.",
    )
    largest_take_profit_percent: Decimal = Field(
        Decimal(10),
        gt=0,
        le=1000,
        title="Farthest target of a signal (%)",
        description="A signal may name a target up to here; one that names none gets the take profit above.",
    )
    largest_confidence: Decimal = Field(
        Decimal(1),
        gt=0,
        le=1,
        title="Largest confidence of a signal",
        description="Scales the size of the position. A signal that names none counts with this one.",
    )

    @property
    def needs_candles(self) -> bool:
        return False


class ExternalSignals(StrategyInterface):
    """Decides nothing by itself. Signals from outside, sent to its own address with a key (docs/notifications.md),
    pass the same risk gate as those of every other strategy, one for each candle at most."""

    schema = ExternalSignalsSchema
    is_external = True

    @property
    def warmup_bars(self) -> int:
        return 1

    def execute(self, market_data: Mapping[str, Any]) -> dict[str, Any] | None:
        return None
