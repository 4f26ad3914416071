"""Orders that end in our books before they end at the exchange."""

from __future__ import annotations

from decimal import Decimal

from algo.models import CloseReason, Deal, DealStatus, Fill, Order, Role, Ticket
from algo.services.audit import PLATFORM
from algo.services.tickets import ticket_answer
from providers.errors import BadPayload
from providers.types import OrderRef, OrderRequest, OrderStatus, OrderType, Side
from tests.execution.bench import World, closed, opened
from tests.execution.faults import Faulty, raising
from tests.factories import unguarded

S = OrderStatus


def test_a_fill_after_the_end_reopens_its_deal_although_the_first_question_about_it_fails(world: World):
    trader = world.trader("nobitex", wallet={"USDT": "1000"})
    trader.plan(mode=4)
    trader.advance()
    entry = trader.orders(Role.ENTRY)[0]
    assert entry.status == S.FILLED
    with unguarded():  # what our books would say, had the exchange told of the fill only after the end
        Fill.objects.filter(order=entry).delete()
        ended = {"closed_at": world.clock.now()}
        Order.objects.filter(pk=entry.pk).update(status=S.CANCELED, filled_quantity=0, average_price=None, **ended)
        Deal.objects.filter(pk=entry.deal_id).update(
            status=DealStatus.CANCELED,
            entry_quantity=0,
            entry_price=None,
            opened_at=None,
            unprotected_since=None,
            **ended,
        )
    world.step(70)
    trader.provider = Faulty(trader.client, fetch_order=[raising(BadPayload("garbled"))])
    trader.advance(reconcile_now=True)
    trader.wait(2)
    assert closed(trader, CloseReason.EMERGENCY)
    assert Decimal(trader.deal().dust_quantity) < Decimal("0.0001")


def test_an_order_that_lives_on_beside_another_deal_is_taken_down_and_told_of(world: World):
    """Nobody would look after it, and what it sells is the position of the other deal."""
    trader = world.trader("nobitex", wallet={"USDT": "1000", "BTC": "2"})
    trader.account.capabilities = trader.account.capabilities | {"oco": False}
    trader.account.save()
    opened(trader)
    stop = trader.orders(Role.STOP)[0]
    with unguarded():  # lost, and its deal closed by hand; it turns up again while the next deal is open
        ended = {"closed_at": world.clock.now()}
        Order.objects.filter(pk=stop.pk).update(status=S.CANCELED, **ended)
        Deal.objects.filter(pk=stop.deal_id).update(
            status=DealStatus.CLOSED, close_reason=CloseReason.MANUAL, unprotected_since=None, **ended
        )
    world.step(11)
    trader.plan()
    trader.advance()
    assert (trader.deal().pk != stop.deal_id, trader.deal().status) == (True, DealStatus.OPEN)
    trader.advance(reconcile_now=True)
    working = [order for order in trader.truth()["orders"] if order["status"] in ("OPEN", "INACTIVE")]
    assert [order["exchange_order_id"] for order in working] == [trader.orders(Role.STOP)[-1].exchange_order_id]
    assert Ticket.objects.filter(account=trader.account, reference=stop.exchange_order_id).count() == 1
    trader.advance(reconcile_now=True)
    assert trader.orders(Role.STOP)[0].status == S.CANCELED
    assert Ticket.objects.filter(account=trader.account).count() == 1


def test_a_deal_that_closed_more_than_it_had_says_so(world: World):
    """Stop and target may both fill in the same instant: the books must not show a clean end."""
    trader = opened(world.trader())
    stop = trader.orders(Role.STOP)[0]
    trader.client.cancel_order(OrderRef("BTCUSDT", stop.client_order_id, stop.exchange_order_id))
    twice, now = Decimal("1.5"), world.clock.now()
    with unguarded():
        Order.objects.filter(pk=stop.pk).update(
            status=S.FILLED, quantity=twice, filled_quantity=twice, average_price=99, closed_at=now
        )
        Fill.objects.create(
            account=trader.account, order=stop, trade_id="t9", price=99, quantity=twice, fee=0, fee_asset="USDT",
            executed_at=now,
        )  # fmt: skip
    trader.advance()
    assert trader.deal().status == DealStatus.CLOSED
    ticket = Ticket.objects.get(account=trader.account)
    assert (ticket.kind, ticket.reference, ticket.market) == (
        "unknown_trade",
        f"deal {stop.deal_id} over",
        trader.market,
    )
    assert "0.503 BTC more" in ticket.summary


def test_a_persons_order_is_asked_about_once_however_often_it_is_filled(world: World):
    """Its ticket was answered with "ignore": what is filled of it later is explained by that."""
    trader = opened(world.trader("nobitex"))
    name = "HAND1"
    by_hand = OrderRequest(name, "BTCUSDT", Side.BUY, OrderType.LIMIT, Decimal("0.3"), price=Decimal(95))
    trader.client.create_order(by_hand)
    trader.advance(reconcile_now=True)
    ticket = Ticket.objects.get(account=trader.account)
    ticket_answer(ticket, "ignore", note="mine", by=PLATFORM)
    for _ in range(4):  # for longer than the list goes back
        world.step(1000)
        trader.advance(reconcile_now=True)
    trader.price("94", run=False)
    trader.price("100", run=False)
    trader.wait(3)
    trader.plan()  # from here on the market is compared again
    trader.wait(2)
    world.step(70)
    trader.advance(reconcile_now=True)
    assert list(Ticket.objects.filter(account=trader.account)) == [ticket]
