"""An exchange that does not answer is left alone, except by what ends risk."""

from __future__ import annotations

import pytest

from providers.breaker import CircuitBreaker
from providers.budgets import InProcessBudget, Limit, Priority, budget_priority
from providers.clock import HostTime
from providers.errors import CircuitOpen, OutcomeUnknown, Unavailable
from providers.http import Endpoint, HttpSession
from tests.providers.conftest import Reply, ScriptedExchange, closed_port


class FakeTime:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time_() -> FakeTime:
    return FakeTime()


@pytest.fixture
def breaker(time_: FakeTime) -> CircuitBreaker:
    return CircuitBreaker("wallex", pause=5.0, probe=3.0, monotonic=time_.monotonic)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.failed()


def may(
    breaker: CircuitBreaker, priority: Priority = Priority.NORMAL, *, is_read: bool = True, caller: object = None
) -> bool:
    try:
        breaker.admit(priority, is_read=is_read, caller=caller)
    except CircuitOpen:
        return False
    return True


def test_four_failures_in_a_row_are_forgiven_the_fifth_opens_it(breaker):
    fail(breaker, 4)
    assert may(breaker)
    fail(breaker, 1)
    assert not may(breaker)


def test_a_success_between_failures_starts_the_count_again(breaker):
    fail(breaker, 4)
    breaker.succeeded()
    fail(breaker, 4)
    assert may(breaker)


def test_half_of_ten_calls_within_half_a_minute_open_it(breaker, time_):
    for _ in range(5):
        breaker.succeeded()
        breaker.failed()
        time_.now += 1
    assert not may(breaker)


def test_failures_of_more_than_half_a_minute_ago_do_not_count(breaker, time_):
    for _ in range(4):
        breaker.failed()
        breaker.succeeded()
    time_.now = 31
    breaker.succeeded()
    breaker.failed()
    assert may(breaker)


def test_it_knows_how_long_ago_the_exchange_answered(breaker, time_):
    assert breaker.answered_seconds_ago() is None
    breaker.succeeded()
    time_.now = 7.0
    breaker.failed()
    assert breaker.answered_seconds_ago() == 7.0


def test_open_it_refuses_before_anything_is_sent_and_says_when_to_come_back(breaker, time_):
    fail(breaker, 5)
    time_.now = 1.0
    with pytest.raises(CircuitOpen, match="nothing was sent") as caught:
        breaker.admit(Priority.NORMAL, is_read=True)
    assert caught.value.retry_after == 4.0


def test_an_exit_waits_for_the_probe_interval_and_no_longer_however_many_there_are(breaker, time_):
    fail(breaker, 5)
    time_.now = 2.9
    assert not may(breaker, Priority.EXITS, is_read=False)
    time_.now = 3.0
    assert all(may(breaker, Priority.EXITS, is_read=False) for _ in range(20))


def test_an_exit_is_not_held_back_by_the_failures_of_others_however_they_follow_each_other(breaker, time_):
    """One account whose orders cannot be read fails again and again; the exits of another one pass."""
    fail(breaker, 4)
    breaker.failed("one")
    for _ in range(20):
        time_.now += 3.0
        assert may(breaker, Priority.EXITS, caller="one")
        breaker.failed("one")
        assert not may(breaker, Priority.EXITS, caller="one")
        assert may(breaker, Priority.EXITS, is_read=False, caller="two")


def test_after_the_pause_one_read_at_a_time_may_try_and_no_entry(breaker, time_):
    fail(breaker, 5)
    time_.now = 5.0
    assert not may(breaker, is_read=False)
    assert may(breaker)
    assert not may(breaker)
    breaker.failed()  # the try
    time_.now = 9.9
    assert not may(breaker)
    time_.now = 10.0
    assert may(breaker)


def test_a_try_that_never_came_back_does_not_keep_the_others_away_for_ever(breaker, time_):
    fail(breaker, 5)
    time_.now = 5.0
    assert may(breaker)
    time_.now = 10.0
    assert may(breaker)


