"""A pass looks after every deal, whatever one row, one list or one order does to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from algo.execution import advance as passes
from algo.execution.ledger_orm import OrmLedger
from algo.execution.probe import ProbesLeft
from algo.models import Account, Deal, DealStatus, KillSwitch, Order, Role
from algo.selectors.sessions import is_lost
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set
from providers.errors import OutcomeUnknown
from providers.types import OrderRef, OrderReport, OrderStatus
from tests.execution.bench import Trader, World, opened
from tests.execution.faults import Faulty, raising

S = OrderStatus


@contextmanager
def row_held(deal: Deal) -> Iterator[None]:
    """Somebody in a shell has the deal's row, and takes his time."""
    has, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Deal.objects.select_for_update().get(pk=deal.pk)
                has.set()
                may_go.wait(20)
        finally:
            connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert has.wait(20)
    try:
        yield
    finally:
        may_go.set()
        holder.join(20)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_keeps_no_other_deal_from_its_protection(world: World):
    trader = world.trader()
    trader.pair = "BTC/IRT"
    held = trader.plan()  # too small for this market: it ends as soon as somebody looks at it
    trader.config, trader.pair = None, "BTC/USDT"
    other = trader.plan()
    with row_held(held):
        trader.advance()
    other.refresh_from_db()
    assert other.status == DealStatus.OPEN
    assert other.protected_at is not None
    assert "failed" in Account.objects.get(pk=trader.account.pk).last_error
    trader.wait(2)
    held.refresh_from_db()
    assert held.status == DealStatus.CANCELED


@pytest.mark.django_db(transaction=True)
def test_a_statement_that_had_to_wait_too_long_is_no_lost_session():
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '20ms'")
        with pytest.raises(OperationalError) as waited:
            cursor.execute("SELECT pg_sleep(1)")
        cursor.execute("SET statement_timeout = 0")
    assert not is_lost(waited.value)
    with connection.cursor() as cursor, pytest.raises(OperationalError) as ended:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    connection.close()
    assert is_lost(ended.value)


def naked(world: World) -> Trader:
    """An open deal whose stop somebody has taken away; a guardian starts anew."""
    trader = opened(world.trader())
    stop = trader.orders(Role.STOP)[0]
    trader.client.cancel_order(OrderRef("BTCUSDT", stop.client_order_id, stop.exchange_order_id))
    world.step(6)
    return trader


@pytest.mark.parametrize("first", [True, False])
def test_a_reconciliation_that_fails_unexpectedly_costs_no_deal_its_protection(world: World, monkeypatch, first):
    trader = naked(world)
    world.step(60)

    def broken(self: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ProbesLeft, "sweep", broken)
    trader.advance(reconcile_now=first)
    assert trader.orders(Role.STOP)[-1].status == S.OPEN
    account = Account.objects.get(pk=trader.account.pk)
    assert "see the log" in account.last_error
    assert account.advanced_at == world.clock.now()


@pytest.mark.parametrize("fails", ["the list", "one order"])
def test_reading_what_rests_by_one_list_may_fail_as_it_likes(world: World, monkeypatch, fails):
    trader = naked(world)
    monkeypatch.setattr(passes, "WORTH_A_LIST", 1)
    if fails == "the list":
        trader.provider = Faulty(trader.client, open_orders=[raising(OutcomeUnknown("?"))])
    else:
        taken = OrmLedger.apply_report

        def refused(self: OrmLedger, order: Any, report: Any, *args: Any, **more: Any) -> None:
            if report.raw.get("poison"):
                raise ValueError("an amount that no column holds")
            taken(self, order, report, *args, **more)

        monkeypatch.setattr(OrmLedger, "apply_report", refused)
        stop = trader.orders(Role.STOP)[0]
        told = {"exchange_order_id": stop.exchange_order_id, "fee": stop.quantity, "raw": {"poison": True}}
        shown = OrderReport("BTCUSDT", stop.side, S.OPEN, stop.quantity, 0 * stop.quantity, **told)
        trader.provider = Faulty(trader.client, open_orders=[lambda call: [shown]])
    trader.advance()
    assert trader.orders(Role.STOP)[-1].status == S.OPEN
    assert [stop.status for stop in trader.orders(Role.STOP)] == [S.CANCELED, S.OPEN]


def test_a_proof_of_flatness_that_fails_unexpectedly_is_no_failure_of_the_account(world: World, monkeypatch):
    """After five of those an account is looked at twice a minute only."""
    trader = opened(world.trader())
    kill_switch_set(KillSwitch.FLATTEN, reason="out", by=PLATFORM, at=world.clock.now())

    def broken(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(passes, "prove_flat", broken)
    trader.advance()
    trader.wait(1)
    assert trader.deal().status == DealStatus.CLOSED
    assert "flat" in Account.objects.get(pk=trader.account.pk).last_error
    assert Order.objects.filter(account=trader.account, role=Role.EXIT, status=S.FILLED).count() == 1


def test_a_list_of_what_rests_waits_for_the_deals_in_danger(world: World, monkeypatch):
    """It may wait for a call budget, or hang; a position without its stop may not."""
    trader = naked(world)
    trader.advance()  # the stop is gone: seen, and another one placed
    stop = trader.orders(Role.STOP)[-1]
    trader.client.cancel_order(OrderRef("BTCUSDT", stop.client_order_id, stop.exchange_order_id))
    Deal.objects.update(unprotected_since=world.clock.now())
    world.step(6)
    monkeypatch.setattr(passes, "WORTH_A_LIST", 1)
    seen: list[str] = []
    noting = {name: lambda call, name=name: (seen.append(name), call())[1] for name in ("open_orders", "create_order")}
    trader.provider = Faulty(trader.client, always=noting)
    trader.advance()
    assert seen == ["create_order"]
    world.step(6)
    trader.advance()
    assert seen == ["create_order", "open_orders"]


@pytest.mark.django_db(transaction=True)
def test_a_ticket_that_somebody_holds_keeps_no_deal_from_its_protection(world: World, monkeypatch):
    trader = naked(world)

    def held(*args: Any) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(passes, "answer_tickets", held)
    trader.advance()
    assert trader.orders(Role.STOP)[-1].status == S.OPEN
    assert "tickets" in Account.objects.get(pk=trader.account.pk).last_error
