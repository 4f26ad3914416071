"""Deals that need nothing are looked at together, at the price of a few rows; what needs something is read again."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from algo.execution import advance as passes
from algo.execution.ledger_orm import OrmLedger
from algo.execution.quotes import Quotes
from algo.models import Account, CloseReason, Deal, DealEvent, DealStatus, KillSwitch, Order, OrderEvent, Role
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set
from providers.errors import AuthFailed, RateLimited
from providers.types import OrderRef, OrderStatus
from tests.execution.bench import PAIRS, Trader, World, closed
from tests.execution.faults import Counting, Faulty, raising
from tests.factories import unguarded

S = OrderStatus
PRICES = {"BTC/USDT": "100", "BTC/IRT": "10000000", "USDT/IRT": "100000"}


def resting(world: World, deals: int) -> Trader:
    """So many deals that rest protected, each on a market of its own, and all that is seldom due done."""
    trader = world.trader()
    for pair in PAIRS[:deals]:
        trader.pair, trader.config = pair, None
        trader.price(PRICES[pair], run=False)
        trader.plan(price=PRICES[pair], quantity="10" if pair == "USDT/IRT" else "1")
    trader.advance(reconcile_now=True)
    trader.wait(2)
    live = Deal.objects.filter(account=trader.account, status=DealStatus.OPEN, unprotected_since=None)
    assert live.count() == deals
    return trader


def one_pass(trader: Trader, seconds: float = 1, quotes: Any = None) -> list[str]:
    """The statements of one pass, so much later."""
    trader.world.step(seconds)
    with CaptureQueriesContext(connection) as seen:
        trader.advance(quotes=quotes)
    return [each["sql"] for each in seen.captured_queries]


def writes(statements: list[str]) -> list[str]:
    """Of the books: the account's own row and the row of its lock say that somebody was there."""
    changing = [each for each in statements if each.lstrip().startswith(("INSERT", "UPDATE", "DELETE"))]
    return [each for each in changing if "algo_accountlock" not in each and 'UPDATE "algo_account"' not in each]


def rows() -> list[Any]:
    return [list(kind.objects.order_by("pk").values()) for kind in (Deal, Order, OrderEvent, DealEvent)]


# --- what needs nothing -----------------------------------------------------------------------------------------------


def test_a_pass_takes_as_many_queries_however_many_deals_rest(world: World):
    one, three = (len(one_pass(resting(world, deals))) for deals in (1, 3))
    assert one == three < 20


def test_a_pass_over_deals_that_rest_writes_nothing_into_the_books(world: World):
    trader = resting(world, 3)
    before = rows()
    assert writes(one_pass(trader)) == []
    assert rows() == before
    assert Account.objects.get(pk=trader.account.pk).advanced_at == world.clock.now()


def test_a_switch_that_is_turned_is_seen_by_the_next_pass(world: World):
    trader = resting(world, 1)
    kill_switch_set(KillSwitch.FLATTEN, reason="out", by=PLATFORM, at=world.clock.now())
    trader.advance()
    assert closed(trader, CloseReason.KILL_SWITCH)


@pytest.mark.parametrize("of", ["account", "config", "market"])
def test_a_switch_over_one_of_them_is_none_over_the_others(world: World, of):
    trader = resting(world, 3)
    deals = list(Deal.objects.filter(account=trader.account))
    kill_switch_set(KillSwitch.FLATTEN, reason="out", by=PLATFORM, at=world.clock.now(), target=getattr(deals[0], of))
    trader.advance()
    trader.wait(1)
    ended = [deal.close_reason == CloseReason.KILL_SWITCH for deal in Deal.objects.filter(account=trader.account)]
    assert sum(ended) == (3 if of == "account" else 1)


# --- what needs something is read again -------------------------------------------------------------------------------


def picture(monkeypatch: Any, change: Any) -> None:
    """Deals as they are read together, changed: what is decided on was true a moment ago, and is not any more."""
    real = OrmLedger.live_views
    monkeypatch.setattr(OrmLedger, "live_views", lambda ledger: [change(seen) for seen in real(ledger)])


