"""The first refusal of a key is the last call with it, however many workers there are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from algo.execution.advance import Advanced, advance, look_after
from algo.execution.entries import _ask_account, _key_is_dead
from algo.models import Account, AccountState, OutboxEvent
from providers.errors import AuthFailed
from tests.execution.bench import Trader, World, opened

PROVIDERS = pytest.mark.parametrize("provider", ["wallex", "nobitex"])
WORKERS, ROUNDS = 4, 12


@pytest.fixture
def shared_world(exchange: World, transactional_db: Any) -> Iterator[World]:
    """The exchange for workers with connections of their own."""
    exchange.feed.depth = Decimal(100)
    exchange.clock.step(60)
    for pair in exchange.feed.specs:
        exchange.feed.set(pair, Decimal(100))
    yield exchange
    exchange.control("DELETE", "/faults")


def revoke(trader: Trader) -> None:
    """From here on the exchange refuses the key in every call."""
    trader.world.control("POST", "/faults", json={"kind": "key_revoked", "account": trader.name})
    trader.world.control("DELETE", "/requests")


def refusals(trader: Trader) -> int:
    found = trader.world.control("GET", f"/requests?account={trader.name}&limit=1000")["requests"]
    return [entry["status"] for entry in found].count(401)


def looks_after(trader: Trader) -> None:
    """What the guardian, the sweep and the hint do."""
    advance(Account.objects.get(pk=trader.account.pk), trader.client, trader.world.clock, reconcile_now=True)


def decides_an_entry(trader: Trader) -> None:
    """What a strategy does with the key before an entry."""
    account, clock = Account.objects.get(pk=trader.account.pk), trader.world.clock
    if not _key_is_dead(account, clock.now()):
        _ask_account(account, lambda _: trader.client, clock)


def at_once(trader: Trader, *works: Callable[[Trader], None]) -> None:
    """Every work in a worker of its own, over and over."""
    gate, errors = threading.Barrier(len(works)), []

    def worker(work: Callable[[Trader], None]) -> None:
        try:
            gate.wait(10)
            for _ in range(ROUNDS):
                work(trader)
        except BaseException as exc:  # noqa: BLE001 - told to the test, whatever it is
            errors.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=worker, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def stopped(trader: Trader) -> bool:
    account = Account.objects.get(pk=trader.account.pk)
    assert account.state == AccountState.STOPPED
    assert "refused the key" in account.state_reason
    assert OutboxEvent.objects.filter(kind="account.stopped", payload__account=account.name).count() == 1
    return True


@PROVIDERS
def test_one_refusal_in_all_under_four_workers(shared_world: World, provider, caplog):
    trader = opened(shared_world.trader(provider))
    shared_world.step(30)
    revoke(trader)
    at_once(trader, *[looks_after] * WORKERS)
    assert refusals(trader) == 1
    assert stopped(trader)
    assert len([record for record in caplog.records if "stopped:" in record.message]) == 1
    assert [order["status"] for order in trader.truth()["orders"]].count("INACTIVE") == 1  # the stop rests


@PROVIDERS
def test_beside_decisions_only_what_was_on_its_way_is_refused_too(shared_world: World, provider):
    trader = shared_world.trader(provider)
    looks_after(trader)
    revoke(trader)
    at_once(trader, looks_after, decides_an_entry, decides_an_entry, decides_an_entry)
    assert 1 <= refusals(trader) <= WORKERS
    assert stopped(trader)
    before = refusals(trader)
    at_once(trader, looks_after, decides_an_entry)
    assert refusals(trader) == before


def test_what_cannot_even_be_a_key_stops_the_account_before_anything_is_sent(world: World):
    trader = world.trader()

    def no_client(account: Account) -> Any:
        raise AuthFailed("this is no key of wallex")

    assert look_after(trader.account, no_client, world.clock) is Advanced.STOPPED
    assert stopped(trader)


def test_a_new_key_is_not_stopped_by_a_worker_that_still_held_the_old_one(shared_world: World):
    trader = opened(shared_world.trader())
    old = Account.objects.get(pk=trader.account.pk)
    revoke(trader)
    trader.account.set_api_key("a-new-key-12")
    trader.account.save()
    advance(old, trader.client, shared_world.clock, reconcile_now=True)
    assert refusals(trader) == 1
    assert Account.objects.get(pk=old.pk).state == AccountState.ACTIVE
