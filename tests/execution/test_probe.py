"""Finding out what an account can really do, with orders that nobody else will ever see, against both wires."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from algo.execution.probe import OrdersProbed, ProbeRefused, account_probe_orders, probe_plan, probe_sweep
from algo.models import Account, OutboxEvent, ProbeOrder, Ticket
from providers.errors import (
    AuthFailed,
    OrderRejected,
    RejectReason,
    Unavailable,
)
from providers.paper.profiles import venue_profiles
from providers.types import OrderRequest, OrderStatus, OrderType, ProtectionMode, Side
from tests.execution.bench import PAIRS, Trader, World
from tests.execution.faults import Faulty, delayed, lost_answer, lost_request, raising, untouched

PROVIDERS = pytest.mark.parametrize("provider", ["wallex", "nobitex"])
NO_STOPS = raising(OrderRejected("stop orders are not offered", reason=RejectReason.INVALID))
DOWN = raising(Unavailable("connection refused; nothing was sent"))
REFUSED = raising(AuthFailed("HTTP 401"))


class Died(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def free_exchange(tmp_path_factory) -> Iterator[World]:
    """A venue whose waiting stops hold no balance."""
    profiles = tuple(each.with_switches(stops_lock=False) for each in venue_profiles(PAIRS))
    with World(tmp_path_factory.mktemp("free"), profiles).running() as world:  # type: ignore[arg-type]
        yield world


def fresh(trader: Trader) -> Trader:
    """As before any probe: nothing is known."""
    Account.objects.filter(pk=trader.account.pk).update(capabilities={}, capabilities_probed_at=None)
    trader.account.refresh_from_db()
    return trader


def probe(trader: Trader, **more: Any) -> OrdersProbed:
    return account_probe_orders(
        trader.account, trader.provider, clock=trader.world.clock, sleep=trader.world.step, **more
    )


def nothing_rests(trader: Trader) -> bool:
    truth = trader.truth()
    assert not [order for order in truth["orders"] if order["status"] in ("OPEN", "INACTIVE")]
    assert not [name for name, held in truth["balances"].items() if Decimal(held["locked"])]
    return trader.books_agree()


def outcomes(trader: Trader) -> list[str]:
    return list(ProbeOrder.objects.filter(account=trader.account).order_by("id").values_list("outcome", flat=True))


# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "mode", "by_name"),
    [("wallex", ProtectionMode.LOCKING_STOPS, True), ("nobitex", ProtectionMode.NATIVE_OCO, False)],
)
def test_a_venue_as_documented_is_found_so(world: World, provider, mode, by_name):
    trader = fresh(world.trader(provider))
    found = probe(trader)
    assert [(each.type, each.works, each.locks) for each in found.tried] == [
        (OrderType.STOP_MARKET, True, True),
        (OrderType.STOP_LIMIT, True, True),
    ]
    assert found.left == ()
    account = Account.objects.get(pk=trader.account.pk)
    assert account.capabilities_probed_at == world.clock.now()
    capabilities = account.known_capabilities(trader.client.capabilities())
    assert capabilities == found.capabilities
    assert (capabilities.protection_mode, capabilities.finds_closed_by_client_id) == (mode, by_name)
    assert outcomes(trader) == ["removed", "removed"]
    assert nothing_rests(trader)


@pytest.mark.parametrize(
    ("provider", "mode"), [("wallex", ProtectionMode.FREE_STOPS), ("nobitex", ProtectionMode.NATIVE_OCO)]
)
def test_stops_that_hold_no_balance_are_found_so(free_exchange: World, db, provider, mode):
    trader = fresh(free_exchange.trader(provider))
    found = probe(trader)
    assert found.capabilities is not None
    assert not found.capabilities.stops_lock_balance
    assert Account.objects.get(pk=trader.account.pk).protection == mode
    assert outcomes(trader) == ["removed", "removed"]


@PROVIDERS
def test_a_venue_without_stops_leaves_only_the_guardian(world: World, provider):
    trader = fresh(world.trader(provider))
    trader.provider = Faulty(trader.client, always={"create_order": NO_STOPS})
    found = probe(trader)
    assert found.capabilities is not None
    assert found.capabilities.protection_mode is ProtectionMode.NO_STOPS
    assert Account.objects.get(pk=trader.account.pk).protection == ProtectionMode.NO_STOPS
    assert outcomes(trader) == ["refused", "refused"]
    assert trader.truth()["orders"] == []


def test_where_only_stop_limit_works_it_is_what_protects(world: World):
    trader = fresh(world.trader())
    trader.provider = Faulty(trader.client, create_order=[NO_STOPS])
    found = probe(trader)
    assert found.capabilities is not None
    assert (found.capabilities.stop_market, found.capabilities.stop_limit) == (False, True)
    assert found.capabilities.protection_mode is ProtectionMode.LOCKING_STOPS


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stop_price": Decimal(7)}, "stop price 7"),
        ({"stop_price": None}, "stop price None"),
        ({"status": OrderStatus.FILLED}, "wrong direction"),
        ({"status": OrderStatus.CANCELED}, "refused after all"),
    ],
)
def test_a_stop_that_does_not_rest_where_it_was_put_does_not_work(world: World, change, says):
    trader = fresh(world.trader())
    odd = lambda call: replace(call(), **change)  # noqa: E731
    trader.provider = Faulty(trader.client, fetch_order=[odd, odd, untouched, untouched, untouched, odd, odd])
    found = probe(trader)
    assert found.tried[0].works is False
    assert says in " ".join(found.tried[0].notes)
    assert nothing_rests(trader)


# --- where, and how much ----------------------------------------------------------------------------------------------


def test_a_probe_is_tiny_and_far_away(world: World):
    trader = world.trader("nobitex", wallet={"BTC": "1"})
    plan = probe_plan(trader.client, "BTCUSDT")
    # 11 USDT x 1.2 = 13.2, at 77.6, where the STOP_LIMIT would rest (3 % below the stop at 80): 0.170103 up
    assert (plan.side, plan.stop_price, plan.limit_price) == (Side.SELL, Decimal(80), Decimal("77.6"))
    assert plan.quantity == Decimal("0.170104")


def test_without_base_it_buys_above_the_market(world: World):
    trader = fresh(world.trader("wallex", wallet={"USDT": "2"}))
    plan = probe_plan(trader.client, "BTCUSDT")
    # 1 USDT x 1.2 at the price of 100: 0.012; it holds 0.012 x 123.6 x 1.05 = 1.56 USDT at most
    assert (plan.side, plan.stop_price, plan.quantity) == (Side.BUY, Decimal(120), Decimal("0.012"))
    assert probe(trader, symbol="BTCUSDT").capabilities is not None
    assert nothing_rests(trader)


def test_a_market_is_found_that_the_account_can_pay_for(world: World):
    trader = world.trader("wallex", wallet={"IRT": "90000"})
    assert probe_plan(trader.client, None).rules.pair in ("USDT/IRT", "BTC/IRT")


@pytest.mark.parametrize(
    ("wallet", "symbol", "says"),
    [
        ({"USDT": "0.5"}, None, "cannot pay"),
        ({"USDT": "0.5"}, "BTCUSDT", "It takes"),
        ({"USDT": "9"}, "NOSUCH", "NOSUCH"),
    ],
)
def test_nothing_is_sent_where_nothing_can_be_paid_for(world: World, wallet, symbol, says):
    trader = world.trader("wallex", wallet=wallet)
    with pytest.raises(ProbeRefused, match=says):
        probe(trader, symbol=symbol)
    assert outcomes(trader) == []


def test_two_probes_in_a_row_are_not_taken_for_a_repetition(world: World):
    trader = world.trader("nobitex")  # which refuses the same order within ten seconds
    trader.world.clock.step(1)
    sleepless = {"clock": world.clock, "sleep": lambda seconds: None}
    assert account_probe_orders(trader.account, trader.client, **sleepless).capabilities is not None  # type: ignore[arg-type]
    assert account_probe_orders(trader.account, trader.client, **sleepless).capabilities is not None  # type: ignore[arg-type]


# --- who may not ------------------------------------------------------------------------------------------------------


def test_no_orders_beside_open_deals_nor_beside_another_worker_nor_on_a_stopped_account(world: World):
    trader = world.trader()
    trader.plan()
    with pytest.raises(ProbeRefused, match=r"1 open deal"):
        probe(trader)
    other = world.trader()
    Account.objects.filter(pk=other.account.pk).update(state="stopped", state_reason="The key was refused.")
    with pytest.raises(ProbeRefused, match="The key was refused"):
        probe(other)
    assert not ProbeOrder.objects.filter(account__in=[trader.account, other.account]).exists()


# --- when something goes wrong ----------------------------------------------------------------------------------------


@PROVIDERS
def test_a_row_is_committed_before_the_order_is_sent(world: World, provider):
    trader = world.trader(provider)
    seen: list[Any] = []

    def look_first(call):
        seen.extend(ProbeOrder.objects.filter(account=trader.account).values_list("outcome", "client_order_id"))
        return call()

    trader.provider = Faulty(trader.client, create_order=[look_first])
    probe(trader)
    assert seen == [("open", trader.truth()["orders"][0]["client_order_id"])]


@PROVIDERS
@pytest.mark.parametrize("fault", [lost_answer, lost_request], ids=["answer", "request"])
def test_a_lost_answer_proves_nothing_and_leaves_nothing(world: World, provider, fault):
    trader = fresh(world.trader(provider))
    trader.provider = Faulty(trader.client, create_order=[fault])
    found = probe(trader)
    assert found.capabilities is None
    assert Account.objects.get(pk=trader.account.pk).capabilities_probed_at is None
    if fault is lost_answer:
        assert found.left == ()
        assert outcomes(trader)[0] == "removed"
    else:
        assert "Look at the open orders of" in found.left[0]
        world.step(60)
        trader.provider = trader.client
        for _ in range(2):
            probe_sweep(trader.account, trader.client, world.clock)
            world.step(3)
        assert outcomes(trader) == ["absent"]
    assert nothing_rests(trader)


@PROVIDERS
@pytest.mark.parametrize("fault", [lost_answer, lost_request, DOWN], ids=["answer", "request", "down"])
def test_a_cancel_that_goes_wrong_is_tried_again(world: World, provider, fault):
    trader = fresh(world.trader(provider))
    trader.provider = Faulty(trader.client, cancel_order=[fault, fault])
    assert probe(trader).capabilities is not None
    assert nothing_rests(trader)


@PROVIDERS
def test_what_cannot_be_taken_down_is_said_loudly_and_cleared_away_later(world: World, provider):
    trader = fresh(world.trader(provider))
    trader.provider = Faulty(trader.client, always={"cancel_order": DOWN})
    found = probe(trader)
    (order,) = trader.truth()["orders"]
    assert len(found.left) == 1
    assert order["client_order_id"] in found.left[0]
    assert "cancel it there" in found.left[0]
    assert found.capabilities is None
    assert outcomes(trader) == ["open"]
    with pytest.raises(Unavailable):
        probe(trader)
    trader.provider = trader.client
    trader.advance(reconcile_now=True)
    assert outcomes(trader) == ["removed"]
    assert not Ticket.objects.filter(account=trader.account).exists()
    assert nothing_rests(trader)


@PROVIDERS
@pytest.mark.parametrize("cleaner", ["the next probe", "reconcile"])
@pytest.mark.parametrize("last_words", ["create_order", "fetch_order", "cancel_order"])
def test_what_a_dead_prober_left_is_cleared_away(world: World, provider, cleaner, last_words):
    trader = fresh(world.trader(provider))

    def dies(call):
        call()
        raise Died

    trader.provider = Faulty(trader.client, **{last_words: [dies]})
    with pytest.raises(Died):
        probe(trader)
    assert outcomes(trader) == ["open"]
    trader.provider = trader.client
    world.step(11)
    if cleaner == "reconcile":
        trader.advance(reconcile_now=True)
        assert outcomes(trader) == ["removed"]
    else:
        assert probe(trader).capabilities is not None
        assert outcomes(trader) == ["removed"] * 3
    trader.advance(reconcile_now=True)
    assert not Ticket.objects.filter(account=trader.account).exists()
    assert nothing_rests(trader)


def test_a_prober_that_died_before_it_sent_leaves_only_a_row(world: World):
    trader = fresh(world.trader())

    def dies(call):
        raise Died

    trader.provider = Faulty(trader.client, create_order=[dies])
    with pytest.raises(Died):
        probe(trader)
    trader.provider = trader.client
    with pytest.raises(ProbeRefused, match="earlier probe"):
        probe(trader)
    trader.wait(200)
    assert outcomes(trader) == ["absent"]


def test_a_probe_that_arrives_after_it_was_given_up_is_taken_down_without_a_ticket(world: World):
    trader = fresh(world.trader())
    late: list[Any] = []
    trader.provider = Faulty(trader.client, create_order=[delayed(late)])
    probe(trader)
    trader.provider = trader.client
    trader.wait(200)
    assert outcomes(trader) == ["absent"]
    late[0]()
    trader.advance(reconcile_now=True)
    assert outcomes(trader) == ["removed"]
    assert not Ticket.objects.filter(account=trader.account).exists()
    assert nothing_rests(trader)


def test_a_probe_that_executes_is_a_ticket(world: World):
    trader = fresh(world.trader())

    def crash(call):
        trader.price(50, run=False)  # far below the stop
        return call()

    trader.provider = Faulty(trader.client, fetch_order=[crash])
    found = probe(trader, symbol="BTCUSDT")
    assert found.tried[0].works is False
    ticket = Ticket.objects.get(account=trader.account)
    assert "A probe order executed" in ticket.summary
    assert ticket.market == trader.market
    trader.provider = trader.client
    trader.advance(reconcile_now=True)
    assert Ticket.objects.filter(account=trader.account).count() == 1


@pytest.mark.parametrize("call", ["balances", "create_order", "fetch_order", "cancel_order"])
def test_a_refused_key_stops_the_account_and_the_probe(world: World, call):
    trader = fresh(world.trader())
    trader.provider = Faulty(trader.client, always={call: REFUSED})
    if call in ("balances", "create_order"):
        with pytest.raises(AuthFailed):
            probe(trader)
    else:
        assert len(probe(trader).left) == 1
    assert trader.provider.calls[call] == 1
    assert Account.objects.get(pk=trader.account.pk).state == "stopped"
    assert OutboxEvent.objects.filter(kind="account.stopped").count() == 1


@pytest.mark.parametrize("reason", [RejectReason.INSUFFICIENT_BALANCE, RejectReason.MARKET_CLOSED])
def test_a_refusal_that_tells_about_the_moment_proves_nothing(world: World, reason):
    trader = fresh(world.trader())
    trader.provider = Faulty(trader.client, always={"create_order": raising(OrderRejected("no", reason=reason))})
    assert probe(trader).capabilities is None
    assert Account.objects.get(pk=trader.account.pk).capabilities == {}


def test_a_lock_that_shows_late_is_not_taken_for_none(world: World):
    trader = fresh(world.trader())
    before = trader.client.balances()
    trader.provider = Faulty(
        trader.client, balances=[untouched, untouched, lambda call: before]
    )  # the third looks first
    found = probe(trader)
    assert [tried.locks for tried in found.tried] == [True, True]
    assert Account.objects.get(pk=trader.account.pk).protection == ProtectionMode.LOCKING_STOPS


def test_a_balance_that_moves_for_another_reason_is_not_taken_for_an_answer(world: World):
    trader = fresh(world.trader())

    def meanwhile(call):
        request = OrderRequest("HAND1", "USDTTMN", Side.BUY, OrderType.MARKET, Decimal(1))
        trader.client.create_order(request)
        return call()

    trader.provider = Faulty(trader.client, create_order=[meanwhile])
    found = probe(trader, symbol="USDTTMN")
    assert found.tried[0].locks is None
    assert found.capabilities is None or found.capabilities.stops_lock_balance
    assert nothing_rests(trader)
