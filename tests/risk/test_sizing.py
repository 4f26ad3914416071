"""How much: fractions, walks through a book, and costs."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.risk import position_fraction, round_trip_fee_percent, target_pays_fees
from algo.risk.sizing import held_after_fees, quantity_for_quote, walk_book
from providers.types import BookLevel, Side
from tests.risk.worlds import D, levels, parameters_of, rules_of

BOOK = levels(("100", "1"), ("101", "2"), ("105", "1"))
BOOKS = st.lists(
    st.tuples(st.integers(1, 100), st.decimals(Decimal("0.01"), Decimal(50), places=2)), min_size=1, max_size=8
).map(lambda rows: [BookLevel(D(price), quantity) for price, quantity in sorted(rows)])


@pytest.mark.parametrize(
    ("confidence", "percent", "everybody", "fraction"),
    [("0.8", "50", "50", "0.4"), ("1", "50", "50", "0.5"), ("1", "80", "50", "0.5"), ("0.5", "80", "50", "0.4")],
)
def test_the_fraction_is_the_smallest_of_three(confidence, percent, everybody, fraction):
    assert position_fraction(D(confidence), D(percent), D(everybody)) == D(fraction)


@pytest.mark.parametrize(
    ("quantity", "average", "worst", "found"),
    [
        ("1", "100", "100", "1"),
        ("2", "100.5", "101", "2"),
        ("4", "101.75", "105", "4"),  # (100 + 202 + 105) / 4
        ("5", "102.4", "105", "4"),  # the missing one at the last price: (407 + 105) / 5
        ("0", "100", "100", "0"),
    ],
)
def test_walking_a_book(quantity, average, worst, found):
    walk = walk_book(BOOK, D(quantity))
    assert (walk.average_price, walk.worst_price, walk.found) == (D(average), D(worst), D(found))


@pytest.mark.parametrize(
    ("budget", "quantity"), [("50", "0.5"), ("100", "1"), ("201", "2"), ("302", "3"), ("512", "5")]
)
def test_what_a_budget_buys(budget, quantity):
    assert quantity_for_quote(BOOK, D(budget)) == D(quantity)


@given(BOOKS, st.decimals(Decimal("0.01"), Decimal(10_000), places=2))
def test_a_budget_buys_what_it_costs(book, budget):
    quantity = quantity_for_quote(book, budget)
    assert abs(walk_book(book, quantity).average_price * quantity - budget) < D("1E-18")


def test_a_buy_keeps_what_the_fee_leaves_and_a_sell_buys_back_all():
    rules = rules_of(step_size=D("0.001"))
    assert held_after_fees(Side.BUY, D("1"), rules) == D("0.997")
    assert held_after_fees(Side.BUY, D("0.1"), rules) == D("0.099")
    assert held_after_fees(Side.SELL, D("0.1"), rules) == D("0.1")


def test_what_entry_and_exit_cost():
    # 1 / 0.997^2 = 1.0060271..
    assert round_trip_fee_percent(rules_of()) == D("0.6028")
    assert round_trip_fee_percent(rules_of(taker_fee_rate=D(0))) == 0


@pytest.mark.parametrize(("target", "warned"), [("0.6", True), ("0.6028", True), ("0.6029", False)])
def test_a_target_that_does_not_pay_is_warned_about(target, warned):
    text = target_pays_fees(parameters_of(take_profit_percent=target), rules_of())
    assert (text is not None) is warned
    assert text is None or ("BTCUSDT" in text and target in text)


@given(st.decimals(Decimal(0), Decimal("0.02"), places=4), st.decimals(Decimal("0.01"), Decimal(5), places=2))
def test_a_target_that_is_not_warned_about_earns_something(fee, target):
    rules, parameters = rules_of(taker_fee_rate=fee), parameters_of(take_profit_percent=target)
    kept = (1 - fee) ** 2 * (1 + target / 100)
    assert (target_pays_fees(parameters, rules) is None) <= (kept > 1)
