"""The exchange is believed; what cannot be explained is a ticket; a second run changes nothing."""

from __future__ import annotations

import itertools
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from algo.execution.ledger_orm import OrmLedger
from algo.execution.reconcile import QUARANTINE, accounts_due, reconcile_due
from algo.models import Account, CloseReason, Deal, DealDay, DealStatus, Order, OrderEvent, OutboxEvent, Role, Ticket
from algo.selectors.entry_facts import market_blocked
from algo.selectors.performance import days_differ
from algo.services.performance import performance_rebuild
from providers.budgets import Priority, current_priority
from providers.errors import BadPayload, OrderNotFound, OutcomeUnknown, Unavailable
from providers.types import Capabilities, OrderRef, OrderRequest, OrderStatus, OrderType, Side
from tests.execution.bench import Trader, World, closed, opened
from tests.execution.faults import Faulty, delayed, lost_answer, lost_request, raising, untouched
from tests.factories import make_order, unguarded

S = OrderStatus
PROVIDERS = pytest.mark.parametrize("provider", ["wallex", "nobitex"])
LEGS = itertools.count(7)


def by_hand(trader: Trader, name: str = "HAND1", side: Side = Side.BUY, price: str = "90") -> OrderRequest:
    """A person places an order of his own on the same account."""
    request = OrderRequest(name, trader.market.symbol, side, OrderType.LIMIT, Decimal("0.3"), price=Decimal(price))
    trader.client.create_order(request)
    return request


def everything(trader: Trader) -> list[Any]:
    """All that reconciliation could change, except the time of its last run."""
    tables = (Order, Deal, OrderEvent, Ticket, OutboxEvent)
    rows = [list(table.objects.order_by("pk").values()) for table in tables]
    for row in rows[0]:
        row.pop("checked_at")
    return rows


def blocked(trader: Trader) -> str:
    clock = trader.world.clock
    return market_blocked(trader.account.pk, trader.market.pk, clock.now() - clock.wall(QUARANTINE))


@PROVIDERS
def test_a_foreign_order_is_one_ticket_left_alone_and_blocks_its_market_only(world: World, provider):
    trader = world.trader(provider)
    by_hand(trader)
    trader.advance(reconcile_now=True)
    ticket = Ticket.objects.get(account=trader.account)
    assert (ticket.kind, ticket.market) == ("unknown_order", trader.market)
    assert "did not place" in ticket.summary
    assert "ticket" in blocked(trader)
    trader.pair = "BTC/IRT"
    assert blocked(trader) == ""
    (order,) = trader.truth()["orders"]
    assert order["status"] == "OPEN"


@PROVIDERS
def test_a_foreign_order_does_not_disturb_the_deal_beside_it(world: World, provider):
    trader = opened(world.trader(provider))
    by_hand(trader, price="80")
    trader.advance(reconcile_now=True)
    trader.price("98.9")
    trader.wait(1)
    deal = trader.deal()
    assert (deal.status, deal.close_reason) == (DealStatus.CLOSED, CloseReason.STOP_LOSS)


@PROVIDERS
def test_a_second_run_changes_nothing(world: World, provider):
    trader = opened(world.trader(provider))
    by_hand(trader)
    trader.advance(reconcile_now=True)
    before = everything(trader)
    for _ in range(3):
        trader.advance(reconcile_now=True)
    assert everything(trader) == before


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("fetch_order", BadPayload("garbled")),
        ("fetch_order", OrderNotFound("gone")),
        ("cancel_order", OutcomeUnknown("?")),
    ],
    ids=["unreadable", "not found", "cancel unheard of"],
)
def test_one_order_that_cannot_be_settled_does_not_hide_the_others(world: World, call, error):
    # For the exchange a live stop of ours; for us it has ended. What asks about it fails, every time.
    trader = opened(world.trader())
    stop = trader.orders(Role.STOP)[0]
    with unguarded():  # "another": what is there bears our name and is not the order we know by it
        Order.objects.filter(pk=stop.pk).update(
            status=S.CANCELED,
            closed_at=world.clock.now(),
            exchange_order_id="another" if call == "cancel_order" else stop.exchange_order_id,
        )
    Deal.objects.filter(account=trader.account).update(
        status=DealStatus.CLOSED, close_reason=CloseReason.MANUAL, closed_at=world.clock.now()
    )
    by_hand(trader)
    before = world.clock.now()
    world.step(61)
    trader.provider = Faulty(trader.client, always={call: raising(error)})
    trader.advance()
    assert Ticket.objects.filter(account=trader.account, reference="HAND1").exists()
    assert Account.objects.get(pk=trader.account.pk).reconciled_at > before