def test_nothing_is_done_by_a_picture_that_is_not_true_any_more(world: World, monkeypatch):
    """In the picture the stop is missing and a person wants the deal closed; in the books it rests, and nobody does."""
    trader = resting(world, 1)
    bare = {"orders": (), "exit_reason": CloseReason.MANUAL}
    picture(monkeypatch, lambda seen: replace(seen, deal=replace(seen.deal, **bare)))
    trader.provider = Counting(trader.client)
    before = rows()
    trader.advance(quotes=Quotes(world.clock))
    assert rows() == before
    assert set(trader.provider.calls) <= {"order_book", "capabilities"}


def test_a_switch_of_the_picture_alone_closes_nothing(world: World, monkeypatch):
    trader = resting(world, 1)
    picture(monkeypatch, lambda seen: replace(seen, control=replace(seen.control, flatten=True)))
    before = rows()
    trader.advance()
    assert rows() == before


def test_deals_that_cannot_be_read_together_are_read_one_by_one(world: World, monkeypatch):
    trader = resting(world, 3)
    with unguarded():  # nobody can read this one
        Deal.objects.filter(account=trader.account, market__pair="BTC/IRT").update(rules={})
    with pytest.raises(KeyError):
        ledger_of(trader).live_views()
    trader.pair = "BTC/USDT"
    trader.price("98")
    trader.wait(2)
    states = dict(Deal.objects.filter(account=trader.account).values_list("market__pair", "status"))
    assert states == {"BTC/USDT": "CLOSED", "BTC/IRT": "OPEN", "USDT/IRT": "OPEN"}


def ledger_of(trader: Trader) -> OrmLedger:
    return OrmLedger(trader.account, trader.account.known_capabilities(trader.client.capabilities()))


# --- reading what rests -----------------------------------------------------------------------------------------------


def test_one_list_reads_all_that_rests_and_says_so_in_one_statement(world: World, monkeypatch):
    trader = resting(world, 3)
    monkeypatch.setattr(passes, "WORTH_A_LIST", 3)
    trader.provider = Counting(trader.client)
    statements = one_pass(trader, 6)
    assert trader.provider.calls.get("open_orders") == 1
    assert "fetch_order" not in trader.provider.calls
    assert len(writes(statements)) == 1
    assert {order.checked_at for order in trader.orders(Role.STOP)} == {world.clock.now()}
    assert OrderEvent.objects.filter(order__account=trader.account, at__gte=world.clock.now()).count() == 0


def test_what_a_list_shows_otherwise_is_taken_over_at_once(world: World, monkeypatch):
    trader = resting(world, 3)
    monkeypatch.setattr(passes, "WORTH_A_LIST", 3)
    stop = trader.orders(Role.STOP)[0]
    trader.world.step(6)
    shown = trader.client.open_orders()
    part = Decimal("0.4")
    grown = [
        replace(each, filled_quantity=part, status=S.PARTIALLY_FILLED, fills_complete=True)
        if each.exchange_order_id == stop.exchange_order_id
        else each
        for each in shown
    ]
    trader.provider = Faulty(trader.client, open_orders=[lambda call: grown])
    trader.advance()
    assert Order.objects.get(pk=stop.pk).filled_quantity == part


def test_a_stop_that_a_list_does_not_show_is_asked_for_and_placed_again(world: World, monkeypatch):
    trader = resting(world, 3)
    monkeypatch.setattr(passes, "WORTH_A_LIST", 3)
    stop = trader.orders(Role.STOP)[0]
    trader.client.cancel_order(OrderRef(stop.market.symbol, stop.client_order_id, stop.exchange_order_id))
    one_pass(trader, 6)
    stops = Order.objects.filter(deal=stop.deal, role=Role.STOP).order_by("leg")
    assert [each.status for each in stops] == [S.CANCELED, S.OPEN]


def spent(trader: Trader) -> Counting:
    """There is no call to spare: whoever made one all the same would have to wait."""
    none = {name: (lambda call: False) for name in ("can_ask", "can_list")}
    trader.provider = Faulty(
        trader.client, always=none | {"fetch_order": raising(RateLimited("spent", retry_after=1.0))}
    )
    return trader.provider


def test_what_only_keeps_the_books_fresh_waits_for_a_call_to_spare(world: World):
    trader = resting(world, 3)
    provider = spent(trader)
    before = rows()
    for _ in range(20):
        assert writes(one_pass(trader)) == []
    assert rows() == before
    assert "fetch_order" not in provider.calls
    assert Account.objects.get(pk=trader.account.pk).last_error == ""
    trader.provider = trader.client
    one_pass(trader)
    assert {order.checked_at for order in trader.orders(Role.STOP)} == {world.clock.now()}


