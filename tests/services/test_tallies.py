"""What processes count is added up in the database, once, and never at the cost of their work."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from algo.models import TalliedSum
from algo.services.tallies import TELL_SECONDS, Teller
from providers.tally import Tally


@pytest.fixture
def stored():
    def read() -> dict[tuple[str, str], float]:
        return {(row.name, row.labels): row.value for row in TalliedSum.objects.all()}

    return read


@pytest.mark.django_db(transaction=True)
def test_two_processes_add_to_the_same_sum_and_other_kinds_have_their_own(stored):
    for process, calls in (("worker", 3), ("worker", 4), ("guardian", 1)):
        tally = Tally()
        tally.add("calls", calls, exchange="wallex")
        Teller(process, tally).tell()
    assert stored() == {
        ("calls", '{"exchange": "wallex", "process": "worker"}'): 7.0,
        ("calls", '{"exchange": "wallex", "process": "guardian"}'): 1.0,
    }


@pytest.mark.django_db(transaction=True)
def test_what_was_told_is_not_told_again(stored):
    tally = Tally()
    tally.add("calls")
    teller = Teller("web", tally)
    teller.tell()
    teller.tell()
    assert list(stored().values()) == [1.0]


@pytest.mark.django_db(transaction=True)
def test_it_is_told_at_most_every_ten_seconds(stored, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("algo.services.tallies.time.monotonic", lambda: now[0])
    tally = Tally()
    teller = Teller("web", tally)
    for at in (100.0, 100.0 + TELL_SECONDS - 0.1, 100.0 + TELL_SECONDS):
        now[0] = at
        tally.add("calls")
        teller.tell_if_due()
    assert list(stored().values()) == [3.0]
    now[0] += 1
    tally.add("calls")
    teller.tell_if_due()
    assert list(stored().values()) == [3.0]


@pytest.mark.django_db(transaction=True)
def test_a_database_that_refuses_costs_nothing_but_time(stored):
    tally = Tally()
    tally.add("calls", 2)
    teller = Teller("web", tally)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE algo_talliedsum RENAME TO elsewhere")
    try:
        teller.tell()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO algo_talliedsum")
    assert stored() == {}
    teller.tell()
    assert list(stored().values()) == [2.0]


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_waits_for_that_may_be_rolled_back(stored):
    tally = Tally()
    tally.add("calls")
    teller = Teller("web", tally)
    with transaction.atomic():
        teller.tell()
    assert stored() == {}
    teller.tell()
    assert list(stored().values()) == [1.0]