def test_any_success_closes_it_and_forgets_the_past(breaker):
    fail(breaker, 5)
    breaker.succeeded()
    assert not breaker.is_open
    fail(breaker, 4)
    assert may(breaker, is_read=False)


@pytest.mark.parametrize("priority", Priority)
@pytest.mark.parametrize("is_read", [True, False])
def test_it_says_beforehand_whether_it_would_admit_and_takes_no_turn_by_saying_so(breaker, time_, priority, is_read):
    fail(breaker, 4)
    breaker.failed("me")
    said = []
    for tenth in range(120):
        time_.now = tenth / 10
        said.append(breaker.would_admit(priority, is_read=is_read, caller="me"))
        assert breaker.would_admit(priority, is_read=is_read, caller="me") == said[-1]
        assert said[-1] == may(breaker, priority, is_read=is_read, caller="me")
    assert set(said) == ({False} if priority is not Priority.EXITS and not is_read else {True, False})


# --- around real requests -------------------------------------------------------------------------------------------

READ = Endpoint("read", "GET", "/read")
WRITE = Endpoint("write", "POST", "/write", write=True)


def session(url: str, breaker: CircuitBreaker) -> HttpSession:
    budget = InProcessBudget({"default": Limit(10_000, 1.0)})
    host = HostTime(sleep=lambda seconds: None)
    return HttpSession("wallex", url, auth=None, budget=budget, breaker=breaker, host=host)


def test_an_address_where_nobody_listens_is_asked_five_times_and_then_left_alone(breaker):
    http = session(f"http://127.0.0.1:{closed_port()}", breaker)
    with pytest.raises(Unavailable):
        http.call(READ, lambda answer: answer)  # three attempts
    with pytest.raises(CircuitOpen):
        http.call(READ, lambda answer: answer)  # two, and no third


def test_an_entry_is_refused_where_an_exit_passes(breaker, time_):
    http = session(f"http://127.0.0.1:{closed_port()}", breaker)
    fail(breaker, 5)
    time_.now = 3.0
    with pytest.raises(CircuitOpen):
        http.call(WRITE, lambda answer: answer)
    with budget_priority(Priority.EXITS), pytest.raises(Unavailable, match="could not connect"):
        http.call(WRITE, lambda answer: answer)


def test_an_order_that_cannot_be_read_does_not_delay_the_exit_beside_it(breaker, time_):
    """The deal goes on without the unreadable order: its exit is the next call of the same pass."""
    exchange = ScriptedExchange()
    try:
        exchange.answer = lambda request: Reply({}, 500) if request.path.endswith("/read") else Reply({"ok": 1})
        http = session(exchange.url, breaker)
        fail(breaker, 5)
        with budget_priority(Priority.EXITS):
            with pytest.raises(Unavailable):
                http.call(READ, lambda answer: answer)
            assert breaker.is_open
            assert http.call(WRITE, lambda answer: answer).payload == {"ok": 1}
    finally:
        exchange.stop()


def test_who_only_calls_when_a_call_is_ready_finds_out_that_the_exchange_is_back(breaker, time_):
    """As the guardian reads what rests: never a call that would have to wait."""
    exchange = ScriptedExchange()
    try:
        http = session(exchange.url, breaker)
        fail(breaker, 5)
        assert not http.ready(READ)
        time_.now = 5.0
        assert http.ready(READ)
        http.call(READ, lambda answer: answer)
        assert not breaker.is_open
        assert http.ready(READ)
    finally:
        exchange.stop()


def test_refusals_of_the_exchange_are_answers(breaker):
    exchange = ScriptedExchange()
    try:
        http = session(exchange.url, breaker)
        for _ in range(6):
            exchange.replies(Reply({"success": False}, 422))
            http.call(WRITE, lambda answer: answer)
        assert not breaker.is_open
        for _ in range(5):
            exchange.replies(Reply({}, 502))
            with pytest.raises(OutcomeUnknown):
                http.call(WRITE, lambda answer: answer)
        assert breaker.is_open
    finally:
        exchange.stop()
