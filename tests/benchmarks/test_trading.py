"""What the measurements of reaction and protection make of what the exchange says."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from benchmarks.live import trading
from benchmarks.live.protection import ENTRIES, LATE, late_by


def request(cid: str | None, status: int | None, second: int, ms: float, method: str = "POST") -> dict[str, Any]:
    arrived = datetime(2026, 11, 2, 10, 0, second, tzinfo=UTC).isoformat()
    return {
        "method": method,
        "client_order_id": cid,
        "status": status,
        "arrived_at": arrived,
        "duration_ms": ms,
    }


def at(second: int, millisecond: int) -> datetime:
    return datetime(2026, 11, 2, 10, 0, second, 1000 * millisecond, tzinfo=UTC)


def test_an_order_is_accepted_when_its_answer_was_complete_and_never_by_a_refused_or_a_second_request():
    log = [
        request("A", 429, 1, 5),
        request("A", 201, 2, 250),
        request("A", 200, 9, 5),
        request("B", None, 3, 5),
        request(None, 200, 4, 5),
        request("C", 200, 5, 5, method="DELETE"),
    ]
    platform: Any = SimpleNamespace(requests_since=lambda number: log)
    assert trading.answered(platform) == {"A": at(2, 250)}


def test_the_stop_of_an_oco_was_accepted_with_the_request_that_named_its_target():
    target: Any = SimpleNamespace(client_order_id="T", pair=None, accepted_at=at(1, 0))
    stop: Any = SimpleNamespace(client_order_id="S", pair=target, accepted_at=at(1, 0))
    untaken: Any = SimpleNamespace(client_order_id="T", pair=None, accepted_at=None)
    assert trading.accepted(stop, {"T": at(1, 3)}) == at(1, 3)
    assert trading.accepted(untaken, {"T": at(1, 3)}) is None


def test_the_target_holds_for_the_middle_round_and_for_all_waits_together():
    rounds = [[0.1, 0.2], [0.1, 0.4], [0.1, 0.9]]
    by_round, together = trading.figures("x", "a wait", rounds, target=0.5, floor="http", detail={})
    assert (by_round.value, by_round.holds) == (0.4, True)
    assert (together.value, together.holds) == (0.9, False)


def test_fills_come_late_by_times_that_are_spread_evenly():
    late = sorted(late_by(number) for number in range(1, ENTRIES, 2))
    assert LATE[0] <= late[0] < 0.2
    assert 0.8 < late[-1] <= LATE[1]
    assert max(after - before for before, after in pairwise(late)) < 0.2
