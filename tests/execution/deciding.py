"""A group of strategies that decides over candles which a test made, once, four seconds after the tenth minute."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from algo.execution.entries import evaluate_group
from algo.models import Outcome, StrategyConfig
from providers.clock import AnchoredClock
from providers.types import Resolution
from tests.factories import make_market
from tests.market_data.exchange import FakeExchange, at

DECIDES = at(10) + timedelta(seconds=4)


class Fixed(AnchoredClock):
    def now(self) -> datetime:
        return DECIDES


def decide(venue: FakeExchange, *configs: StrategyConfig) -> list[Outcome]:
    """What came of each; candles, books and accounts are those of `venue`, and hints go nowhere."""
    exchange: Any = venue
    return evaluate_group(
        make_market(provider="nobitex"),
        Resolution.M1,
        [config.pk for config in configs],
        data_provider=exchange,
        book_provider=lambda name: exchange,
        account_provider=lambda account: exchange,
        clock=Fixed(),
        on_planned=lambda account: None,
    )