def test_balances_are_read_once_a_minute_at_most_and_never_from_the_reserve(world: World):
    trader = opened(world.trader())
    trader.provider = Faulty(
        trader.client, always={"balances": lambda call: asked.append(current_priority(Priority.EXITS)) or call()}
    )
    asked: list[Priority] = []
    for _ in range(12):  # in doubt, every ten seconds
        world.step(10)
        trader.advance(reconcile_now=True)
    assert asked == [Priority.NORMAL] * 2


def test_balances_are_not_read_where_no_deal_needs_them(world: World):
    trader = world.trader()
    trader.provider = Faulty(trader.client)
    trader.advance(reconcile_now=True)
    assert "balances" not in trader.provider.calls


@PROVIDERS
def test_an_entry_given_up_and_found_alive_is_adopted_and_sold_again(world: World, provider):
    # It arrives a minute late: we have given it up by then, and its deal is over.
    trader = world.trader(provider)
    trader.plan()
    late: list[Any] = []
    trader.provider = Faulty(trader.client, create_order=[delayed(late)])
    trader.advance()
    trader.wait(60)
    assert trader.deal().status == DealStatus.CANCELED
    assert "unknown" in blocked(trader)  # for 150 seconds, whatever was concluded
    late[0]()
    trader.wait(12)
    deal = trader.deal()
    assert (deal.status, deal.close_reason) == (DealStatus.CLOSED, CloseReason.EMERGENCY)
    assert trader.roles(S.FILLED) == [Role.ENTRY, Role.EXIT]
    assert deal.opened_at is not None
    assert OutboxEvent.objects.filter(kind="deal.reopened", payload__deal_id=deal.pk).count() == 1
    assert trader.books_agree()
    before = everything(trader)
    trader.advance(reconcile_now=True)
    assert everything(trader) == before


def test_an_account_in_doubt_is_looked_after_every_ten_seconds_although_nothing_is_open(world: World):
    trader = world.trader()
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[lost_request])
    trader.advance()
    trader.wait(60)
    account = Account.objects.get(pk=trader.account.pk)
    ledger = OrmLedger(account, Capabilities())
    for seconds, is_due in ((11, True), (181, False)):  # the quarantine is over after 150
        world.step(seconds - 11)
        ago = world.clock.now() - timedelta(seconds=11)
        Account.objects.filter(pk=account.pk).update(reconciled_at=ago, reconcile_tried_at=ago)
        assert (account in accounts_due(world.clock)) is is_due
        assert reconcile_due(ledger, world.clock) is is_due


def test_a_reconciliation_that_failed_is_not_begun_again_at_once(world: World):
    """Its lists are among the calls that the recovery of an order waits for."""
    trader = world.trader()
    trader.provider = Faulty(trader.client, always={"open_orders": raising(Unavailable("no answer"))})
    trader.wait(30)
    assert trader.provider.calls["open_orders"] == 3


def test_the_late_twin_of_a_stop_is_taken_down_after_its_deal_is_over(world: World):
    # Nobitex frees a client id when its order has ended: the twin of a stop that was sent twice may arrive after all.
    trader = world.trader("nobitex", wallet={"USDT": "1000", "BTC": "2"})
    trader.account.capabilities = trader.account.capabilities | {"oco": False}
    trader.account.save()
    trader.plan()
    late: list[Any] = []
    trader.provider = Faulty(trader.client, create_order=[untouched, delayed(late)])
    trader.advance()
    trader.wait(16)
    trader.price("98.9")
    trader.wait(2)
    assert trader.deal().status == DealStatus.CLOSED
    trader.price("100", run=False)
    world.step(20)
    late[0]()
    trader.wait(25)
    assert not [order for order in trader.truth()["orders"] if order["status"] in ("OPEN", "INACTIVE")]
    assert Ticket.objects.filter(account=trader.account).count() == 1
    assert trader.deal().close_reason == CloseReason.STOP_LOSS


