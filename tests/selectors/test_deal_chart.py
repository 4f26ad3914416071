"""The chart of a deal: candles around it, its fills, and where its stop stood when."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from xml.etree import ElementTree

import pytest
from django.template.loader import render_to_string

from algo.admin.deal_chart import chart_context
from algo.models import Candle, DealEvent
from algo.selectors.deal_chart import MOST_SHOWN, Step, deal_chart
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def candles(market, first, count):
    """Rising by 10 a minute, from 49,900 on."""
    Candle.objects.bulk_create(
        Candle(
            market=market, resolution="1", open_time=first + number * MINUTE, open=49_900 + 10 * number,
            high=49_915 + 10 * number, low=49_895 + 10 * number, close=49_910 + 10 * number, volume=1,
        )
        for number in range(count)
    )  # fmt: skip


@pytest.fixture
def deal(db):
    """Bought at 50,000, its stop raised from 49,850 to 49,950 after ten minutes, sold at 50,300 after twenty."""
    deal = make.make_closed_deal(created_at=NOW, config=make.make_config())
    make.make_fill(make.make_order(deal), executed_at=NOW)
    make.make_fill(make.make_order(deal, role="TARGET"), price=D(50300), executed_at=NOW + 20 * MINUTE)
    moved = {"before": "49850", "after": "49950", "best": "50100"}
    DealEvent.objects.create(deal=deal, at=NOW + 10 * MINUTE, kind="stop_moved", to_status="OPEN", detail=moved)
    return deal


def test_it_shows_what_is_around_the_deal(deal, django_assert_num_queries):
    candles(deal.config.data_market, NOW - 60 * MINUTE, 120)
    with django_assert_num_queries(3):
        chart = deal_chart(deal, NOW + timedelta(days=1))
    assert (chart.start, chart.end) == (NOW - 20 * MINUTE, NOW + 30 * MINUTE)
    assert len(chart.bars) == 50
    assert (chart.bars[0].at, chart.bars[0].open, chart.bars[0].close) == (NOW - 20 * MINUTE, 50_300, 50_310)
    assert chart.entries == (Step(NOW, D(50000)),)
    assert chart.exits == (Step(NOW + 20 * MINUTE, D(50300)),)
    assert chart.stops == (Step(NOW, D(49850)), Step(NOW + 10 * MINUTE, D(49950)))
    assert chart.target == D(50300)


def test_the_stop_and_target_of_an_open_deal_go_on(db):
    open_deal = make.make_open_deal(created_at=NOW)
    chart = deal_chart(open_deal, NOW + MINUTE)
    assert (chart.end, chart.stop_until) == (NOW + 11 * MINUTE, NOW + 11 * MINUTE)


def test_many_candles_are_put_together(deal):
    deal.closed_at = NOW + 500 * MINUTE
    candles(deal.config.data_market, NOW - 100 * MINUTE, 700)
    bars = deal_chart(deal, NOW + timedelta(days=1)).bars
    assert len(bars) <= MOST_SHOWN
    assert (bars[0].length, bars[0].open, bars[0].low, bars[0].high, bars[0].close) == (
        6 * MINUTE, 49_900, 49_895, 49_965, 49_960,
    )  # fmt: skip


def test_it_is_a_picture_with_words_for_who_does_not_see_it(deal):
    candles(deal.config.data_market, NOW - 60 * MINUTE, 120)
    drawn = chart_context(deal, NOW + timedelta(days=1))
    svg = ElementTree.fromstring(render_to_string("algo/admin/deal_chart.html", {"chart": drawn})).find("svg")
    words = svg.find("desc").text
    assert "Prices in USDT" in words
    assert "Entry: 50,000. Exit: 50,300. Stop: 49,850 → 49,950. Target: 50,300" in words
    assert (len(svg.findall("g")), len(svg.findall("polygon"))) == (50, 2)
    levels = [float(point.split(",")[1]) for point in svg.find("polyline").get("points").split()]
    assert levels[0] == levels[1] > levels[2] == levels[3]  # lower on the page is a lower price


def test_without_candles_the_deal_is_drawn_alone_and_without_fills_nothing_is(deal):
    drawn = chart_context(deal, NOW + timedelta(days=1))
    assert drawn["source"] == "No candles of BTCUSDT @ Nobitex from that time are stored."
    assert len(drawn["entries"]) == 1
    assert chart_context(make.make_deal(), NOW) is None
