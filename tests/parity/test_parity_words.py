"""How a comparison of live and backtest is told."""

from __future__ import annotations

import pytest

from algo.backtest.parity_values import digits
from algo.backtest.parity_words import difference_rows, figure_rows, verdict


def differs(at: str, engine: str = "BUY", cause: str = "not_decided", **fields: object) -> dict[str, object]:
    said = {"kind": "signal", "cause": cause, "text": "no worker", "live": "nothing", "deal": None}
    return {**said, "at": f"2026-11-27T{at}:00+00:00", "engine": engine, **fields}


def test_signals_in_a_row_that_differ_for_one_reason_are_one_row():
    rows = difference_rows(
        [differs("10:00"), differs("10:01", "SELL"), differs("10:05"), differs("10:06", cause="late")]
    )
    assert rows == [
        ("10:00:00 to 10:05:00", "3 × signal", "", "nothing", "BUY, SELL", "not decided: no worker"),
        ("10:06:00", "signal", "", "nothing", "BUY", "late: no worker"),
    ]


def test_two_in_a_row_and_those_of_deals_are_listed_each():
    assert len(difference_rows([differs("10:00"), differs("10:01")])) == 2
    of_a_deal = [differs(f"10:0{n}", kind="fees", deal=7) for n in range(4)]
    assert [row[:3] for row in difference_rows(of_a_deal)] == [(f"10:0{n}:00", "fees", "7") for n in range(4)]


@pytest.mark.parametrize(
    ("count", "unexplained", "listed", "sentence"),
    [
        (0, 0, 0, "Live did what the engine does."),
        (1, 0, 1, "1 difference, with a known reason."),
        (2, 0, 2, "2 differences, each with a known reason."),
        (1200, 3, 500, "1,200 differences, 3 of them without a known reason. The first 500 are listed."),
    ],
)
def test_the_verdict_counts(count, unexplained, listed, sentence):
    assert verdict({"differences": count, "unexplained": unexplained}, listed) == sentence


def test_profits_are_told_in_the_digits_of_their_quote():
    sides = {f"{what}_{of}": 2 for what in ("signals", "deals") for of in ("live", "engine", "compared", "equal")}
    profits = {
        f"{what}_{of}": "-1990372.55074047" for what in ("profit", "profit_same_deals") for of in ("live", "engine")
    }
    summary = {**sides, **profits, "slippage_percent": 0.1234, "decided": 9, "candles": 1440, "quote": "IRT"}
    rows = figure_rows(summary)
    assert rows[2] == ("Profit (IRT)", "-1,990,373", "-1,990,373", "", "")
    assert rows[4][1] == "+0.123 %"
    assert rows[5][1] == "9 of 1,440"


def test_numbers_are_plain_digits():
    assert [digits(each) for each in (448049000.0, 102374.23, 0.034188, 0.0, 100.0)] == [
        "448,049,000",
        "102,374.23",
        "0.034188",
        "0",
        "100",
    ]
