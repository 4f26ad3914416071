"""The kernel against expectations from outside: freqtrade's own, and the gap-aware ones beside them."""

from __future__ import annotations

import json

import pytest

from tests import oracle


@pytest.fixture(scope="module")
def cases(shared):
    return json.loads((shared / "oracle" / "backtest_cases.json").read_text())["cases"]


def test_every_case_equals_freqtrade(cases):
    assert len(cases) == 200
    assert oracle.mismatches(cases, gap_at_open=False) == []


def test_gaps_fill_at_the_open_where_that_matters(cases):
    assert sum("expected_gap_aware" in case for case in cases) == 11
    assert oracle.mismatches(cases, gap_at_open=True) == []


def test_a_wrong_expectation_is_found(cases):
    case = json.loads(json.dumps(next(case for case in cases if case["expected"])))
    case["expected"][0]["close_rate"] += 0.01
    assert len(oracle.mismatches([case], gap_at_open=False)) == 1


@pytest.mark.parametrize("model", ["freqtrade", "conservative"])
def test_the_command_says_how_many_differ(shared, capsys, model):
    assert oracle.main([str(shared / "oracle" / "backtest_cases.json"), "--fill-model", model]) == 0
    assert capsys.readouterr().out.startswith("0 of ")
