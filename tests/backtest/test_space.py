"""What a search may try."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.backtest.space import Dimension, Space, SpaceRefused, longest_warmup, space_of, validated
from algo.strategies import BreakoutStrategy, BreakoutStrategySchema

SCHEMA = BreakoutStrategySchema


def values(text: str) -> tuple:
    return space_of(SCHEMA, [text]).dimensions[0].values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("breakout_period=10:13", (10, 11, 12, 13)),
        ("breakout_period=10:20:4", (10, 14, 18)),
        ("breakout_period=30,10,20", (10, 20, 30)),
        ("volume_threshold=1:1.3:0.1", (1.0, 1.1, 1.2, 1.3)),
        ("stop_loss_percent=0.3:0.5:0.1", ("0.3", "0.4", "0.5")),  # a Decimal travels as text
        ("need_historical_data=true,false", (True, False)),
        ("breakout_period=20", (20,)),
    ],
)
def test_words_become_values(text, expected):
    assert values(text) == expected


def test_a_range_of_fractions_without_a_step_is_cut_into_fifty():
    found = values("momentum_atr=0:1")
    assert (len(found), found[0], found[1], found[-1]) == (51, 0.0, 0.02, 1.0)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["breakout_period"], "is no NAME="),
        (["breakout=1:2"], "there is no parameter 'breakout'"),
        (["breakout_period=20:10"], "LOW below HIGH"),
        (["breakout_period=1:2:0"], "STEP above 0"),
        (["breakout_period=1:2:3:4"], "LOW:HIGH"),
        (["breakout_period=1:2.5"], "whole numbers"),
        (["breakout_period=1.5,2"], "whole numbers"),
        (["momentum_atr=a:b"], "'a' is no number"),
        (["momentum_atr=0:inf"], "'inf' is no number"),
        (["momentum_atr=0:1:0.0000001"], "larger STEP"),
        (["need_historical_data=0:1"], "name its values"),
        (["need_historical_data=maybe"], "true or false"),
        (["rsi_period=2:3", "rsi_period=4:5"], "more than once"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_a_sentence(texts, words):
    with pytest.raises(SpaceRefused, match=words):
        space_of(SCHEMA, texts)


def test_a_parameter_is_searched_or_given_not_both():
    with pytest.raises(SpaceRefused, match="--param"):
        space_of(SCHEMA, ["rsi_period=2:3"], fixed=["rsi_period"])


def test_without_words_the_strategys_own_numbers_are_searched_within_their_bounds():
    space = space_of(SCHEMA, [], fixed=["rsi_period"])
    names = {each.name for each in space.dimensions}
    assert {"breakout_period", "volume_threshold", "stop_loss_percent", "take_profit_percent"} <= names
    # sizes, books, which are off in a backtest, what was given, and the account's limits are left alone
    assert not names & {"breakout_confidence", "order_book_levels", "rsi_period", "max_daily_trades"}
    for each in space.dimensions:
        default = getattr(SCHEMA(), each.name)
        assert float(each.values[0]) < float(default) < float(each.values[-1])
        for value in (each.values[0], each.values[-1]):
            others = {"ema_fast_period": 2, "ema_slow_period": 100, each.name: value}
            assert validated(SCHEMA, {}, others if each.name != "ema_slow_period" else {each.name: value})


def test_the_overbought_bound_that_is_excluded_is_not_searched():
    (found,) = [each for each in space_of(SCHEMA, []).dimensions if each.name == "rsi_overbought"]
    assert (found.values[0], found.values[-1]) == (52.0, 100.0)  # above 50, at most 100, in steps of 2


def test_a_set_the_schema_refuses_is_none_and_a_valid_one_has_the_base_beneath_it():
    assert validated(SCHEMA, {}, {"ema_fast_period": 13, "ema_slow_period": 13}) is None
    found = validated(SCHEMA, {"rsi_period": 9}, {"stop_loss_percent": "0.5"})
    assert (found.rsi_period, found.stop_loss_percent) == (9, Decimal("0.5"))


def test_numbers_of_a_grid_count_like_an_odometer():
    space = space_of(SCHEMA, ["rsi_period=10,20", "breakout_period=1:3"])
    assert space.size == 6
    pairs = [(space.at(i)["rsi_period"], space.at(i)["breakout_period"]) for i in range(6)]
    assert pairs == [(10, 1), (10, 2), (10, 3), (20, 1), (20, 2), (20, 3)]


def test_a_grid_keeps_stated_values_and_thins_ranges():
    space = space_of(SCHEMA, ["rsi_period=10:30", "breakout_period=10:30:1"]).thinned(5)
    assert [each.values for each in space.dimensions] == [(10, 15, 20, 25, 30), tuple(range(10, 31))]


def test_blind_draws_are_different_sets_the_same_for_the_same_seed():
    space = space_of(SCHEMA, ["rsi_period=2:30", "breakout_period=2:30"])
    drawn = space.draw(100, 7)
    assert len({tuple(each.items()) for each in drawn}) == 100
    assert drawn == space.draw(100, 7) != space.draw(100, 8)
    assert len(space.draw(5000, 1)) == space.size


def test_the_border_is_told_for_ranges_only():
    space = space_of(SCHEMA, ["rsi_period=10:12", "breakout_period=10,20", "need_historical_data=true,false"])
    choice = {"rsi_period": 12, "breakout_period": 10, "need_historical_data": True}
    assert space.border(choice) == ["rsi_period"]
    assert space.border({**choice, "rsi_period": 11}) == []


def test_a_space_survives_being_kept_as_json():
    space = space_of(SCHEMA, ["rsi_period=10:12", "stop_loss_percent=0.1:0.3:0.1", "need_historical_data=true,false"])
    assert Space.from_json(space.as_json()) == space


def test_the_longest_warm_up_belongs_to_the_slowest_averages():
    space = space_of(SCHEMA, ["ema_slow_period=13:50", "rsi_period=5:14"])
    slowest = BreakoutStrategy({"ema_slow_period": 50, "rsi_period": 14}).warmup_bars
    assert longest_warmup(BreakoutStrategy, {}, space) == slowest


def test_a_space_of_which_nothing_is_valid_is_refused_with_the_schemas_reason():
    space = space_of(SCHEMA, ["ema_fast_period=50:60", "ema_slow_period=10:20"])
    with pytest.raises(SpaceRefused, match="must be smaller than ema_slow_period"):
        longest_warmup(BreakoutStrategy, {}, space)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_every_number_is_another_set(lengths, data):
    space = Space(tuple(Dimension(f"p{i}", tuple(range(length))) for i, length in enumerate(lengths)))
    numbers = data.draw(st.lists(st.integers(0, space.size - 1), unique=True, max_size=20))
    assert len({tuple(space.at(number).values()) for number in numbers}) == len(numbers)
