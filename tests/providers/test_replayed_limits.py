"""A replay's exchange has minutes of its own: its limits are per minute of it, and so is what our clients do."""

from __future__ import annotations

import pytest

from algo import exchanges
from providers.budgets import InProcessBudget, Limit, limits_times
from providers.clock import calls_factor
from providers.paper.faces.common import Limit as PaperLimit
from providers.paper.faces.common import RateLimiter


@pytest.mark.parametrize(
    ("environ", "factor"), [({}, 1.0), ({"CLOCK_SPEED": "10"}, 1.0), ({"CLOCK_CALLS": "60"}, 60.0)]
)
def test_calls_are_those_of_the_documents_unless_a_replay_says_otherwise(environ, factor):
    assert calls_factor(environ) == factor


def test_fewer_calls_than_documented_are_never_asked_for():
    with pytest.raises(ValueError, match="CLOCK_CALLS"):
        calls_factor({"CLOCK_CALLS": "0.5"})


def test_every_limit_takes_more_calls_in_the_same_time():
    told = limits_times({"udf": Limit(120, 60.0, 0.75, for_guardian=False), "add": Limit(300, 600.0)}, 60)
    assert told == {"udf": Limit(7200, 60.0, 0.75, for_guardian=False), "add": Limit(18000, 600.0)}


def test_the_paper_exchange_counts_so_many_more_requests_and_says_so():
    limiter = RateLimiter(factor=60, monotonic=lambda: 7.0)
    verdicts = [limiter.hit(PaperLimit(2, 60.0), "somebody") for _ in range(121)]
    assert [each.allowed for each in verdicts] == [True] * 120 + [False]
    assert (verdicts[0].remaining, verdicts[0].count) == (119, 120)


def test_our_clients_spend_as_much(monkeypatch):
    limits = {}

    def budget(provider, url, told):
        limits.update(told)
        return InProcessBudget(told)

    monkeypatch.setattr(exchanges, "_clients", {})
    monkeypatch.setattr(exchanges, "_budgets", {})
    monkeypatch.setattr(exchanges, "_budget_of", budget)
    monkeypatch.setenv("CLOCK_CALLS", "60")
    exchanges.public_provider("nobitex")
    assert limits["orderbook"] == Limit(300 * 60, 60.0)
