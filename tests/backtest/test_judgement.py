"""What is said of a result, and when; and what the report's charts are made of."""

from __future__ import annotations

import pytest

from algo.backtest.judgement import judged
from algo.backtest.optimise_report import heat_cells, weights
from algo.backtest.search import Objective, Trial
from algo.backtest.space import Dimension, Space


def figures(**change):
    return {"net_profit": 50.0, "net_profit_percent": 5.0, "sharpe": 2.0, "deals": 100, **change}


def evidence(**change):
    found = {
        "train": figures(),
        "test": figures(sharpe=1.5),
        "deflated": {"probability": 0.99, "shape": {"count": 60}},
        "bootstrap": {"p_value": 0.01, "best": 2.0, "worlds": [1.0] * 99, "sets": 50},
        "walk_forward": {"net_profit_percent": 3.0, "folds": [1, 2], "efficiency": 0.8},
        "border": [],
    }
    return {**found, **change}


def say(**change):
    return judged(evidence(**change), sets=200, min_deals=30)


def test_what_passes_everything_holds_and_says_the_numbers():
    found = say()
    assert (found.verdict, found.warnings) == ("holds", ())
    assert found.sentence == (
        "The best of 200 sets is more than luck explains: the probability of skill is 99.0 % after all trials; 0 of 99 "
        "shuffled markets reach the real one (p = 0.010); on unseen candles it earned 5.00 % in 100 deals. Try it on "
        "paper before any money."
    )


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ({"deflated": {"probability": 0.62, "shape": {"count": 60}}}, "luck", "the probability of any skill is 62.0 %"),
        ({"deflated": None}, "luck", "too few, or too much alike, for a Sharpe ratio"),
        (
            {"bootstrap": {"p_value": 0.31, "best": 2.0, "worlds": [3.0] * 30 + [1.0] * 69, "sets": 50}},
            "luck",
            "in 30 of 99 shuffled markets the best of 50 sets did as well",
        ),
        ({"bootstrap": None}, "doubtful", "no shuffled markets were searched, and a market that merely rises"),
        (
            # 10 worlds cannot tell: their least p is 1 / 11
            {"bootstrap": {"p_value": 1 / 11, "best": 2.0, "worlds": [1.0] * 10, "sets": 50}},
            "doubtful",
            "10 shuffled markets are too few to tell luck apart; take 19 at least",
        ),
        (
            {"bootstrap": {"p_value": 2 / 11, "best": 2.0, "worlds": [3.0] + [1.0] * 9, "sets": 50}},
            "luck",
            "in 1 of 10 shuffled markets the best of 50 sets did as well",
        ),
        ({"train": figures(net_profit=-1.0)}, "luck", "loses money on the very candles it was chosen on"),
        ({"test": figures(net_profit=-1.0)}, "doubtful", "it loses money on unseen candles"),
        ({"test": figures(sharpe=0.5)}, "doubtful", "its Sharpe ratio falls from 2.00 to 0.50"),
        ({"test": figures(deals=0)}, "doubtful", "it made no deal on unseen candles"),
        ({"test": None}, "doubtful", "no candles were kept unseen"),
        (
            {"walk_forward": {"net_profit_percent": -1.0, "folds": [1, 2], "efficiency": -0.2}},
            "doubtful",
            "in 2 steps would have lost money",
        ),
    ],
)
def test_each_reason_alone_is_enough_to_say_so(change, verdict, words):
    found = say(**change)
    assert found.verdict == verdict
    assert words in found.sentence
    assert "Do not trade it" in found.sentence


def test_few_days_are_said_whatever_the_verdict():
    few = "few days: 19 daily returns in training; below 20 a Sharpe ratio is a guess"
    assert say(deflated={"probability": 0.99, "shape": {"count": 19}}).warnings == (few,)
    assert say(deflated={"probability": 0.99, "shape": {"count": 20}}).warnings == ()


def test_nothing_is_judged_where_no_set_has_enough_deals():
    found = judged({"train": None}, sets=12, min_deals=30)
    assert (found.verdict, "None of the 12 sets made 30 deals" in found.sentence) == ("nothing", True)


def test_warnings_name_few_deals_a_much_worse_test_the_border_and_a_fragile_walk():
    walk = {"net_profit_percent": 3.0, "folds": [1], "efficiency": 0.2}
    text = " ".join(say(test=figures(sharpe=0.1, deals=12), border=["rsi_period"], walk_forward=walk).warnings)
    for words in ("much worse on unseen candles", "few deals: 12 in the test", "border of the space in rsi_period"):
        assert words in text
    assert "keeps 20.0 % of what training promised" in text


SPACE = Space((Dimension("a", (1, 2)), Dimension("b", (1, 2))))


def tried(goal):
    pairs = [(a, b) for a in (1, 2) for b in (1, 2)]
    return [Trial(i, {"a": a, "b": b}, figures(sharpe=goal(a, b))) for i, (a, b) in enumerate(pairs)]


def test_weight_is_the_share_of_the_spread_one_parameter_explains():
    # sharpe 3a + b: means over a 4.5 and 7.5, over b 5.5 and 6.5; squares 9 and 1 of 10
    found = weights(SPACE, tried(lambda a, b: 3.0 * a + b), Objective.SHARPE)
    assert list(found.items()) == [("a", pytest.approx(0.9)), ("b", pytest.approx(0.1))]
    assert weights(SPACE, tried(lambda a, b: 1.0), Objective.SHARPE) == {"a": 0.0, "b": 0.0}


def test_heat_cells_are_means_and_none_where_nothing_was_tried():
    trials = [*tried(lambda a, b: 3.0 * a + b)[:3], Trial(9, {"a": 1, "b": 1}, figures(sharpe=6.0))]
    assert heat_cells(SPACE, trials, Objective.SHARPE, ("a", "b")) == (
        ["1", "2"],
        ["1", "2"],
        [[5.0, 7.0], [5.0, None]],
    )