def test_a_stop_that_came_after_its_end_and_ended_unfilled_stands_in_the_books(world: World):
    # Given up, and not sent again because its price had been crossed: it came late and was canceled for the balance.
    trader = opened(world.trader())
    Deal.objects.filter(account=trader.account).update(stop_price=Decimal("99.3"))
    late: list[Any] = []
    trader.provider = Faulty(trader.client, create_order=[delayed(late)])
    trader.wait(6)
    trader.price("99.2", run=False)
    trader.wait(16)
    stop = trader.orders(Role.STOP)[-1]
    assert (stop.status, stop.exchange_order_id) == (S.CANCELED, None)
    assert trader.deal().status == DealStatus.CLOSED
    trader.price("100", run=False)
    known = late[0]()
    trader.client.cancel_order(OrderRef(trader.market.symbol, exchange_order_id=known.exchange_order_id))
    trader.advance(reconcile_now=True)
    stop.refresh_from_db()
    assert (stop.status, stop.exchange_order_id) == (S.CANCELED, known.exchange_order_id)
    assert trader.deal().status == DealStatus.CLOSED
    before = everything(trader)
    trader.advance(reconcile_now=True)
    assert everything(trader) == before


def test_the_leg_of_a_pair_that_nobody_heard_of_yet_is_no_foreign_order(world: World):
    trader = world.trader("nobitex")
    trader.plan()
    trader.provider = Faulty(trader.client, create_oco=[lost_answer])
    trader.advance()
    assert trader.roles(S.SUBMITTED) == [Role.TARGET, Role.STOP]
    trader.advance(reconcile_now=True)
    assert not Ticket.objects.filter(account=trader.account).exists()
    trader.wait(3)
    assert trader.roles(S.OPEN) == [Role.TARGET, Role.STOP]


def test_a_list_that_is_behind_reopens_nothing(world: World):
    trader = opened(world.trader())
    old = list(trader.client.open_orders())
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)
    before = everything(trader)
    trader.provider = Faulty(trader.client, open_orders=[lambda call: old])
    trader.advance(reconcile_now=True)
    assert everything(trader) == before


def test_an_order_that_works_for_us_and_ended_at_the_exchange_is_corrected(world: World):
    trader = opened(world.trader())
    stop = trader.orders(Role.STOP)[0]
    trader.client.cancel_order(OrderRef("BTCUSDT", stop.client_order_id, stop.exchange_order_id))
    trader.advance(reconcile_now=True)
    assert [order.status for order in trader.orders(Role.STOP)] == [S.CANCELED, S.OPEN]


@PROVIDERS
def test_a_deal_that_was_ended_over_a_working_order_is_reopened(world: World, provider):
    """Nothing here ends one so. Whatever does, what the order is filled is nobody's until its deal lives again."""
    trader = opened(world.trader(provider))
    over = {"status": DealStatus.CLOSED, "close_reason": CloseReason.STOP_LOSS, "closed_at": world.clock.now()}
    with unguarded():
        Deal.objects.filter(pk=trader.deal().pk).update(**over)
    trader.advance(reconcile_now=True)
    assert trader.deal().reopened == 1
    trader.wait(5)
    assert closed(trader, CloseReason.EMERGENCY)


def test_sums_of_days_follow_a_deal_through_its_end_its_reopening_and_its_next_end(world: World):
    trader = opened(world.trader())
    over = {"status": DealStatus.CLOSED, "close_reason": CloseReason.STOP_LOSS, "closed_at": world.clock.now()}
    with unguarded():
        Deal.objects.filter(pk=trader.deal().pk).update(**over)
    performance_rebuild()
    assert (list(DealDay.objects.values_list("deals", "close_reason")), days_differ()) == ([(1, "stop_loss")], 0)
    trader.advance(reconcile_now=True)
    trader.wait(5)
    assert trader.deal().reopened == 1
    assert closed(trader, CloseReason.EMERGENCY)
    (row,) = DealDay.objects.all()
    assert (row.deals, row.close_reason, row.profit) == (1, "emergency", trader.deal().profit)
    assert days_differ() == 0


def test_an_adoption_that_another_deal_stands_in_the_way_of_is_a_ticket(world: World):
    trader = world.trader()
    trader.plan()
    late: list[Any] = []
    trader.provider = Faulty(trader.client, create_order=[delayed(late)])
    trader.advance()
    trader.wait(60)
    late[0]()
    trader.provider = trader.client
    # a person starts another deal at once
    Order.objects.filter(account=trader.account).update(negative_at=None)
    trader.plan()
    world.step(1)
    trader.advance()
    trader.advance(reconcile_now=True)
    assert trader.deal().status == DealStatus.OPEN
    assert Ticket.objects.filter(account=trader.account, kind="unknown_order").count() == 1


