"""A deal's story: everything that happened to it, in the order of time, in as many queries however long it lived."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from algo.models import Deal, DealEvent
from algo.selectors.story import bare_seconds_now, deal_story, held_time, risk_multiple
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def seconds(count: int):
    return NOW + timedelta(seconds=count)


def make_story() -> Deal:
    """Signal at 0, plan at 1, entry filled at 3, bare from 4 to 6, stop raised at 60, a denial at 90, closed at 1200.
    Another strategy's denial, and one after the end, are not of this story."""
    config = make.make_config()
    signal = make.make_signal(config, bar_open_at=seconds(-60), created_at=seconds(0))
    deal = make.make_closed_deal(
        config, signal=signal, bar_open_at=seconds(-60), created_at=seconds(1), closed_at=seconds(1200)
    )
    order = make.make_order(deal, status="FILLED", filled_quantity=Decimal("0.01"))
    make.make_order_event(order, at=seconds(2), from_status="SUBMITTED", to_status="FILLED")
    make.make_fill(order, executed_at=seconds(3))
    event(deal, "unprotected", 4)
    event(deal, "protected", 6, seconds="2")
    event(deal, "stop_moved", 60, before="49850", after="49900", best="50100")
    make.make_signal(config, created_at=seconds(90), denial_code="open_deal_exists", denial_message="One is open.")
    make.make_signal(config, created_at=seconds(1300), denial_code="cooldown")
    make.make_signal(created_at=seconds(100), denial_code="cooldown")
    return Deal.objects.select_related("market", "signal").get(pk=deal.pk)


def event(deal: Deal, kind: str, at: int, **detail: str) -> None:
    DealEvent.objects.create(deal=deal, at=seconds(at), kind=kind, from_status="OPEN", to_status="OPEN", detail=detail)


def test_story_is_told_in_the_order_of_time():
    lines = deal_story(make_story())
    assert [(line.kind, line.at) for line in lines] == [
        ("signal", seconds(0)),
        ("planned", seconds(1)),
        ("order", seconds(2)),
        ("fill", seconds(3)),
        ("unprotected", seconds(4)),
        ("protected", seconds(6)),
        ("stop_moved", seconds(60)),
        ("denial", seconds(90)),
        ("ended", seconds(1200)),
    ]


def test_lines_say_the_numbers():
    told = {line.kind: line for line in deal_story(make_story())}
    assert told["signal"].title == "Buy signal: breakout"
    assert told["signal"].details["rsi"] == "61.2"
    assert told["planned"].details == {"quantity": "0.01", "price": "50000", "stop": "49850", "target": "50300"}
    assert told["fill"].text == "0.01 at 50000 USDT"
    assert told["protected"].text == "after 2 s without a live stop or exit"
    assert told["stop_moved"].text == "49850 → 49900: by the trailing stop"
    assert told["denial"].title == "Buy signal denied: open_deal_exists"
    assert told["denial"].text == "One is open."
    assert told["ended"].text == "0.6 USDT after fees of 2.4"


def test_a_stop_moved_by_hand_says_who_and_why():
    deal = make.make_open_deal()
    event(deal, "stop_moved", 5, before="49850", after="49950", why="moved by sara: news", by="sara")
    assert deal_story(deal)[-1].text == "49850 → 49950: moved by sara: news"


def test_adopted_deal_begins_with_its_plan():
    deal = make.make_open_deal(note="adopted by sara")
    assert [(line.kind, line.text) for line in deal_story(deal)] == [("planned", "adopted by sara")]


def test_longer_lives_ask_no_more_queries(django_assert_num_queries):
    deal = make_story()
    for at in range(10, 40):
        event(deal, "stop_moved", at, before="1", after="2")
        make.make_fill(deal.orders.get(), quantity=Decimal("0.0001"), executed_at=seconds(at))
    with django_assert_num_queries(4):
        deal_story(deal)


def test_a_bare_deal_counts_its_seconds():
    assert bare_seconds_now(Deal(unprotected_since=NOW), seconds(7)) == 7.0
    assert bare_seconds_now(Deal(), seconds(7)) == 0.0


def test_profit_is_told_in_units_of_what_was_at_risk():
    """0.01 bought at 50,000 with a stop 150 below risks 1.5; a profit of 0.6 is 0.4 of it."""
    deal = make.make_closed_deal()
    assert risk_multiple(deal) == Decimal("0.40")
    assert held_time(deal, NOW) == timedelta(minutes=20)


def test_what_is_not_closed_has_no_multiple_and_is_held_until_now():
    assert risk_multiple(make.make_open_deal()) is None
    assert held_time(Deal(opened_at=NOW), seconds(65)) == timedelta(seconds=65)
    assert held_time(Deal(), NOW) is None
