"""The ledger in PostgreSQL: what it lets happen, what it books, and what the database alone refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from algo.execution.decide import CloseDeal, OpenDeal, Place, PlacePair, StartExit
from algo.execution.ledger_orm import OrmLedger
from algo.execution.lifecycle import (
    ADOPTIONS,
    DEAL_TRANSITIONS,
    ORDER_TRANSITIONS,
    IllegalTransition,
    check_deal,
    check_order,
)
from algo.models import Account, CloseReason, Deal, DealStatus, Fill, KillSwitch, Order, OrderEvent, OutboxEvent, Role
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set
from providers import types
from providers.types import Balance, Capabilities, OrderReport, OrderStatus, OrderType, Side
from tests.factories import NOW, WALLEX_LIKE, make_account, make_config, make_deal, make_order

S = OrderStatus


def D(text: str | int) -> Decimal:
    return Decimal(text)


def after(seconds: float):
    return NOW + timedelta(seconds=seconds)


class Books:
    """One deal of one account and its ledger."""

    def __init__(self, side: Side = Side.BUY, **fields: Any) -> None:
        self.account = make_account()
        rules = {"stop_loss_percent": "1", "take_profit_percent": "2"}
        values = {"planned_quantity": D(1), "planned_price": D(100), "rules": rules, "created_at": NOW}
        stops = {"initial_stop_price": D(100) - side.sign, "stop_price": D(100) - side.sign}
        self.row = make_deal(make_config(account=self.account), side=side, **{**values, **stops, **fields})
        self.ledger = OrmLedger(self.account, WALLEX_LIKE)

    @property
    def deal(self):
        return self.ledger.deal(self.row.pk)

    def fresh(self) -> Deal:
        self.row.refresh_from_db()
        return self.row

    def order(self, role: Role, status: S = S.PENDING, **fields: Any):
        row = make_order(self.row, role=role, status=status, **fields)
        return next(each for each in self.deal.orders if each.id == row.pk)

    def report(
        self, order, status: S, filled: str | int = 0, price: str = "100", *, at: float = 1, **more: Any
    ) -> None:
        """The exchange says: so much of it is filled, in one fill since the last report, fee 0.3 % of what came in."""
        total = D(filled)
        last = total - Order.objects.get(pk=order.id).filled_quantity
        fills = ()
        if last > 0:
            bought = order.side is Side.BUY
            fee = last * D("0.003") * (1 if bought else D(price))
            fills = (
                types.Fill(
                    f"{order.id}:{total}",
                    "BTCUSDT",
                    order.side,
                    D(price),
                    last,
                    fee,
                    "BTC" if bought else "USDT",
                    after(at),
                ),
            )
        said = OrderReport(
            "BTCUSDT",
            order.side,
            status,
            order.quantity,
            total,
            exchange_order_id=more.pop("exchange_order_id", f"x{order.id}"),
            average_price=D(price) if total else None,
        )
        self.ledger.apply_report(order, said, more.pop("fills", fills), now=after(at), **more)


# --- the tables of transitions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", list(S))
@pytest.mark.parametrize("new", list(S))
def test_an_order_changes_only_as_its_table_says(old, new):
    for adopting in (False, True):
        allowed = new in ORDER_TRANSITIONS[old] or (adopting and new in ADOPTIONS.get(old, ()))
        if allowed:
            check_order(old, new, adopting=adopting)
        else:
            with pytest.raises(IllegalTransition):
                check_order(old, new, adopting=adopting)


def test_the_tables_say_what_they_must():
    assert ORDER_TRANSITIONS[S.FILLED] == frozenset()
    assert S.FILLED in ORDER_TRANSITIONS[S.CANCELED]  # a fill can outrun a cancel
    assert S.OPEN not in ORDER_TRANSITIONS[S.CANCELED]
    assert S.SUBMITTED not in {new for old, table in ORDER_TRANSITIONS.items() if old is not S.PENDING for new in table}
    assert set(ORDER_TRANSITIONS) == set(S)
    assert set(DEAL_TRANSITIONS) == set(DealStatus)
    with pytest.raises(IllegalTransition):
        check_deal(DealStatus.CLOSED, DealStatus.EXITING)


# --- planning and sending ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_plan_has_a_name_before_anything_is_sent_and_leaves_an_event():
    books = Books()
    place = Place(Role.STOP, OrderType.STOP_MARKET, D("0.5"), None, D(99), "stop")
    books.ledger.plan_order(books.deal, place, now=after(1))
    first = Order.objects.get(deal=books.row)
    assert (first.status, first.leg) == (S.PENDING, 1)
    assert (first.side, first.stop_price, first.quantity) == (Side.SELL, D(99), D("0.5"))
    assert len(first.client_order_id) == 26
    assert [event.to_status for event in first.events.all()] == [S.PENDING]

    books.ledger.end_order(books.deal.orders[0], S.CANCELED, reason="no longer wanted", now=after(2))
    books.ledger.plan_order(books.deal, place, now=after(3))
    second = Order.objects.get(deal=books.row, leg=2)
    assert first.client_order_id != second.client_order_id


@pytest.mark.django_db
def test_both_legs_of_a_pair_are_claimed_released_and_ended_together():
    books = Books(status="OPEN")
    books.ledger.plan_pair(books.deal, PlacePair(D(1), D(102), D(99), D(96)), now=NOW)
    target, stop = books.deal.orders
    assert (target.pair_id, stop.pair_id) == (stop.id, target.id)
    assert books.ledger.claim_send(target, now=after(1))
    assert [each.status for each in books.deal.orders] == [S.SUBMITTED, S.SUBMITTED]
    books.ledger.release_send(target, reason="not sent", now=after(2))
    assert [(each.status, each.submitted_at) for each in books.deal.orders] == [(S.PENDING, None)] * 2
    books.ledger.end_order(books.deal.orders[0], S.CANCELED, reason="no longer wanted", now=after(3))
    assert [each.status for each in books.deal.orders] == [S.CANCELED, S.CANCELED]


@pytest.mark.django_db
def test_a_leg_that_has_ended_is_not_logged_as_sent_with_the_other():
    books = Books(status="OPEN")
    books.ledger.plan_pair(books.deal, PlacePair(D(1), D(102), D(99), D(96)), now=NOW)
    target, stop = books.deal.orders
    books.ledger.end_leg(stop, S.CANCELED, reason="no longer wanted", now=after(1))
    assert books.ledger.claim_send(target, now=after(2))
    log = OrderEvent.objects.filter(order_id=stop.id).order_by("pk").values_list("to_status", flat=True)
    assert list(log) == [S.PENDING, S.CANCELED]


@pytest.mark.django_db
def test_one_leg_may_end_without_the_other():
    books = Books(status="OPEN")
    books.ledger.plan_pair(books.deal, PlacePair(D(1), D(102), D(99), D(96)), now=NOW)
    books.ledger.claim_send(books.deal.orders[0], now=after(1))
    books.report(books.deal.orders[0], S.OPEN)
    books.ledger.end_leg(books.deal.orders[1], S.REJECTED, reason="lost", now=after(2))
    assert [each.status for each in books.deal.orders] == [S.OPEN, S.REJECTED]


@pytest.mark.django_db
@pytest.mark.parametrize("level", [KillSwitch.NO_ENTRIES, KillSwitch.FLATTEN])
def test_the_kill_switch_stops_entries_at_the_last_moment_and_never_a_stop(level):
    books = Books()
    entry, stop = books.order(Role.ENTRY), books.order(Role.STOP)
    kill_switch_set(level, reason="enough", by=PLATFORM, at=NOW)
    assert not books.ledger.claim_send(entry, now=after(1))
    assert books.deal.orders[0].status is S.PENDING
    assert books.ledger.claim_send(stop, now=after(1))


@pytest.mark.django_db
def test_a_paused_account_sends_no_entry():
    books = Books()
    entry = books.order(Role.ENTRY)
    type(books.account).objects.filter(pk=books.account.pk).update(state="paused")
    assert not books.ledger.claim_send(entry, now=after(1))


@pytest.mark.django_db
def test_a_released_entry_may_be_claimed_again_because_it_was_never_sent():
    books = Books()
    entry = books.order(Role.ENTRY)
    assert books.ledger.claim_send(entry, now=after(1))
    assert books.fresh().status == DealStatus.ENTERING
    books.ledger.release_send(entry, reason="down", now=after(2))
    assert books.fresh().status == DealStatus.PLANNED
    assert books.deal.orders[0].attempts == 0
    assert books.ledger.claim_send(books.deal.orders[0], now=after(3))


@pytest.mark.django_db(transaction=True)
def test_two_workers_claim_an_order_once():
    books = Books()
    entry = books.order(Role.ENTRY)
    answers = at_once(lambda: books.ledger.claim_send(entry, now=after(1)), workers=6)
    assert sorted(answers) == [False] * 5 + [True]
    assert Order.objects.get(pk=entry.id).attempts == 1
    assert OrderEvent.objects.filter(order=entry.id, to_status=S.SUBMITTED).count() == 1


def at_once(work: Callable[[], Any], *, workers: int) -> list[Any]:
    """What `work` answers in so many threads, each with a connection of its own."""
    start, answers, lock = threading.Barrier(workers), [], threading.Lock()

    def run() -> None:
        start.wait(10)
        try:
            answer = work()
            with lock:
                answers.append(answer)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return answers


# --- what the exchange says ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_fills_are_booked_once_however_often_they_are_told():
    books = Books()
    entry = books.order(Role.ENTRY, S.SUBMITTED)
    fill = types.Fill("t1", "BTCUSDT", Side.BUY, D(100), D("0.4"), D("0.0012"), "BTC", after(1))
    for status in (S.PARTIALLY_FILLED, S.PARTIALLY_FILLED, S.CANCELED, S.CANCELED):
        books.report(entry, status, "0.4", fills=(fill,))
    assert Fill.objects.filter(order=entry.id).count() == 1
    (view,) = books.deal.orders
    assert (view.filled, view.booked, view.fee_base, view.status) == (D("0.4"), D("0.4"), D("0.0012"), S.CANCELED)
    assert books.deal.position == D("0.3988")


@pytest.mark.django_db
def test_what_is_filled_never_goes_back():
    books = Books()
    entry = books.order(Role.ENTRY, S.SUBMITTED)
    books.report(entry, S.FILLED, 1)
    for status, filled in ((S.OPEN, 0), (S.PARTIALLY_FILLED, "0.5"), (S.CANCELED, "0.5")):
        books.report(entry, status, filled, fills=())
        (view,) = books.deal.orders
        assert (view.status, view.filled, view.booked) == (S.FILLED, D(1), D(1))


@pytest.mark.django_db
def test_a_fill_may_outrun_a_cancel():
    books = Books(status="OPEN")
    stop = books.order(Role.STOP, S.CANCELED)
    books.report(stop, S.FILLED, 1)
    assert books.deal.orders[0].status is S.FILLED


@pytest.mark.django_db
def test_a_cancel_that_has_no_effect_yet_stays_asked_for():
    books = Books(status="OPEN")
    stop = books.order(Role.STOP, S.OPEN, exchange_order_id="x1")
    books.ledger.request_cancel(stop, reason="the stop moves", now=after(1))
    books.report(books.deal.orders[0], S.OPEN, exchange_order_id="x1")
    (view,) = books.deal.orders
    assert (view.status, view.cancel_requested_at) == (S.CANCELING, after(1))
    books.ledger.request_cancel(view, reason="again", now=after(4))
    assert books.deal.orders[0].cancel_requested_at == after(4)


@pytest.mark.django_db
def test_an_order_refused_after_a_part_was_filled_is_cancelled_with_its_part():
    books = Books()
    entry = books.order(Role.ENTRY, S.OPEN)
    books.report(entry, S.REJECTED, "0.4")
    assert (books.deal.orders[0].status, books.deal.orders[0].filled) == (S.CANCELED, D("0.4"))


@pytest.mark.django_db
def test_an_order_that_is_being_cancelled_may_turn_out_refused():
    books = Books(status="OPEN")
    stop = books.order(Role.STOP, S.CANCELING)
    books.report(stop, S.REJECTED)
    assert books.deal.orders[0].is_final


@pytest.mark.django_db
def test_the_answer_to_a_create_is_not_a_reading_back():
    books = Books(status="OPEN")
    stop = books.order(Role.STOP, S.SUBMITTED)
    books.report(stop, S.OPEN, read_back=False)
    assert books.deal.orders[0].checked_at is None
    assert not books.deal.orders[0].is_covering
    books.report(stop, S.OPEN)
    assert books.deal.orders[0].is_covering


@pytest.mark.django_db
def test_while_fees_are_not_known_they_are_estimated_and_then_taken_from_the_fills():
    books = Books()
    entry = books.order(Role.ENTRY, S.SUBMITTED)
    books.report(entry, S.FILLED, 1, fills=())
    assert books.deal.orders[0].fee_base == D("0.003")  # the account's taker rate
    fill = types.Fill("t1", "BTCUSDT", Side.BUY, D(100), D(1), D("0.0025"), "BTC", after(1))
    books.report(entry, S.FILLED, 1, fills=(fill,))
    assert books.deal.orders[0].fee_base == D("0.0025")
    assert Order.objects.get(pk=entry.id).fee == D("0.0025")


@pytest.mark.django_db
def test_a_fee_in_another_asset_takes_nothing_from_the_position():
    books = Books()
    entry = books.order(Role.ENTRY, S.SUBMITTED)
    fill = types.Fill("t1", "BTCUSDT", Side.BUY, D(100), D(1), D("0.25"), "USDT", after(1))
    books.report(entry, S.FILLED, 1, fills=(fill,))
    assert books.deal.position == 1


# --- opening, trailing, closing --------------------------------------------------------------------------------------


def opened(side: Side = Side.BUY) -> tuple[Books, Any]:
    books = Books(side, status="ENTERING")
    entry = books.order(Role.ENTRY, S.SUBMITTED)
    books.report(entry, S.FILLED, 1)
    action = OpenDeal(D(100), D(1), D(100) - side.sign, D(100) + 2 * side.sign, after(9))
    books.ledger.open_deal(books.deal, action, now=after(2))
    return books, entry


@pytest.mark.django_db
def test_profit_and_fees_of_a_long_deal_worked_by_hand():
    books, _ = opened()
    # 0.997 held; the stop sells 0.5 at 99 and 0.497 at 98
    stop = books.order(Role.STOP, S.SUBMITTED, quantity=D("0.997"))
    books.report(stop, S.PARTIALLY_FILLED, "0.5", "99")
    books.report(stop, S.FILLED, "0.997", "98")
    books.ledger.close_deal(books.deal, CloseDeal(CloseReason.STOP_LOSS, D(0)), now=after(5))
    deal = books.fresh()
    # received 49.5 + 48.706 = 98.206, fee of it 0.294618, paid 100: 98.206 - 0.294618 - 100
    assert deal.profit == D("-2.088618")
    # entry fee 0.003 BTC at 100 = 0.3, exit fee 0.294618
    assert deal.fees_quote == D("0.594618")
    assert deal.exit_price == D("98.501504513541")  # 98.206 / 0.997
    assert (deal.entry_price, deal.entry_quantity, deal.exit_quantity) == (D(100), D(1), D("0.997"))
    assert (deal.status, deal.close_reason, deal.closed_at) == ("CLOSED", "stop_loss", after(5))
    assert OutboxEvent.objects.filter(kind="deal.closed", payload__deal_id=deal.pk).count() == 1


@pytest.mark.django_db
def test_profit_of_a_short_deal_worked_by_hand():
    books, _ = opened(Side.SELL)
    leave = books.order(Role.EXIT, S.SUBMITTED)
    books.report(leave, S.FILLED, 1, "97")
    books.ledger.close_deal(books.deal, CloseDeal(CloseReason.MANUAL, D(0)), now=after(5))
    # sold for 100 - 0.3, bought for 97, and 0.003 BTC of it went as fee, worth 0.291
    assert books.fresh().profit == D("2.409")
    assert books.row.fees_quote == D("0.591")


@pytest.mark.django_db
def test_dust_is_valued_at_the_exit_price():
    books, _ = opened()
    leave = books.order(Role.EXIT, S.SUBMITTED, quantity=D("0.99"))
    books.report(leave, S.FILLED, "0.99", "100")
    books.ledger.close_deal(books.deal, CloseDeal(CloseReason.MANUAL, D("0.007")), now=after(5))
    # 99 - 0.297 - 100 + 0.007 x 100
    assert books.fresh().profit == D("-0.597")
    assert books.row.dust_quantity == D("0.007")


@pytest.mark.django_db
def test_a_stop_is_never_moved_back_by_the_ledger():
    books, _ = opened()
    books.ledger.move_stop(books.deal, D("99.5"), D("100.5"), now=after(3))
    with pytest.raises(ValueError, match="never moves back"):
        books.ledger.move_stop(books.deal, D("99.4"), D("100.6"), now=after(4))
    assert books.fresh().stop_price == D("99.5")
    short, _ = opened(Side.SELL)
    with pytest.raises(ValueError, match="never moves back"):
        short.ledger.move_stop(short.deal, D("101.5"), D("99"), now=after(4))


@pytest.mark.django_db
def test_unprotected_time_is_counted_from_the_first_fill_to_the_reading_back_of_the_stop():
    books, _ = opened()
    # filled at +1 s, says the exchange
    assert (books.fresh().opened_at, books.row.unprotected_since) == (after(1), after(1))
    stop = books.order(Role.STOP, S.SUBMITTED, quantity=D("0.997"))
    books.report(stop, S.OPEN, at=2.5, read_back=False)
    books.ledger.measure_protection(books.deal, D(100), now=after(2.5))
    assert books.fresh().unprotected_since is not None
    books.report(stop, S.OPEN, at=3)
    books.ledger.measure_protection(books.deal, D(100), now=after(3))
    books.ledger.measure_protection(books.deal, D(100), now=after(60))
    deal = books.fresh()
    assert (deal.unprotected_seconds, deal.unprotected_since, deal.protected_at) == (D(2), None, after(3))
    # the stop is asked away at +100 s and its successor read back at +101.5 s
    books.ledger.request_cancel(books.deal.orders[-1], reason="the stop moves", now=after(100))
    books.report(books.deal.orders[-1], S.CANCELED, at=101)
    books.ledger.measure_protection(books.deal, D(100), now=after(101))
    second = books.order(Role.STOP, S.SUBMITTED, quantity=D("0.997"))
    books.report(second, S.OPEN, at=101.5)
    books.ledger.measure_protection(books.deal, D(100), now=after(101.5))
    assert books.fresh().unprotected_seconds == D("3.5")
    assert books.row.protected_at == after(3)


@pytest.mark.django_db
def test_a_stop_that_is_too_small_does_not_count():
    books, _ = opened()
    stop = books.order(Role.STOP, S.SUBMITTED, quantity=D("0.9"))
    books.report(stop, S.OPEN, at=3)
    books.ledger.measure_protection(books.deal, D(100), now=after(3))
    assert books.fresh().unprotected_since is not None


@pytest.mark.django_db
def test_closing_ends_the_count_even_if_nobody_measures_afterwards():
    books, _ = opened()
    leave = books.order(Role.EXIT, S.SUBMITTED, quantity=D("0.997"))
    books.report(leave, S.FILLED, "0.997", at=4)
    books.ledger.close_deal(books.deal, CloseDeal(CloseReason.MANUAL, D(0)), now=after(5))
    assert (books.fresh().unprotected_seconds, books.row.unprotected_since) == (D(4), None)
    payload = OutboxEvent.objects.get(kind="deal.closed").payload
    assert D(payload["unprotected_seconds"]) == 4


@pytest.mark.django_db
def test_starting_an_exit_is_written_down_with_its_reason():
    books, _ = opened()
    books.ledger.start_exit(books.deal, StartExit(CloseReason.EMERGENCY, "the stop did not fill"), now=after(3))
    assert (books.fresh().status, books.row.exit_reason, books.row.note) == (
        "EXITING",
        "emergency",
        "the stop did not fill",
    )


# --- the balance before an order --------------------------------------------------------------------------------------


def read(ledger: OrmLedger, total: str, at: datetime) -> None:
    ledger.note_balances({"BTC": Balance("BTC", Decimal(total), Decimal(0))}, read_at=at)


@pytest.mark.django_db
@pytest.mark.parametrize(("stamped", "kept"), [(-60, "2"), (0, "2"), (4, "1"), (3600, "2")])
def test_a_balance_that_a_wrong_clock_stamped_gives_way_to_the_next(stamped, kept):
    """Else it would stand as the newest one until that time has come."""
    ledger = OrmLedger(make_account(), Capabilities())
    read(ledger, "1", NOW + timedelta(seconds=stamped))
    read(ledger, "2", NOW)
    assert Account.objects.get().balances["BTC"][0] == kept
