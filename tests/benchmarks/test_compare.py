"""What counts as worse: by ratio, beyond a margin that the spread of runs gave. Nothing here is timed."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.compare import CannotCompare, Known, comparable, compare, known, main, margin, worse_by, written


def figure(ratio=None, unit="s", value=1.0, at_least=False, floor="insert"):
    return {"ratio": ratio, "unit": unit, "value": value, "at_least": at_least, "floor": floor}


def live(**more):
    return {"quick": False, "figures": more}


def test_ratios_and_counts_are_compared_and_seconds_are_not():
    result = live(one=figure(12.5), two=figure(None, "count", 50), three=figure(None, "s", 4), four=figure(None, "ms"))
    assert comparable(result) == {"one": (12.5, False), "two": (50.0, False)}


def test_of_a_run_beside_others_only_processor_time_and_counts_are_compared():
    rows = {"wall": figure(9.0), "processor": figure(8.0, floor="python"), "asked": figure(None, "count", 50)}
    assert set(comparable(live(**rows) | {"load": 0.9})) == {"wall", "processor", "asked"}
    assert set(comparable(live(**rows) | {"load": 1.1})) == {"processor", "asked"}


def test_of_backtests_all_but_plain_seconds_is_compared():
    row = {"value": 20.0, "at_least": True, "target": 5, "rounds": [20.0]}
    assert comparable({"vectorbt": row, "command_s": row}) == {"backtest.vectorbt": (20.0, True)}


@pytest.mark.parametrize("result", [{"quick": True, "figures": {}}, {}, {"x": 1}, {"x": {"value": 1}}])
def test_what_is_too_small_or_no_result_is_refused(result):
    with pytest.raises(CannotCompare):
        comparable(result)


@pytest.mark.parametrize(
    ("then", "more_is_better", "now", "share"),
    [
        (10.0, False, 12.0, 0.2),  # a fifth dearer
        (10.0, False, 5.0, -0.5),
        (12.0, True, 10.0, 0.2),  # 12 is a fifth more than 10
        (10.0, True, 20.0, -0.5),
        (0.0, False, 0.0, 0.0),
        (0.0, False, 1.0, math.inf),  # what never happened happens now
    ],
)
def test_worse_is_dearer_or_less_of_what_is_wanted(then, more_is_better, now, share):
    assert worse_by(Known(then, 0.1, more_is_better), now) == pytest.approx(share)


def test_the_margin_is_twice_the_farthest_run_from_the_median():
    assert margin([100.0, 110.0, 95.0]) == 0.20
    assert margin([100.0, 100.5, 99.0]) == 0.10  # never less
    assert margin([100.0, 103.0, 109.18]) == 0.12  # 6 % away, exactly
    assert margin([7.0]) == 0.25  # one run tells nothing of its spread
    assert margin([0.0, 0.0]) == 0.10


def test_a_figure_beyond_its_margin_is_worse_and_one_within_it_is_the_same():
    baseline = {"live.a": Known(10.0, 0.2, False), "live.b": Known(10.0, 0.2, False), "live.c": Known(10.0, 0.2, False)}
    result = live(**{"live.a": figure(12.1), "live.b": figure(11.9), "live.c": figure(7.0)})
    assert [(row.name, row.verdict) for row in compare(result, baseline)] == [
        ("live.a", "WORSE"), ("live.b", "the same"), ("live.c", "better"),
    ]  # fmt: skip


def test_new_figures_and_those_that_were_not_measured_are_told_and_nothing_more():
    baseline = {"decision.10": Known(1.0, 0.1, False), "reconcile.orders": Known(1.0, 0.1, False)}
    rows = compare(live(**{"decision.100": figure(3.0)}), baseline)
    assert [(row.name, row.verdict, row.is_worse) for row in rows] == [
        ("decision.10", "not measured", False), ("decision.100", "new", False),
    ]  # fmt: skip


def test_a_baseline_is_the_median_of_its_runs_and_keeps_what_they_do_not_have():
    runs = [live(**{"a": figure(ratio)}) | {"commit": "abc"} for ratio in (10.0, 12.0, 11.0)]
    before = {"figures": {"b": {"value": 1.0, "margin": 0.3, "more_is_better": True, "runs": 5}}}
    made = written(runs, before)
    assert known(made) == {"a": Known(11.0, 0.19, False), "b": Known(1.0, 0.3, True)}
    assert [run["commit"] for run in made["of"]] == ["abc"] * 3


def test_the_command_fails_only_on_what_is_worse(tmp_path, capsys):
    files = [tmp_path / f"{name}.json" for name in ("base", "good", "bad", "quick")]
    results = [live(a=figure(10.0)), live(a=figure(12.0)), live(a=figure(13.0)), live() | {"quick": True}]
    for path, result in zip(files[1:], results[1:], strict=True):
        path.write_text(json.dumps(result))
    first = tmp_path / "first.json"
    first.write_text(json.dumps(results[0]))
    base = ["--baseline", str(files[0])]
    assert main([*base, "--write", str(first)]) == 0
    assert [main([*base, str(path)]) for path in files[1:]] == [0, 1, 2]
    assert "Worse beyond noise: a" in capsys.readouterr().out
