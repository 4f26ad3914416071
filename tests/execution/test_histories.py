"""What the platform writes about orders and deals holds together, however they lived."""

from __future__ import annotations

import pytest

from algo.models import CloseReason, DealEvent, OrderEvent
from algo.selectors.audit import broken_histories
from tests.execution.bench import World, closed, opened


@pytest.mark.parametrize("provider", ["wallex", "nobitex"])
def test_the_histories_of_a_life_from_plan_to_end_hold_together(world: World, provider):
    trader = opened(world.trader(provider))
    assert broken_histories() == []
    trader.price("98.9")
    trader.wait(2)
    assert closed(trader, CloseReason.STOP_LOSS)
    assert broken_histories() == []
    assert OrderEvent.objects.count() >= 6
    assert DealEvent.objects.count() >= 3
