"""The kill switch from end to end: what it stops, what it leaves alone, and what it takes to be called flat."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from django.db import connection, transaction

from algo.execution import submit
from algo.execution.flat import prove_flat
from algo.execution.ledger_orm import OrmLedger
from algo.execution.ledger_rows import order_plan
from algo.execution.reconcile import accounts_due
from algo.models import (
    Account,
    AccountState,
    CloseReason,
    Deal,
    DealStatus,
    FlatProof,
    KillSwitch,
    Order,
    OutboxEvent,
    Role,
    SystemControl,
    Ticket,
)
from algo.selectors.halts import flat_due, flat_state
from algo.services.audit import PLATFORM
from algo.services.control import ControlRefused, kill_switch_set
from providers.errors import AuthFailed, Unavailable
from providers.types import Capabilities, OrderRequest, OrderStatus, OrderType, Side
from tests.execution import bench
from tests.execution.bench import Trader, World, closed, opened
from tests.execution.faults import Faulty, raising
from tests.factories import NOW, make_config, make_deal, make_order

S = OrderStatus
LEVELS = ["no_entries", "cancel", "flatten"]
SCOPES = ["system", "account", "strategy", "market"]
DOWN = raising(Unavailable("connection refused; nothing was sent"))
RULES = {"stop_loss_percent": "1", "take_profit_percent": "2"}
HELD = {"USDT": "10000", "BTC": "0", "IRT": "0"}


def turn(trader: Trader, level: str, scope: str = "system") -> None:
    target = {"system": None, "account": trader.account, "strategy": trader.config, "market": trader.market}[scope]
    kill_switch_set(level, reason="test", by=PLATFORM, at=trader.world.clock.now(), target=target)


def in_toman(trader: Trader) -> Trader:
    """The trader on a second market, with a deal planned there."""
    trader.pair = "BTC/IRT"
    trader.price("10000000", run=False)
    trader.plan(price="10000000")
    return trader


def resting(trader: Trader) -> list[dict]:
    return [order for order in trader.truth()["orders"] if order["status"] in ("OPEN", "INACTIVE")]


def proof(trader: Trader) -> FlatProof:
    return FlatProof.objects.get(account=trader.account)


def gaps(trader: Trader) -> str:
    assert not proof(trader).is_flat
    return "; ".join(proof(trader).details["gaps"])


# --- entries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("level", LEVELS)
def test_an_entry_that_was_planned_before_the_switch_is_never_sent(world: World, level, scope):
    trader = world.trader()
    trader.plan()
    turn(trader, level, scope)
    trader.wait(1)
    assert trader.truth()["orders"] == []
    assert trader.deal().status == DealStatus.CANCELED
    assert "kill switch of the" in trader.deal().note


@pytest.mark.parametrize("scope", ["account", "strategy", "market"])
def test_a_switch_of_one_leaves_the_others_alone(world: World, scope):
    stopped, free = world.trader(), world.trader()
    stopped.plan()
    in_toman(free)
    turn(stopped, "flatten", scope)
    for trader in (stopped, free):
        trader.wait(1)
    assert stopped.deal().status == DealStatus.CANCELED
    assert free.deal().status == DealStatus.OPEN
    assert len(resting(free)) == 1


@pytest.mark.parametrize("level", ["no_entries", "cancel"])
def test_open_positions_keep_their_stop_and_it_works(world: World, level):
    trader = opened(world.trader())
    [stop] = resting(trader)
    turn(trader, level)
    trader.wait(5)
    assert resting(trader) == [stop]
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)


@pytest.mark.parametrize("level", ["no_entries", "cancel"])
def test_a_stop_that_got_lost_is_placed_again_under_the_switch(world: World, level):
    trader = opened(world.trader())
    turn(trader, level)
    [stop] = trader.orders(Role.STOP)
    trader.client.cancel_order(submit.ref_of(*view(trader, stop)))
    trader.wait(8)
    assert [order["client_order_id"] for order in resting(trader)] == [trader.orders(Role.STOP)[-1].client_order_id]
    assert trader.orders(Role.STOP)[-1].pk != stop.pk


def view(trader: Trader, order: Order):
    deal = OrmLedger(trader.account, Capabilities()).deal(order.deal_id)
    return deal, deal.order(order.pk)


def working_entry(trader: Trader, monkeypatch) -> Order:
    """An entry that works at the exchange: a limit order below the market."""
    below = {"kind": OrderType.LIMIT, "price": Decimal(90)}
    monkeypatch.setattr(bench, "order_plan", lambda deal, **terms: order_plan(deal, **terms | below))
    trader.plan()
    trader.advance()
    entry = trader.orders(Role.ENTRY)[0]
    assert entry.status == S.OPEN
    return entry


@pytest.mark.parametrize(("level", "status"), [("no_entries", S.OPEN), ("cancel", S.CANCELED), ("flatten", S.CANCELED)])
def test_a_working_entry_is_cut_off_from_cancel_on(world: World, monkeypatch, level, status):
    trader = world.trader()
    working_entry(trader, monkeypatch)
    turn(trader, level)
    trader.wait(1)
    assert trader.orders(Role.ENTRY)[0].status == status
    assert len(resting(trader)) == (status == S.OPEN)


@pytest.mark.parametrize("scope", SCOPES)
def test_cancel_reaches_its_scope(world: World, monkeypatch, scope):
    trader = world.trader()
    working_entry(trader, monkeypatch)
    turn(trader, "cancel", scope)
    trader.wait(1)
    assert resting(trader) == []
    assert trader.deal().status == DealStatus.CANCELED


# --- flatten --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("provider", "mode"), [("wallex", 3), ("nobitex", 1), ("nobitex", 2)])
def test_flatten_takes_stops_and_oco_legs_down_sells_and_proves_it(world: World, provider, mode, scope):
    trader = opened(world.trader(provider, wallet=HELD), mode=mode)
    assert resting(trader)
    turn(trader, "flatten", scope)
    trader.wait(11)
    assert closed(trader, CloseReason.KILL_SWITCH)
    assert proof(trader).is_flat, proof(trader).summary
    found = {each["asset"]: Decimal(each["found"]) for each in proof(trader).details["assets"]}
    assert found == {asset: trader.total(asset) for asset in ("BTC", "USDT")}
    assert all(each["agrees"] for each in proof(trader).details["assets"])
    assert OutboxEvent.objects.filter(kind="account.flat").count() == 1


@pytest.mark.parametrize("scope", ["account", "strategy", "market"])
def test_flatten_of_one_leaves_the_position_of_another_alone(world: World, scope):
    gone, stays = opened(world.trader()), in_toman(world.trader())
    stays.advance()
    turn(gone, "flatten", scope)
    for trader in (gone, stays):
        trader.wait(2)
    assert closed(gone, CloseReason.KILL_SWITCH)
    assert stays.deal().status == DealStatus.OPEN
    assert len(resting(stays)) == 1
    assert not FlatProof.objects.filter(account=stays.account).exists()


def test_a_market_of_an_account_is_flat_while_another_of_it_trades_on(world: World):
    trader = opened(world.trader())
    first = trader.market
    in_toman(Trader(world, trader.name, trader.account, trader.client)).advance()
    kill_switch_set("flatten", reason="test", by=PLATFORM, at=world.clock.now(), target=first)
    trader.wait(12)
    [state] = flat_state(first, since=None, now=world.clock.now(), max_age=world.clock.wall(60))
    assert state.is_flat
    assert not proof(trader).is_flat  # of the account as a whole
    assert Deal.objects.get(market__pair="BTC/IRT", account=trader.account).status == DealStatus.OPEN
    kill_switch_set("off", reason="test", by=PLATFORM, at=world.clock.now(), target=first)


def test_flatten_in_an_outage_is_done_when_it_is_over_and_not_called_flat_before(world: World):
    trader = opened(world.trader(wallet=HELD))
    turn(trader, "flatten")
    silent = ("create_order", "cancel_order", "fetch_order", "open_orders", "balances", "order_book")
    trader.provider = Faulty(trader.client, always=dict.fromkeys(silent, DOWN))
    trader.wait(15)
    assert trader.deal().status == DealStatus.EXITING
    assert "is exiting" in gaps(trader)
    trader.provider = trader.client
    trader.calm()
    trader.wait(11)
    assert closed(trader, CloseReason.KILL_SWITCH)
    assert proof(trader).is_flat


# --- the proof ------------------------------------------------------------------------------------------------------


@pytest.fixture
def flat(world: World) -> Trader:
    """A trader whose deal was closed by FLATTEN a moment ago, not yet proved."""
    trader = opened(world.trader(wallet=HELD))
    turn(trader, "flatten")
    trader.advance()
    assert closed(trader, CloseReason.KILL_SWITCH)
    FlatProof.objects.filter(account=trader.account).update(is_flat=False)
    OutboxEvent.objects.all().delete()
    return trader


def prove(trader: Trader) -> FlatProof:
    return prove_flat(Account.objects.get(pk=trader.account.pk), trader.provider, trader.world.clock)


def by_hand(trader: Trader, kind: OrderType, price: str | None, name: str = "BYHAND") -> None:
    wanted = OrderRequest(name, trader.market.symbol, Side.BUY, kind, Decimal(1), Decimal(price) if price else None)
    trader.client.create_order(wanted)


def test_flat_by_the_exchanges_own_figures(flat: Trader):
    found = prove(flat)
    assert found.is_flat
    assert found.summary == (
        "Flat by the exchange's own lists: no deal lives, no order of ours is open, BTC, USDT are what our books say."
    )
    # 1 BTC bought at 100.01 less 0.3 % in BTC, 0.997 sold at 99.99 less 0.3 % in USDT
    told = {each["asset"]: (each["expected"], each["found"]) for each in found.details["assets"]}
    assert {asset: Decimal(each[1]) for asset, each in told.items()} == {
        "BTC": flat.total("BTC"),
        "USDT": flat.total("USDT"),
    }


def test_a_balance_moved_by_hand_is_no_proof(flat: Trader):
    by_hand(flat, OrderType.MARKET, None)
    assert not prove(flat).is_flat
    assert "BTC are there, our books say" in gaps(flat)


def test_an_order_under_our_name_is_no_proof(flat: Trader):
    ours = flat.orders(Role.ENTRY)[0].client_order_id
    name = ours[:-1] + ("R" if ours.endswith("Q") else "Q")
    by_hand(flat, OrderType.LIMIT, "90", name)
    assert not prove(flat).is_flat
    assert f"order {name} is open on BTCUSDT" in gaps(flat)


def explain(trader: Trader) -> None:
    """A person has answered every ticket."""
    Ticket.objects.filter(account=trader.account).update(resolved_at=trader.world.clock.now())


def test_an_order_that_nobody_explained_is_no_proof_before_its_ticket_and_after(flat: Trader):
    by_hand(flat, OrderType.LIMIT, "90")
    prove(flat)
    assert gaps(flat) == "order BYHAND on BTCUSDT is not the platform's, and nobody has explained it yet"
    flat.advance(reconcile_now=True)
    ticket = Ticket.objects.get(account=flat.account)
    prove(flat)
    assert gaps(flat) == f"ticket {ticket.pk} is open: An order at the exchange that is not ours, BYHAND"
    assert f"ticket {ticket.pk} is open" in proof(flat).summary
    explain(flat)
    assert prove(flat).is_flat


@pytest.mark.parametrize("asked", [False, True], ids=["before its ticket", "after it"])
@pytest.mark.parametrize("scope", ["strategy", "market"])
def test_an_order_that_nobody_explained_keeps_its_market_and_strategy_from_being_flat(world: World, scope, asked):
    trader = opened(world.trader(wallet={**HELD, "IRT": "1000000"}))
    target = trader.config if scope == "strategy" else trader.market
    trader.client.create_order(
        OrderRequest("ELSEWHERE", "BTCTMN", Side.BUY, OrderType.LIMIT, Decimal(1000), Decimal(90))
    )
    kill_switch_set("flatten", reason="x", by=PLATFORM, at=world.clock.now(), target=target)
    trader.advance(reconcile_now=True)  # a ticket about another market

    def why() -> str:
        [state] = flat_state(target, since=None, now=world.clock.now(), max_age=world.clock.wall(60))
        return "" if state.is_flat else state.why

    prove(trader)
    assert why() == ""
    by_hand(trader, OrderType.LIMIT, "90")
    if asked:
        trader.advance(reconcile_now=True)
    prove(trader)
    assert "BYHAND" in why()
    assert "ELSEWHERE" not in why()
    trader.advance(reconcile_now=True)
    explain(trader)
    prove(trader)
    assert why() == ""


def test_an_order_of_somebody_else_is_listed_and_left_alone(flat: Trader):
    by_hand(flat, OrderType.LIMIT, "90")
    flat.advance(reconcile_now=True)
    explain(flat)
    assert prove(flat).is_flat
    assert "1 open orders of others were left alone" in proof(flat).summary
    assert [each["order"] for each in proof(flat).details["orders_of_others"]] == ["BYHAND"]
    assert len(resting(flat)) == 1


@pytest.mark.parametrize("call", ["open_orders", "balances"])
def test_what_cannot_be_read_is_no_proof(flat: Trader, call):
    flat.provider = Faulty(flat.client, **{call: [DOWN]})
    assert not prove(flat).is_flat
    assert "could not be asked: connection refused" in gaps(flat)


def test_a_refused_key_is_no_proof_and_stops_the_account(flat: Trader):
    flat.provider = Faulty(flat.client, open_orders=[raising(AuthFailed("the key is dead"))])
    flat.wait(10)
    assert Account.objects.get(pk=flat.account.pk).state == AccountState.STOPPED
    assert "the exchange refused the key" in gaps(flat)


def test_an_open_ticket_about_our_own_is_no_proof(flat: Trader):
    ticket = Ticket.objects.create(
        account=flat.account, kind="unknown_trade", reference="x", summary="x", created_at=flat.world.clock.now()
    )
    assert not prove(flat).is_flat
    assert gaps(flat) == f"ticket {ticket.pk} is open: A trade at the exchange that no order of ours explains, x"


def test_an_order_that_was_given_up_just_now_is_no_proof(flat: Trader):
    make_order(flat.deal(), status="REJECTED", negative_at=flat.world.clock.now(), role="EXIT", leg=9)
    assert not prove(flat).is_flat
    assert "may still turn up" in gaps(flat)


def test_an_unknown_order_is_no_proof(flat: Trader):
    make_order(flat.deal(), status="SUBMITTED", role="EXIT", leg=9)
    assert not prove(flat).is_flat
    assert "is submitted by our books" in gaps(flat)


def test_without_a_balance_from_before_there_is_no_proof(flat: Trader):
    FlatProof.objects.all().delete()
    Account.objects.filter(pk=flat.account.pk).update(balances={}, balances_read_at=None)
    assert not prove(flat).is_flat
    assert "nothing to compare with" in gaps(flat)


def test_balances_read_after_the_switch_do_not_hide_what_happened_in_between(flat: Trader):
    by_hand(flat, OrderType.MARKET, None)
    OrmLedger(flat.account, Capabilities()).note_balances(flat.client.balances(), read_at=flat.world.clock.now())
    assert not prove(flat).is_flat


def test_a_flat_account_is_asked_again_every_minute_and_may_lose_it(flat: Trader):
    flat.wait(11)
    assert proof(flat).is_flat
    at = proof(flat).checked_at
    flat.wait(58)
    assert proof(flat).checked_at == at
    by_hand(flat, OrderType.MARKET, None)
    flat.wait(3)
    assert not proof(flat).is_flat
    assert list(OutboxEvent.objects.filter(kind__startswith="account.").values_list("kind", flat=True)) == [
        "account.flat",
        "account.not_flat",
    ]


def test_accounts_under_flatten_are_due_until_they_are_proved(flat: Trader):
    flat.wait(11)
    assert not flat_due(flat.account, flat.world.clock)
    due = accounts_due(flat.world.clock)
    assert flat.account not in due
    flat.world.step(61)
    assert flat_due(flat.account, flat.world.clock)
    kill_switch_set("off", reason="x", by=PLATFORM, at=flat.world.clock.now(), unproven_ok=True)
    assert not flat_due(flat.account, flat.world.clock)


def test_flatten_is_left_when_it_is_proved(flat: Trader):
    with pytest.raises(ControlRefused, match="not everything is proved flat"):
        kill_switch_set("off", reason="x", by=PLATFORM, at=flat.world.clock.now())
    prove(flat)
    kill_switch_set("off", reason="x", by=PLATFORM, at=flat.world.clock.now())


# --- the race -------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(transactional_db):
    """A planned entry, and the ledger that could claim it."""
    config = make_config()
    entry = make_order(make_deal(config, rules=RULES), role="ENTRY", status="PENDING")
    ledger = OrmLedger(config.account, Capabilities())
    return config, ledger, ledger.deal(entry.deal_id).order(entry.pk)


def in_thread(work) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("scope", ["system", "account", "strategy", "market"])
@pytest.mark.django_db(transaction=True)
def test_a_claim_waits_for_a_switch_that_is_being_turned_and_obeys_it(planned, scope):
    config, ledger, entry = planned
    target = {"system": None, "account": config.account, "strategy": config, "market": config.market}[scope]
    claims: list[bool] = []
    with transaction.atomic():
        kill_switch_set("no_entries", reason="x", by=PLATFORM, at=NOW, target=target)
        claiming = in_thread(lambda: claims.append(ledger.claim_send(entry, now=NOW)))
        claiming.join(0.3)
        assert claims == []  # it waits: the switch has not committed yet
    claiming.join(5)
    assert claims == [False]
    assert Order.objects.get(pk=entry.id).status == S.PENDING


@pytest.mark.parametrize("scope", ["system", "market"])
@pytest.mark.django_db(transaction=True)
def test_a_switch_waits_for_a_claim_that_is_being_made(planned, scope):
    config, ledger, entry = planned
    target = None if scope == "system" else config.market
    turned: list[int] = []
    with transaction.atomic():
        assert ledger.claim_send(entry, now=NOW)
        turning = in_thread(
            lambda: turned.append(kill_switch_set("cancel", reason="x", by=PLATFORM, at=NOW, target=target).version)
        )
        turning.join(0.3)
        assert turned == []  # so whoever turned it knows: what was claimed before is bounded by the send deadline
    turning.join(5)
    assert turned == [1]


@pytest.mark.django_db(transaction=True)
def test_claims_of_two_accounts_do_not_wait_for_each_other(planned):
    SystemControl.load()
    _, ledger, entry = planned
    other = make_config()
    theirs = make_order(make_deal(other, rules=RULES), role="ENTRY", status="PENDING")
    claims: list[bool] = []

    def claim() -> None:
        mine = OrmLedger(other.account, Capabilities())
        claims.append(mine.claim_send(mine.deal(theirs.deal_id).order(theirs.pk), now=NOW))

    with transaction.atomic():
        assert ledger.claim_send(entry, now=NOW)
        in_thread(claim).join(5)
        assert claims == [True]


def test_an_entry_claimed_before_the_switch_and_sent_late_is_taken_back(world: World, monkeypatch):
    trader = world.trader()
    trader.plan()
    claim = OrmLedger.claim_send

    def claim_then_stall(self, order, *, now):
        claimed = claim(self, order, now=now)
        turn(trader, "no_entries")
        world.clock.step(3)
        return claimed

    monkeypatch.setattr(OrmLedger, "claim_send", claim_then_stall)
    trader.advance()
    assert trader.truth()["orders"] == []
    assert trader.deal().status == DealStatus.CANCELED


# --- levels ---------------------------------------------------------------------------------------------------------


def test_levels_are_ordered_and_none_of_them_stops_protection():
    assert [level.severity for level in KillSwitch] == [0, 1, 2, 3]
