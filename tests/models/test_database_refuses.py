"""What the database refuses by itself, in raw SQL: no code of the platform stands between these statements and it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from algo.execution.lifecycle import ADOPTIONS, DEAL_TRANSITIONS, ORDER_TRANSITIONS
from algo.models import FINISHED_DEALS, AccountLock, DealEvent, DealStatus, Order, OrderEvent, Role
from algo.selectors.audit import broken_histories
from providers.types import OrderStatus as S
from tests.factories import (
    NOW,
    make_closed_deal,
    make_deal,
    make_fill,
    make_open_deal,
    make_order,
    make_order_event,
    unguarded,
)
from tests.migrating import latest, migrate_to

pytestmark = pytest.mark.django_db


def sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def change(row: Any, assignments: str, *values: Any) -> None:
    sql(f"UPDATE {row._meta.db_table} SET {assignments} WHERE id = {row.pk}", *values)


@contextmanager
def refused(rule: str) -> Iterator[None]:
    """The block is refused by this rule, in one sentence."""
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        yield
    told = caught.value.__cause__.diag
    assert told.constraint_name == rule
    assert "\n" not in told.message_primary


def is_accepted(row: Any, assignments: str) -> bool:
    try:
        with transaction.atomic():
            change(row, assignments)
            transaction.set_rollback(True)
    except IntegrityError:
        return False
    return True


# --- transitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adopting", [False, True])
def test_an_order_moves_as_the_lifecycle_says_and_no_other_way(adopting):
    order = make_order(role=Role.STOP)
    moves = [(old, new) for old, new in product(S, S) if old != new]
    accepted, expected = set(), set()
    for old, new in moves:
        with unguarded():
            change(order, "status = %s", old)
        sent = ", attempts = attempts + 1" if (old, new) == (S.PENDING, S.SUBMITTED) else ""
        if is_accepted(order, f"status = '{new}', adoptions = adoptions + {int(adopting)}{sent}"):
            accepted.add((old, new))
        # An order that was given up as never arrived is alive only by adoption.
        plain = new in ORDER_TRANSITIONS[old] and old is not S.REJECTED
        if plain or (adopting and new in ADOPTIONS.get(old, ())):
            expected.add((old, new))
    assert accepted == expected


@pytest.mark.parametrize("reopened", [0, 1])
def test_a_deal_moves_as_the_lifecycle_says_and_reopens_only_where_it_is_counted(reopened):
    deal = make_closed_deal()
    accepted, expected = set(), set()
    for old, new in product(DealStatus, DealStatus):
        if old == new:
            continue
        with unguarded():
            change(deal, "status = %s", old)
        if is_accepted(deal, f"status = '{new}', reopened = reopened + {reopened}"):
            accepted.add((old, new))
        if new in DEAL_TRANSITIONS[old] and (old in FINISHED_DEALS) == bool(reopened):
            expected.add((old, new))
    assert accepted == expected


def test_adoptions_and_reopenings_are_counted_one_by_one():
    order, deal = make_order(status=S.CANCELED), make_closed_deal()
    with refused("order_adoptions_counted"):
        change(order, "status = 'OPEN', adoptions = 2")
    change(order, "status = 'OPEN', adoptions = 1")
    with refused("order_adoptions_counted"):
        change(order, "adoptions = 0")
    with refused("deal_reopened_counted"):
        change(deal, "status = 'OPEN', reopened = 2")
    with refused("deal_reopened_counted"):
        change(deal, "reopened = 1")


# --- at most once -----------------------------------------------------------------------------------------------------


def test_a_second_entry_for_a_candle_and_a_second_live_deal_are_refused():
    first = make_deal(status="OPEN")
    columns = [f.column for f in first._meta.local_fields if f.column not in ("id", "bar_open_at", "status", "side")]
    copy = (
        f"INSERT INTO algo_deal (bar_open_at, status, side, {', '.join(columns)}) "
        f"SELECT %s, %s, %s, {', '.join(columns)} FROM algo_deal WHERE id = {first.pk}"
    )
    with refused("deal_once_per_signal"):
        sql(copy, first.bar_open_at, "CANCELED", "BUY")
    with refused("deal_one_live_per_market"):
        sql(copy, NOW, "PLANNED", "BUY")
    sql(copy, NOW, "CANCELED", "BUY")


def test_a_deal_gets_one_entry_and_one_live_order_of_every_other_role():
    deal = make_deal()
    make_order(deal)
    with refused("order_leg_once"):
        make_order(deal)
    with refused("order_one_entry_per_deal"):
        make_order(deal, leg=2)
    make_order(deal, leg=2, adoptions=1, status=S.OPEN)  # it is at the exchange already: refusing it would hide it
    for role in (Role.STOP, Role.TARGET, Role.EXIT):
        rule = "order_one_live_exit_per_deal" if role == Role.EXIT else "order_one_live_stop_and_target"
        standing = make_order(deal, role=role, status=S.CANCELING)
        with refused(rule):
            make_order(deal, role=role)
        change(standing, "status = 'CANCELED'")
        make_order(deal, role=role)


def test_a_stop_that_turns_up_beside_its_successor_is_adopted_all_the_same():
    deal = make_open_deal()
    lost = make_order(deal, role=Role.STOP, status=S.REJECTED)
    make_order(deal, role=Role.STOP, status=S.OPEN)
    change(lost, "status = 'OPEN', adoptions = 1")


def test_an_order_begins_as_a_plan_unless_it_was_found_at_the_exchange():
    deal = make_deal()
    begin = (
        "INSERT INTO algo_order (deal_id, account_id, market_id, role, leg, client_order_id, exchange_order_id, side, "
        "type, quantity, status, filled_quantity, fee, fee_asset, reason, raw, attempts, adoptions, balance_asset, "
        f"created_at) VALUES ({deal.pk}, {deal.account_id}, {deal.market_id}, 'ENTRY', 1, 'T1', %s, 'BUY', 'MARKET', "
        "1, %s, %s, 0, '', '', '{}', %s, %s, '', now())"
    )
    for name, status, filled, attempts in (
        (None, "SUBMITTED", 0, 0),
        (None, "FILLED", 1, 0),
        (None, "PENDING", 1, 0),
        (None, "PENDING", 0, 1),
        ("x1", "PENDING", 0, 0),
    ):
        with refused("order_begins_pending"):
            sql(begin, name, status, filled, attempts, 0)
    sql(begin, "x1", "OPEN", 0, 0, 1)


SEND = "status = 'SUBMITTED', attempts = attempts + 1, submitted_at = now()"
RELEASE = "status = 'PENDING', attempts = 0, submitted_at = NULL, unknown_since = NULL"


def test_an_entry_is_sent_once():
    entry = make_order()
    change(entry, SEND)
    for again in (SEND, "attempts = 2", "attempts = 0"):
        with refused("order_sends_counted"):
            change(entry, again)
    with refused("order_sends_counted"):
        change(make_order(), "status = 'SUBMITTED'")  # a send that leaves no trace
    change(entry, "status = 'PENDING'")  # released, but not as unsent: its one attempt is used up
    with refused("order_sends_counted"):
        change(entry, "status = 'SUBMITTED'")
    with refused("order_entry_sent_once"):
        change(entry, SEND)


def test_an_entry_is_released_as_long_as_nobody_doubts_that_it_never_left():
    entry = make_order()
    change(entry, SEND)
    change(entry, RELEASE)
    change(entry, SEND)
    change(entry, "unknown_since = now()")
    with refused("order_entry_release_undoubted"):
        change(entry, RELEASE)
    with refused("order_doubt_kept"):
        change(entry, "unknown_since = NULL")
    change(entry, "status = 'OPEN', unknown_since = NULL")


def test_a_resting_order_is_sent_again_after_doubt_and_never_after_it_was_confirmed():
    stop = make_order(role=Role.STOP)
    change(stop, SEND)
    change(stop, "unknown_since = now()")
    change(stop, "status = 'PENDING', unknown_since = NULL")
    change(stop, SEND)
    for confirmed in ("exchange_order_id = 'x1'", "accepted_at = now()", "filled_quantity = 0.001"):
        with refused("order_release_unsent"):
            change(stop, f"status = 'PENDING', {confirmed}")


def test_who_lost_the_lock_neither_sends_nor_may_his_entry_be_sent_again():
    sent, planned = make_order(), make_order()
    AccountLock.objects.create(account=sent.account, epoch=7)
    AccountLock.objects.create(account=planned.account, epoch=8)
    with refused("order_sent_under_the_lock"):
        change(planned, SEND + ", epoch = 7")
    change(planned, SEND + ", epoch = 8")
    change(planned, RELEASE)
    change(sent, SEND + ", epoch = 7")
    sql("UPDATE algo_accountlock SET epoch = 8")
    with refused("order_entry_release_undoubted"):
        change(sent, RELEASE)


def test_a_fill_is_booked_once_and_what_was_filled_stays_filled():
    order = make_order(status=S.PARTIALLY_FILLED, filled_quantity="0.004")
    fill = make_fill(order, quantity="0.004")
    with refused("fill_booked_once"):
        make_fill(order, trade_id=fill.trade_id)
    with refused("order_fill_kept"):
        change(order, "filled_quantity = 0.003")
    with refused("order_fill_within_quantity"):
        change(order, "filled_quantity = 0.011")
    with refused("fill_positive"):
        make_fill(order, quantity=0)


# --- what never changes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "assignment",
    [
        "role = 'EXIT'",
        "leg = 9",
        "client_order_id = 'other'",
        "side = 'SELL'",
        "type = 'LIMIT'",
        "quantity = quantity * 2",
        "price = 1",
        "stop_price = 1",
        "created_at = now()",
    ],
)
def test_an_order_stays_what_was_planned(assignment):
    with refused("order_identity"):
        change(make_order(status=S.OPEN), assignment)


def test_an_order_stays_with_its_deal_its_pair_and_its_name_at_the_exchange():
    order, other = make_order(role=Role.STOP, status=S.OPEN, exchange_order_id="x1"), make_order()
    for column, value in (
        ("deal_id", other.deal_id),
        ("account_id", other.account_id),
        ("market_id", other.deal.config.data_market_id),
    ):
        with refused("order_identity"):
            change(order, f"{column} = %s", value)
    change(order, "pair_id = %s", other.pk)
    with refused("order_identity"):
        change(order, "pair_id = NULL")
    for name in ("'x2'", "NULL"):
        with refused("order_exchange_id_kept"):
            change(order, f"exchange_order_id = {name}")


@pytest.mark.parametrize(
    "assignment",
    [
        """rules = '{"stop_loss_percent": 99}'""",
        "side = 'SELL'",
        "bar_open_at = now()",
        "planned_quantity = 1",
        "planned_price = 1",
        "protection_mode = 1",
        "created_at = now()",
        "signal_id = 1",
    ],
)
def test_a_deal_keeps_its_rules_and_its_plan(assignment):
    with refused("deal_frozen"):
        change(make_deal(), assignment)


def test_a_deal_stays_with_its_strategy_account_and_market():
    deal, other = make_open_deal(), make_deal()
    for column in ("config_id", "account_id"):
        with refused("deal_frozen"):
            change(deal, f"{column} = %s", getattr(other, column))
    with refused("deal_frozen"):
        change(deal, "market_id = %s", deal.config.data_market_id)


@pytest.mark.parametrize(("side", "on", "back"), [("BUY", 1, -1), ("SELL", -1, 1)])
def test_a_stop_is_placed_at_the_opening_and_then_only_moves_on(side, on, back):
    deal = make_deal(side=side)
    with refused("deal_stop_never_moves_back"):
        change(deal, f"stop_price = stop_price + {on}")  # not open yet
    change(deal, "status = 'ENTERING'")
    opening = f"initial_stop_price = initial_stop_price + {back}, target_price = target_price + {back}"
    change(deal, f"status = 'OPEN', opened_at = now(), stop_price = stop_price + {back}, {opening}")
    change(deal, f"stop_price = stop_price + {on}")
    with refused("deal_stop_never_moves_back"):
        change(deal, f"stop_price = stop_price + {back}")
    with refused("deal_prices_set_at_opening"):
        change(deal, opening)
    with refused("deal_opened_once"):
        change(deal, "opened_at = NULL")
    change(deal, "status = 'EXITING'")
    with refused("deal_stop_never_moves_back"):
        change(deal, f"stop_price = stop_price + {on}")


@pytest.mark.parametrize(("side", "on", "back"), [("BUY", 1, -1), ("SELL", -1, 1)])
def test_a_stop_moves_back_only_where_that_is_counted_in_the_same_update(side, on, back):
    deal = make_deal(side=side)
    change(deal, "status = 'ENTERING'")
    change(deal, "status = 'OPEN', opened_at = now()")
    change(deal, f"stop_price = stop_price + {back}, stop_loosened = stop_loosened + 1")
    for counted in ("stop_loosened + 1", "stop_loosened - 1"):
        with refused("deal_loosening_counted"):
            change(deal, f"stop_loosened = {counted}")
    with refused("deal_loosening_counted"):
        change(deal, f"stop_price = stop_price + {on}, stop_loosened = stop_loosened + 1")
    with refused("deal_stop_never_moves_back"):
        change(deal, f"stop_price = stop_price + {back}, stop_loosened = stop_loosened + 2")
    change(deal, "status = 'EXITING'")
    with refused("deal_stop_never_moves_back"):
        change(deal, f"stop_price = stop_price + {back}, stop_loosened = stop_loosened + 1")


def test_unprotected_time_is_never_talked_away_and_a_closed_deal_says_why():
    deal = make_open_deal(unprotected_seconds=3)
    change(deal, "unprotected_seconds = 3.5")
    with refused("deal_unprotected_time_kept"):
        change(deal, "unprotected_seconds = 3.4")
    with refused("deal_closed_has_reason"):
        change(deal, "status = 'CLOSED'")


def test_impossible_amounts_and_names_used_twice_are_refused():
    order = make_order(status=S.OPEN, exchange_order_id="x1")
    with refused("order_quantity_positive"):
        make_order(role=Role.EXIT, quantity=0)
    with refused("order_exchange_id_once"):
        make_order(order.deal, role=Role.STOP, status=S.OPEN, exchange_order_id="x1")
    with pytest.raises(IntegrityError, match="client_order_id"), transaction.atomic():
        make_order(client_order_id=order.client_order_id)


# --- history ----------------------------------------------------------------------------------------------------------


def history(order: Order) -> list[OrderEvent]:
    """PENDING, SUBMITTED, OPEN."""
    order = Order.objects.get(pk=order.pk)
    for old, new in (("", "PENDING"), ("PENDING", "SUBMITTED"), ("SUBMITTED", "OPEN")):
        make_order_event(order, from_status=old, to_status=new, raw={"price": 1.10, "what": "…"})
    return list(order.events.order_by("id"))


def broken(order: Order) -> list[tuple[int | None, str]]:
    return [
        (b.event_id, b.what.split()[0]) for b in broken_histories() if (b.subject, b.subject_id) == ("order", order.pk)
    ]


def test_what_was_written_stays_as_it_was_written():
    order = make_order(status=S.OPEN)
    history(order)
    make_fill(order)
    sql("INSERT INTO algo_dealevent (deal_id, at, kind, from_status, to_status, detail, hash) "
        "VALUES (%s, now(), 'status', '', 'PLANNED', '{}', '')", order.deal_id)  # fmt: skip
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    for table in ("orderevent", "dealevent", "fill"):
        with refused("history_is_kept"):
            sql(f"UPDATE algo_{table} SET id = id")
    for table in ("orderevent", "dealevent", "fill", "order", "deal"):
        with refused("history_is_kept"):
            sql(f"DELETE FROM algo_{table}")
        with refused("history_is_kept"):
            sql("SET LOCAL algo.may_erase_history = off")
            sql(f"TRUNCATE algo_{table} CASCADE")


def test_a_history_holds_together_and_its_hashes_are_of_this_row_and_the_one_before():
    first, second = make_order(status=S.OPEN), make_order(status=S.OPEN)
    for number in range(2):  # two histories, told in turns
        for order in (first, second):
            old, new = (("", "PENDING"), ("PENDING", "OPEN"))[number]
            make_order_event(order, from_status=old, to_status=new, hash="forged")
    assert broken(first) == broken(second) == []
    hashes = list(OrderEvent.objects.values_list("hash", flat=True))
    assert len(set(hashes)) == 4
    assert all(len(each) == 64 for each in hashes)


def test_a_history_that_was_tampered_with_shows_where():
    order = make_order(status=S.OPEN)
    _, second, third = history(order)
    assert broken(order) == []
    for tampering, row in (
        ("reason = 'it was so'", second),
        ("""raw = '{"price": 2}'""", second),
        ("at = at + interval '1 microsecond'", second),
        ("to_status = 'FILLED'", third),
    ):
        with unguarded(), transaction.atomic():
            change(row, tampering)
            assert broken(order)[0] == (row.pk, "the"), tampering
            transaction.set_rollback(True)
    with unguarded(), transaction.atomic():
        sql("DELETE FROM algo_orderevent WHERE id = %s", second.pk)
        assert broken(order) == [(third.pk, "the")]
        transaction.set_rollback(True)
    with unguarded(), transaction.atomic():
        sql("DELETE FROM algo_orderevent WHERE id = %s", third.pk)  # the chain is whole; the order knows better
        assert broken(order) == [(None, "its")]
        transaction.set_rollback(True)
    assert broken(order) == []


def test_a_history_that_leaves_a_step_out_shows_it():
    order = make_order(status=S.OPEN)
    make_order_event(order, to_status="PENDING")
    gap = make_order_event(order, from_status="SUBMITTED", to_status="OPEN")
    assert broken(order) == [(gap.pk, "goes")]


def test_a_deals_history_is_chained_too_and_goes_on_from_its_plan():
    planned, entering, unexplained = make_deal(), make_deal(status="ENTERING"), make_deal(status="ENTERING")
    for kind in ("status", "unprotected"):
        old = "PLANNED" if kind == "status" else "ENTERING"
        DealEvent.objects.create(deal=entering, at=NOW, kind=kind, from_status=old, to_status="ENTERING")
    assert {(each.subject, each.subject_id) for each in broken_histories()} == {("deal", unexplained.pk)}
    with unguarded():
        sql("UPDATE algo_dealevent SET kind = 'other' WHERE kind = 'status'")
    assert {each.subject_id for each in broken_histories()} == {unexplained.pk, entering.pk}
    assert planned.pk not in {each.subject_id for each in broken_histories()}


def test_the_later_event_has_the_higher_number_whatever_number_it_came_with():
    """Two writers may draw their numbers in one order and write in the other."""
    order = make_order()
    first = make_order_event(order)
    second = make_order_event(order, id=first.pk - 1, from_status="PENDING")
    assert OrderEvent.objects.latest("id").hash != first.hash
    assert second.pk > first.pk
    assert broken(order) == []


@pytest.mark.django_db(transaction=True)
def test_many_writers_continue_one_history_one_after_the_other():
    order = make_order()
    make_order_event(order)
    start = threading.Barrier(6)

    def write() -> None:
        try:
            start.wait(5)
            for _ in range(20):
                make_order_event(order, from_status="PENDING")
        finally:
            connection.close()

    writers = [threading.Thread(target=write) for _ in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert OrderEvent.objects.count() == 121
    assert broken(order) == []


@pytest.mark.django_db(transaction=True)
def test_histories_from_before_the_chain_are_chained_by_the_migration():
    order = make_order(status=S.OPEN)
    before = [event.hash for event in history(order)]
    try:
        migrate_to(("algo", "0005_orders_that_cannot_get_lost"))
        sql("UPDATE algo_orderevent SET hash = ''")
    finally:
        migrate_to(latest())
    assert [event.hash for event in order.events.order_by("id")] == before
    assert broken(order) == []
