"""Candles, journal and histories are kept in pieces of time: prepared ahead, shrunk and dropped without a trace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.utils import DatabaseError

from algo import tasks
from algo.models import Candle, DealEvent, Heartbeat, OrderEvent
from algo.models import Decision as Journal
from algo.selectors.audit import broken_histories
from algo.selectors.candles import candles_range
from algo.services.partitions import candles_drop, journal_shrink, partitions_prepare
from providers.types import OrderStatus, Resolution
from tests.factories import (
    NOW,
    make_config,
    make_deal,
    make_decision,
    make_market,
    make_order,
    make_order_event,
)
from tests.migrating import latest, migrate_to

pytestmark = pytest.mark.django_db

TABLES = ("algo_candle", "algo_decision", "algo_orderevent", "algo_dealevent")
FAR = datetime(2044, 5, 17, 12, 0, tzinfo=UTC)  # beyond everything that is prepared


def partitions(table: str) -> list[tuple[str, str]]:
    """Name and bounds, as PostgreSQL tells them, from the oldest on."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT part, pg_get_expr(relpartbound, oid) FROM algo_partitions(%s) JOIN pg_class ON relname = part "
            "ORDER BY ends",
            [table],
        )
        return cursor.fetchall()


def make_candle(market, open_time: datetime) -> Candle:
    price = Decimal("100.5")
    return Candle.objects.create(
        market=market, resolution=Resolution.M1, open_time=open_time,
        open=price, high=price, low=price, close=price, volume=1,
    )  # fmt: skip


