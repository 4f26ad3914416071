"""Eight workers at full speed, judged by the exchange's own log: see tests/rate_limits.py."""

from __future__ import annotations

import pytest

from tests.rate_limits import busiest_window, prove


@pytest.mark.long
def test_eight_workers_stay_inside_every_documented_limit():
    report = prove(workers=8, seconds=40)
    assert report["within_every_limit"], report


def test_the_busiest_window_is_found_wherever_it_begins():
    assert busiest_window([0, 9, 10, 11, 30], 10) == 3
    assert busiest_window([], 10) == 0