def test_a_reconciliation_waits_until_all_of_its_lists_can_be_had_but_not_for_ever(world: World):
    """The first list alone teaches nothing, and spends what the recovery of an order needs."""
    trader = world.trader()
    trader.provider = Faulty(trader.client, always={"can_list": lambda call: False})
    trader.advance()  # never reconciled: that cannot wait
    trader.wait(175)
    assert trader.provider.calls["open_orders"] == 1
    trader.wait(10)
    assert trader.provider.calls["open_orders"] == 2


def test_a_reconciliation_takes_no_list_from_the_search_for_a_stop(world: World):
    """Few lists are allowed, and the position is bare until the search has had its own."""
    trader = world.trader()
    trader.wait(55)
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[untouched, lost_request])
    trader.wait(1)
    assert trader.orders(Role.STOP)[0].status == S.SUBMITTED
    trader.provider = Faulty(trader.client, always={"fetch_order": raising(Unavailable("no answer"))})
    trader.wait(20)
    assert "open_orders" not in trader.provider.calls
    trader.provider = trader.client
    trader.wait(10)
    assert trader.orders(Role.STOP)[0].status == S.OPEN
    assert Account.objects.get(pk=trader.account.pk).reconciled_at > world.clock.now() - timedelta(seconds=5)


# --- which markets ----------------------------------------------------------------------------------------------------


@PROVIDERS
def test_a_market_with_a_live_deal_is_compared_however_old_its_orders_are(world: World, provider):
    trader = opened(world.trader(provider))
    world.step(7200)
    trader.client.create_order(OrderRequest("HAND2", trader.market.symbol, Side.BUY, OrderType.MARKET, Decimal("0.3")))
    trader.advance(reconcile_now=True)
    ticket = Ticket.objects.get(account=trader.account)
    assert (ticket.kind, ticket.market) == ("unknown_order", trader.market)


def three_markets(world: World) -> Trader:
    """A deal on each of them, all of them older than an hour."""
    trader = world.trader(wallet={"USDT": "10000", "BTC": "1", "IRT": "1000000000"})
    for pair, price, quantity in (("BTC/USDT", 100, 1), ("BTC/IRT", 10**7, 1), ("USDT/IRT", 10**5, 10)):
        trader.pair, trader.config = pair, None
        trader.price(price, run=False)
        trader.plan(price=str(price), quantity=str(quantity))
    trader.advance()
    assert Deal.objects.filter(account=trader.account, status=DealStatus.OPEN).count() == 3
    Account.objects.filter(pk=trader.account.pk).update(trades_seen={})
    world.step(7200)
    return trader


def compared(trader: Trader) -> dict[str, Any]:
    return Account.objects.get(pk=trader.account.pk).trades_seen


def test_markets_take_turns_where_lists_are_few(world: World):
    trader = three_markets(world)
    trader.provider = Faulty(trader.client, always={"can_list": lambda call: False})
    counts = []
    for _ in range(3):
        world.step(61)
        trader.advance(reconcile_now=True)
        counts.append(len(compared(trader)))
    assert counts == [1, 2, 3]
    before = compared(trader)
    for _ in range(3):
        world.step(61)
        trader.advance(reconcile_now=True)
    assert all(compared(trader)[symbol] > before[symbol] for symbol in before)
    assert trader.provider.calls["open_orders"] == 6


def test_a_market_in_doubt_is_always_among_them(world: World):
    trader = three_markets(world)
    doubtful = trader.deal().market.symbol
    trader.provider = Faulty(trader.client, always={"can_list": lambda call: False})
    for _ in range(3):
        world.step(61)
        make_order(trader.deal(), status="REJECTED", negative_at=world.clock.now(), role="EXIT", leg=next(LEGS))
        trader.advance(reconcile_now=True)
        assert list(compared(trader)) == [doubtful]


def test_a_market_that_cannot_be_read_does_not_hide_the_others(world: World):
    trader = three_markets(world)
    trader.provider = Faulty(trader.client, orders_since=[raising(BadPayload("unknown market"))])
    before = Account.objects.get(pk=trader.account.pk).reconciled_at
    trader.advance(reconcile_now=True)
    assert len(compared(trader)) == 2
    account = Account.objects.get(pk=trader.account.pk)
    assert (account.reconciled_at, account.last_error) == (before, "unknown market")


def test_an_exchange_that_reads_no_market_is_asked_about_two(world: World):
    trader = three_markets(world)
    trader.provider = Faulty(trader.client, always={"orders_since": raising(Unavailable("no answer"))})
    trader.advance(reconcile_now=True)
    assert trader.provider.calls["orders_since"] == 2