def settled() -> None:
    """As after a commit: no foreign key is still to be checked."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def partition_of(model, row) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT tableoid::regclass::text FROM {model._meta.db_table} WHERE id = %s", [row.pk])
        return cursor.fetchone()[0]


def test_each_table_has_one_partition_after_the_other_without_a_hole_for_a_year_ahead():
    for table in TABLES:
        *pieces, (beyond, rest) = partitions(table)
        assert (beyond, rest) == (f"{table}_beyond", "DEFAULT")
        bounds = [bound.removeprefix("FOR VALUES FROM (").removesuffix(")").split(") TO (") for _, bound in pieces]
        assert bounds[0][0] == "MINVALUE"
        assert [bound[0] for bound in bounds[1:]] == [bound[1] for bound in bounds[:-1]]
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {bounds[-1][1]}::timestamptz >= now() + interval '364 days'")
            assert cursor.fetchone() == (True,)


def test_the_partitions_of_a_year_more_are_made_once():
    a_year_later = datetime.now(UTC) + timedelta(days=366)
    made = partitions_prepare(a_year_later)
    assert made >= 4 + 12 + 1 + 1  # quarters of candles, months of the journal, a year of each history
    assert partitions_prepare(a_year_later) == 0
    assert partitions("algo_decision")[-2][0].startswith("algo_decision_until_20")


def test_what_comes_too_far_ahead_is_stored_and_gets_its_partition_with_the_next_look():
    row = make_decision(bar_open_at=FAR)
    assert partition_of(Journal, row) == "algo_decision_beyond"
    partitions_prepare(datetime.now(UTC))
    assert partition_of(Journal, row) == "algo_decision_until_2044_06_01"
    assert Journal.objects.get() == row
    assert partition_of(Journal, make_decision(bar_open_at=FAR + timedelta(days=40))) == "algo_decision_beyond"
    with pytest.raises(IntegrityError), transaction.atomic():
        make_decision(row.config, bar_open_at=FAR)


def test_a_month_after_its_end_a_month_of_the_journal_keeps_only_what_said_something():
    config = make_config()
    silent = [make_decision(config, bar_open_at=FAR + timedelta(minutes=number)) for number in range(3)]
    said = [make_decision(config, bar_open_at=FAR - timedelta(minutes=1), outcome="denied", journal={"rsi": "71.2"})]
    partitions_prepare(FAR)
    running = make_decision(config, bar_open_at=FAR + timedelta(days=30))
    partitions_prepare(FAR)
    settled()
    may_is_over = datetime(2044, 6, 1, tzinfo=UTC)
    assert journal_shrink(may_is_over + timedelta(days=29)) == 0
    assert Journal.objects.count() == 5
    assert journal_shrink(may_is_over + timedelta(days=30)) == 3
    assert set(Journal.objects.all()) == {*said, running}
    assert Journal.objects.get(outcome="denied").journal == {"rsi": "71.2"}
    assert journal_shrink(may_is_over + timedelta(days=30)) == 0
    late = make_decision(config, bar_open_at=silent[0].bar_open_at)  # the place is there, and numbers go on
    assert late.pk > running.pk
    with pytest.raises(IntegrityError), transaction.atomic():
        make_decision(config, bar_open_at=said[0].bar_open_at)


def test_candles_are_kept_for_ever_unless_told_otherwise_and_then_go_by_the_quarter(settings):
    market = make_market()
    old = make_candle(market, FAR)
    partitions_prepare(FAR)
    new = make_candle(market, FAR + timedelta(days=60))  # of the next quarter
    assert tasks.prune_candles() == 0
    settled()
    candles_drop(datetime(2044, 7, 30, tzinfo=UTC), days=30)
    assert set(Candle.objects.all()) == {old, new}
    assert candles_drop(datetime(2044, 7, 31, tzinfo=UTC), days=30) >= 1
    assert list(Candle.objects.all()) == [new]
    assert candles_drop(datetime(2044, 7, 31, tzinfo=UTC), days=30) == 0
    assert make_candle(market, old.open_time).close_float == 100.5


def test_a_range_of_candles_is_read_from_the_partitions_of_its_time_alone():
    market = make_market()
    make_candle(market, FAR)
    partitions_prepare(FAR)
    with connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN SELECT open_time FROM algo_candle WHERE market_id = %s AND resolution = '1m' "
            "AND open_time >= %s AND open_time < %s",
            [market.pk, FAR - timedelta(days=30), FAR],
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert {name for name, _ in partitions("algo_candle") if f" on {name} " in plan} == {"algo_candle_until_2044_07_01"}
    assert (
        len(candles_range(market, Resolution.M1, FAR - timedelta(days=30), FAR + timedelta(minutes=1)).open_time) == 1
    )


def test_no_partition_of_a_history_can_be_emptied():
    make_order_event(make_order())
    for table in ("algo_orderevent", "algo_dealevent"):
        for name, _ in partitions(table):
            with pytest.raises(DatabaseError, match="is refused"), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                cursor.execute("SET LOCAL algo.may_erase_history = off")
                cursor.execute(f"TRUNCATE {name}")


@pytest.mark.django_db(transaction=True)
def test_the_upgrade_keeps_every_row_its_number_its_chain_and_its_constraints():
    order = make_order(status=OrderStatus.SUBMITTED)
    DealEvent.objects.create(deal=order.deal, at=NOW, kind="protected", from_status=order.deal.status,
                             to_status=order.deal.status)  # fmt: skip
    candle, decision = make_candle(make_market(symbol="ETHUSDT"), NOW), make_decision()
    try:
        migrate_to(("algo", "0028_events_by_kind"))
        first = make_order_event(order, to_status="PENDING")
        with connection.cursor() as cursor:
            cursor.execute("SELECT relkind FROM pg_class WHERE relname = 'algo_orderevent'")
            assert cursor.fetchone() == ("r",)
    finally:
        migrate_to(latest())
    second = make_order_event(order, from_status="PENDING", to_status="SUBMITTED")
    assert [event.pk for event in OrderEvent.objects.order_by("id")] == [first.pk, second.pk]
    assert second.pk == first.pk + 1
    assert not [broken for broken in broken_histories() if broken.subject == "order"]
    assert Journal.objects.get() == decision
    assert Candle.objects.get() == candle
    assert Candle.objects.get().close_float == 100.5
    for again in (lambda: make_candle(candle.market, NOW), lambda: make_decision(decision.config,
                  bar_open_at=decision.bar_open_at)):  # fmt: skip
        with pytest.raises(IntegrityError), transaction.atomic():
            again()
    with pytest.raises(DatabaseError, match="is refused"), transaction.atomic():
        OrderEvent.objects.filter(pk=first.pk).update(reason="another")
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM algo_strategyconfig WHERE id = %s", [decision.config_id])
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def test_the_nightly_tasks_do_it(settings):
    settings.KEEP_CANDLES_DAYS = 1
    make_decision()
    assert tasks.prepare_partitions() >= 0
    assert tasks.prune_journal() == 0
    assert tasks.prune_candles() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: make_order(status=OrderStatus.OPEN), {"checked_at": NOW}),
        (make_deal, {"best_price": Decimal("50001")}),
        (lambda: make_order().account, {"reconciled_at": NOW}),
        (make_config, {"last_bar_at": NOW}),
        (lambda: Heartbeat.objects.create(name="beat", at=NOW), {"at": NOW + timedelta(seconds=5)}),
    ],
    ids=["order", "deal", "account", "strategy", "heartbeat"],
)
def test_what_changes_every_few_seconds_changes_in_place_and_leaves_the_indexes_alone(make, change):
    row = make()
    table = type(row)._meta.db_table

    def counted() -> tuple[int, int]:
        """Updates of the table in this transaction; and those of them that touched no index."""
        cursor.execute(
            "SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid) FROM pg_class "
            "WHERE relname = %s",
            [table],
        )
        return cursor.fetchone()

    with transaction.atomic(), connection.cursor() as cursor:
        before = counted()
        for number in range(10):
            moved = {name: value + (timedelta(seconds=number) if isinstance(value, datetime) else number)
                     for name, value in change.items()}  # fmt: skip
            type(row).objects.filter(pk=row.pk).update(**moved)
        after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (10, 10)
