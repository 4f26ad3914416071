"""What the live benchmark says of its rounds. Nothing here is timed."""

from __future__ import annotations

import pytest

from benchmarks.live.measure import Figure, Options, latency, quantile

FLOORS = {"celery": 0.004, "insert": 0.001, "http": 0.002}


def test_a_figure_is_the_median_of_its_rounds():
    assert Figure("a", "", "s", (5.0, 1.0, 3.0, 90.0, 2.0)).value == 3.0


@pytest.mark.parametrize(
    ("value", "target", "at_least", "holds"),
    [(5.0, 5.0, False, True), (5.1, 5.0, False, False), (5.0, 5.0, True, True), (4.9, 5.0, True, False)],
)
def test_a_target_is_met_on_its_own_side(value, target, at_least, holds):
    assert Figure("a", "", "s", (value,), target=target, at_least=at_least).holds is holds


def test_without_a_target_nothing_is_missed():
    assert Figure("a", "", "s", (1e9,)).holds


def test_seconds_and_rates_are_told_in_bare_steps_of_which_more_is_worse():
    assert Figure("a", "", "s", (0.02,), floor="celery").ratio(FLOORS) == pytest.approx(5)
    assert Figure("a", "", "1/s", (200.0,), floor="insert").ratio(FLOORS) == pytest.approx(5)  # 5 ms each


@pytest.mark.parametrize(("unit", "floor", "value"), [("s", "", 1.0), ("count", "insert", 1.0), ("1/s", "insert", 0.0)])
def test_what_has_no_floor_or_is_no_time_has_no_ratio(unit, floor, value):
    assert Figure("a", "", unit, (value,), floor=floor).ratio(FLOORS) is None


def test_a_quantile_is_a_value_that_was_measured():
    hundred = [float(n) for n in range(1, 101)]
    assert (quantile(hundred, 0.5), quantile(hundred, 0.99), quantile(hundred, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="nothing was measured"):
        quantile([], 0.5)


def test_waits_are_told_by_round_and_the_longest_of_all_is_not_lost():
    rounds = [[1.0, 2.0, 3.0], [1.0, 2.0, 9.0], [1.0, 2.0, 4.0]]
    figure = latency("a", "", rounds, target=5.0, floor="http")
    assert (figure.rounds, figure.p50, figure.p99, figure.value) == ((3.0, 9.0, 4.0), 2.0, 4.0, 4.0)
    assert (figure.holds, figure.detail) == (True, {"samples": 9, "longest": 9.0})


def test_a_quick_run_is_smaller_and_has_fewer_rounds():
    assert (Options().rounds, Options().size(1000, 10)) == (5, 1000)
    assert (Options(quick=True).rounds, Options(quick=True).size(1000, 10)) == (2, 10)
