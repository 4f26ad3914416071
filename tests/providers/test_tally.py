"""What a process counts: sums that several threads add to, taken away whole."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

import pytest

from providers.budgets import InProcessBudget, Limit, Priority
from providers.errors import ProviderError
from providers.http import Endpoint
from providers.tally import TALLY, Tally, series
from tests.providers.conftest import Reply, closed_port
from tests.providers.test_http import HTML, PRIVATE_READ, READ, WRITE, payload_of, session


def test_sums_are_kept_by_name_and_labels_in_any_order():
    tally = Tally()
    tally.add("calls", outcome="ok", exchange="wallex")
    tally.add("calls", 2, exchange="wallex", outcome="ok")
    tally.add("calls", exchange="nobitex", outcome="ok")
    assert tally.take() == {
        series("calls", {"exchange": "wallex", "outcome": "ok"}): 3.0,
        series("calls", {"exchange": "nobitex", "outcome": "ok"}): 1.0,
    }
    assert tally.take() == {}


@pytest.mark.parametrize(("seconds", "bucket"), [(0.1, "0.5"), (0.5, "0.5"), (0.51, "2"), (2.1, "+Inf")])
def test_an_observation_falls_into_the_first_bucket_that_is_not_below_it(seconds, bucket):
    tally = Tally()
    tally.observe("took", seconds, (0.5, 2.0), task="x")
    assert tally.take() == {
        series("took:bucket", {"task": "x", "le": bucket}): 1.0,
        series("took:sum", {"task": "x"}): seconds,
    }


def test_what_could_not_be_told_is_added_to_what_came_meanwhile():
    tally = Tally()
    tally.add("calls", 3)
    taken = tally.take()
    tally.add("calls")
    tally.put_back(taken)
    assert tally.take() == {series("calls", {}): 4.0}


def test_nothing_is_lost_between_threads():
    tally = Tally()
    threads = [threading.Thread(target=lambda: [tally.add("calls") for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    taken = 0.0
    while any(thread.is_alive() for thread in threads):
        taken += sum(tally.take().values())
    for thread in threads:
        thread.join()
    assert taken + sum(tally.take().values()) == 8000


def test_a_forked_child_does_not_count_again_what_its_parent_counted():
    TALLY.add("of the parent")
    child = os.fork()
    if child == 0:
        os._exit(len(TALLY.take()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert series("of the parent", {}) in TALLY.take()


@pytest.mark.parametrize(
    ("endpoint", "reply", "counted"),
    [
        (READ, Reply({"a": 1}), {"ok": 1}),
        (READ, Reply({"error": "slow down"}, 429, headers={"Retry-After": "1"}), {"rate_limited": 1}),
        (PRIVATE_READ, Reply({"error": "who are you"}, 401), {"auth_failed": 1}),
        (WRITE, HTML, {"outcome_unknown": 1}),
        (READ, HTML, {"unavailable": 3}),  # a read is tried three times
    ],
)
def test_every_request_is_counted_by_what_came_of_it(exchange, endpoint: Endpoint, reply, counted):
    TALLY.take()
    exchange.replies(reply)
    with suppress(ProviderError):
        session(exchange.url).call(endpoint, payload_of, body={"quantity": "1"} if endpoint.write else None)
    told = TALLY.take()
    calls = {dict(labels)["outcome"]: n for (name, labels), n in told.items() if name == "algo_exchange_calls"}
    assert calls == counted
    assert {dict(labels)["endpoint"] for (name, labels) in told if name == "algo_exchange_calls"} == {endpoint.name}
    waited = sum(n for (name, _), n in told.items() if name == "algo_exchange_call_seconds:bucket")
    assert waited == sum(counted.values())


def test_a_call_that_was_never_sent_took_no_time_of_the_exchange():
    TALLY.take()
    budget = InProcessBudget({"default": Limit(1, 600.0)}, normal_wait=0.0)
    http = session(f"http://127.0.0.1:{closed_port()}", budget=budget)
    for _ in range(2):
        with pytest.raises(ProviderError):
            http.call(WRITE, payload_of, body={})
    told = TALLY.take()
    calls = {dict(labels)["outcome"]: n for (name, labels), n in told.items() if name == "algo_exchange_calls"}
    assert calls == {"unavailable": 1, "rate_limited": 1}
    assert sum(n for (name, _), n in told.items() if name == "algo_exchange_call_seconds:bucket") == 1


def test_a_budget_says_what_is_left_of_it():
    now = [0.0]
    budget = InProcessBudget({"add": Limit(30, 60.0)}, monotonic=lambda: now[0])
    assert budget.left() == {}  # nobody has used it
    budget.acquire("add", Priority.EXITS, 4)
    assert budget.left() == {"add": pytest.approx(0.6)}  # 10 at once, 4 taken
    now[0] = 3.0  # 20 in a minute come back: one in 3 s
    assert budget.left() == {"add": pytest.approx(0.7)}
    budget.refused("add", 5.0)
    assert budget.left() == {"add": 0.0}