def test_no_spared_call_delays_an_exit(world: World):
    trader = resting(world, 1)
    spent(trader)
    trader.provider.always.pop("fetch_order")
    trader.price("98.9")
    trader.wait(2)
    assert closed(trader, CloseReason.STOP_LOSS)


def test_what_a_person_asks_for_is_read_whether_a_call_is_to_spare_or_not(world: World):
    trader = resting(world, 1)
    spent(trader).always.pop("fetch_order")
    world.step(1)
    Deal.objects.filter(account=trader.account).update(look_asked_at=world.clock.now())
    trader.advance()
    assert trader.orders(Role.STOP)[0].checked_at == world.clock.now()


def test_a_key_that_is_refused_for_a_list_stops_the_account(world: World, monkeypatch):
    trader = resting(world, 3)
    monkeypatch.setattr(passes, "WORTH_A_LIST", 3)
    trader.provider = Faulty(trader.client, open_orders=[raising(AuthFailed("no"))])
    world.step(6)
    assert trader.advance() == passes.Advanced.STOPPED


def test_the_prices_of_all_markets_are_expected_at_once(world: World):
    trader = resting(world, 3)
    asked: list[Any] = []

    class Told(Quotes):
        def expect(self, provider: Any, symbols: Any) -> None:
            asked.append(sorted(symbols))

    one_pass(trader, quotes=Told(world.clock))
    assert asked == [["BTCTMN", "BTCUSDT", "USDTTMN"]]


def test_reconciliation_waits_for_a_list_but_seldom(world: World):
    """Who waits looks after nobody meanwhile: once in three minutes, where ten accounts of an exchange share a list."""
    trader = resting(world, 1)
    none = {"can_list": lambda call: False, "open_orders": raising(RateLimited("spent", retry_after=1.0))}
    trader.provider = Faulty(trader.client, always=none)
    trader.wait(175)
    assert "open_orders" not in trader.provider.calls
    trader.wait(175)
    assert trader.provider.calls["open_orders"] == 1
    trader.provider.always["can_list"] = lambda call: True
    trader.wait(1)
    assert trader.provider.calls["open_orders"] == 2


def test_deals_are_looked_after_while_a_reconciliation_waits_for_its_list(world: World, monkeypatch):
    trader = resting(world, 1)
    monkeypatch.setattr(passes, "LOOK_EVERY", 0.0)
    order_of_things: list[str] = []
    waits = iter([False, False, True])

    def asked(name: str, call: Any) -> Any:
        order_of_things.append(name)
        return call()

    def may_list(call: Any) -> bool:
        there_is_one = next(waits, True)
        if not there_is_one:
            world.step(1)
            world.feed.set("BTC/USDT", Decimal("98.9"))  # through the stop
        return there_is_one

    noted = {name: (lambda call, name=name: asked(name, call)) for name in ("open_orders", "fetch_order")}
    trader.provider = Faulty(trader.client, always=noted | {"can_list": may_list})
    trader.advance(reconcile_now=True, turn=passes.Turn())
    assert order_of_things[0] == "fetch_order"
    assert "open_orders" in order_of_things
    assert closed(trader, CloseReason.STOP_LOSS)


def test_one_account_of_an_exchange_reconciles_at_a_time(world: World):
    trader, turn = resting(world, 1), passes.Turn()
    trader.provider = Counting(trader.client)
    with turn.mine("another") as is_mine:
        assert is_mine
        trader.advance(reconcile_now=True, turn=turn)
    assert "open_orders" not in trader.provider.calls
    trader.advance(reconcile_now=True, turn=turn)
    assert trader.provider.calls["open_orders"] == 1
    assert turn.had == {"another", trader.account.name}


def test_what_reconciliation_lists_at_rest_is_not_asked_for_again(world: World):
    trader = resting(world, 3)
    trader.provider = Counting(trader.client)
    world.step(4)
    trader.advance(reconcile_now=True)
    assert {order.checked_at for order in trader.orders(Role.STOP)} == {world.clock.now()}
    trader.wait(4)
    assert "fetch_order" not in trader.provider.calls
