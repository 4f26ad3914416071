"""What is decided about a deal that has more, or looks otherwise, than it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from algo.execution.decide import Ask, Cancel, NoteCrossed, next_action
from providers.types import OrderStatus
from tests.execution import views
from tests.execution.views import BUDGETS, FREELY, NOW, ago, deal, entry, pair, quote, stop, target

S = OrderStatus


def action(pictured, price="100"):
    return next_action(pictured, quote(price), FREELY, NOW, BUDGETS)


@pytest.mark.parametrize("mode", [2, 3])
def test_of_two_stops_that_rest_the_older_one_is_taken_down(mode):
    """One that was lost, and turned up again after another had taken its place: both would sell."""
    old, new = stop(id=10), stop(id=11, created_at=ago(5))
    found = action(deal(entry(), old, new, mode=mode))
    assert isinstance(found, Cancel)
    assert found.order.id == 10


def test_of_two_targets_that_rest_the_older_one_is_taken_down():
    old, new = target(id=20), target(id=21, created_at=ago(5))
    found = action(deal(entry(), stop(), old, new, mode=2))
    assert isinstance(found, Cancel)
    assert found.order.id == 20


def test_a_pair_that_turns_up_beside_the_stop_that_took_its_place_is_taken_down():
    found = action(deal(entry(), *pair(), stop(id=30, created_at=ago(5)), mode=1))
    assert isinstance(found, Cancel)
    assert found.order.id == 10


def test_a_stop_that_is_being_taken_down_is_not_what_remains():
    old, new = stop(id=10), stop(S.CANCELING, id=11, created_at=ago(5))
    found = action(deal(entry(), old, new, mode=3))
    assert not isinstance(found, Cancel)


def test_a_crossing_stamped_by_a_clock_that_was_wrong_is_not_asked_about_without_end():
    """Each answer would be older than the crossing, for an hour, at every step."""
    ahead = NOW + timedelta(hours=1)
    once = deal(entry(), stop(checked_at=ago(1.5)), mode=3, crossed_at=ahead)
    assert isinstance(action(once), Ask)
    again = replace(once, orders=(views.entry(), stop(checked_at=NOW)))
    assert action(again) == NoteCrossed(False)
