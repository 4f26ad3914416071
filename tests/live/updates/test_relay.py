"""From a change of the ledger to one event in the Redis stream, whatever dies in between."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from django.conf import settings
from django.db import connection, transaction

from algo.api.live import events_of
from algo.api.serializers import (
    DealSerializer,
    FillSerializer,
    OrderSerializer,
    SignalSerializer,
    StrategySerializer,
    one_of,
)
from algo.api.tickets import TicketSerializer
from algo.live.redis_link import connect
from algo.live.updates import relay as relays
from algo.live.updates.events import ADMINS, EVERYBODY, event_of, place_of
from algo.live.updates.relay import Relay
from algo.models import Deal, EventKind, LiveChange, Order
from algo.services.alone import alone
from algo.services.control import kill_switch_set
from algo.services.live_changes import live_changes_prune
from algo.services.outbox import event_record
from tests.execution.processes import wait_for
from tests.factories import (
    NOW,
    by,
    make_account,
    make_closed_deal,
    make_config,
    make_deal,
    make_fill,
    make_market,
    make_order,
    make_signal,
    make_ticket,
)

STREAM = "test:live"
pytestmark = pytest.mark.django_db


@pytest.fixture
def server():
    server = connect(settings.REDIS_URL, 1.0)
    server.delete(STREAM)
    return server


@pytest.fixture
def relay(server) -> Relay:
    return Relay(server, events_of, stream=STREAM)


def told(server) -> list[tuple[str, dict]]:
    events = [event_of(fields) for _, fields in server.xrange(STREAM)]
    return [(event.kind, json.loads(event.data)) for event in events if event.kind != "begin"]


def kinds(server) -> list[str]:
    return [kind for kind, _ in told(server)]


def test_every_change_of_a_shown_column_is_noted_in_its_own_transaction():
    deal = make_deal()
    LiveChange.objects.all().delete()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Deal.objects.filter(pk=deal.pk).update(note="rolled back")
        raise ZeroDivisionError
    assert not LiveChange.objects.exists()
    Deal.objects.filter(pk=deal.pk).update(note="kept")
    assert [(row.kind, row.row_id) for row in LiveChange.objects.all()] == [("deal", deal.pk)]


def test_a_look_at_an_order_is_no_news():
    order = make_order()
    LiveChange.objects.all().delete()
    Order.objects.filter(pk=order.pk).update(checked_at=NOW, raw={"status": "still there"}, reason=order.reason)
    assert not LiveChange.objects.exists()


SHOWN = {
    "deal": DealSerializer,
    "order": OrderSerializer,
    "fill": FillSerializer,
    "signal": SignalSerializer,
    "strategy": StrategySerializer,
    "ticket": TicketSerializer,
}
# Never written after the row itself; a strategy's hand of time moves with everything else that is shown.
WRITTEN_ONCE = {
    "fill": {"id", "order", "account", "trade_id", "price", "quantity", "fee", "fee_asset", "executed_at"},
    "signal": {"id", "config", "bar_open_at", "created_at", "side", "reason", "confidence", "price", "indicators"},
    "ticket": {"id", "account", "market", "kind", "reference", "summary", "details", "created_at"},
    "strategy": {"id", "created_at", "updated_at"},
}


@pytest.mark.parametrize("kind", SHOWN)
def test_the_triggers_look_at_every_column_that_the_api_shows(kind):
    serializer = SHOWN[kind]
    model = serializer.Meta.model
    names = {field.source.partition(".")[0] for field in one_of(serializer).fields.values()}
    columns = {field.name: field.column for field in model._meta.concrete_fields}
    shown = {columns[name] for name in names - WRITTEN_ONCE.get(kind, {"id"}) if name in columns}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'live_changed' AND tgrelid = %s::regclass",
            [model._meta.db_table],
        )
        looked_at = {
            name for (text,) in cursor.fetchall() for name in re.findall(r'new\."?(\w+)"?', text, re.IGNORECASE)
        }
    assert shown - looked_at == set()


def test_a_row_that_changed_several_times_is_told_once_as_it_is_now(relay, server):
    deal = make_deal(note="first")
    order = make_order(deal)
    Deal.objects.filter(pk=deal.pk).update(note="last")
    assert relay.pass_on() > 0
    assert [(kind, row["id"]) for kind, row in told(server) if kind in ("deal", "order")] == [
        ("deal", deal.pk),
        ("order", order.pk),
    ]
    assert [row["note"] for kind, row in told(server) if kind == "deal"] == ["last"]
    assert relay.pass_on() == 0


def test_what_was_told_is_removed_after_a_while(relay, server, monkeypatch):
    make_deal()
    relay.pass_on()
    assert LiveChange.objects.exists()
    monkeypatch.setattr(relays, "KEPT_SECONDS", 0)
    relay.pass_on()
    assert not LiveChange.objects.exists()


def test_of_very_much_that_was_told_only_the_newest_is_kept(relay, server, monkeypatch):
    monkeypatch.setattr(relays, "MOST_KEPT", 1)
    LiveChange.objects.all().delete()
    orders = [make_order(), make_order()]
    LiveChange.objects.exclude(kind="order").delete()
    assert relay.pass_on() == 2
    assert LiveChange.objects.get().row_id == orders[-1].pk


def test_what_redis_took_and_forgot_is_told_again(relay, server):
    make_deal()
    relay.pass_on()
    kept = server.xrange(STREAM)[0][0]
    make_deal(make_config(), note="forgotten")
    relay.pass_on()
    forgotten = [text for text, _ in server.xrange(STREAM, f"({kept}")]
    server.xdel(STREAM, *forgotten)  # as one that was killed before it wrote its file
    relay._sure = False  # its connection broke
    relay.pass_on()
    assert "forgotten" in [row.get("note") for _, row in told(server)]


def test_one_query_for_each_kind_however_many_rows(relay, django_assert_num_queries):
    config = make_config()
    orders = [make_order(make_closed_deal(config)) for _ in range(20)]
    for order in orders:
        make_fill(order)
    relay._look_what_is_told()
    changes = list(LiveChange.objects.filter(kind__in=("deal", "order", "fill")))
    with django_assert_num_queries(3):
        assert len(events_of(changes)) == 60


def test_who_may_hear_of_it_is_told_with_each(relay, server):
    account = make_account()
    config = make_config(account=account)
    make_signal(config)
    make_ticket(account)
    for target in (None, config, account, make_market("ETHUSDT")):
        kill_switch_set("no_entries", reason="look", by=by(), at=NOW, target=target)
    event_record(EventKind.GUARDIAN_EVICTED, {"holder": "a"}, at=NOW)
    event_record(EventKind.EXCHANGE_DOWN, {"exchange": "wallex"}, at=NOW)
    event_record(EventKind.ACCOUNT_STOPPED, {"account": account.name}, at=NOW, account=account)
    event_record(EventKind.DEAL_OPENED, {}, at=NOW, account=account)  # good news is no alarm
    relay.pass_on()
    events = [event_of(fields) for _, fields in server.xrange(STREAM)]
    heard = {(event.kind, row.get("scope") or row.get("kind")): event.audience
             for event in events for row in [json.loads(event.data)] if event.kind in ("system", "alarm", "signal")
             if row.get("kind") != "kill_switch.changed"}  # fmt: skip
    mine = str(account.pk)
    assert heard == {
        ("signal", None): mine,
        ("system", "system"): EVERYBODY,
        ("system", "strategy"): mine,
        ("system", "account"): mine,
        ("system", "market"): EVERYBODY,
        ("alarm", "guardian.evicted"): ADMINS,
        ("alarm", "exchange.down"): EVERYBODY,
        ("alarm", "account.stopped"): mine,
    }


def test_a_strategy_that_is_deleted_is_told_to_those_who_saw_it(relay, server):
    config = make_config()
    pk, account = config.pk, str(config.account_id)
    relay.pass_on()
    server.delete(STREAM)
    config.delete()
    relay._sure = False
    relay.pass_on()
    (event,) = [each for _, fields in server.xrange(STREAM) for each in [event_of(fields)] if each.kind == "strategy"]
    assert (event.data, event.audience) == (f'{{"id":{pk},"removed":true}}', account)


def test_a_relay_that_dies_between_stream_and_database_tells_nothing_twice(relay, server, monkeypatch):
    make_deal()

    def dies(ids):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(relay, "_keep", dies)
        relay._sure = True
        with pytest.raises(KeyboardInterrupt):
            relay.pass_on()
    before = told(server)
    assert "deal" in kinds(server)
    assert LiveChange.objects.exists()
    make_signal()
    next_one = Relay(server, events_of, stream=STREAM)
    next_one.pass_on()
    assert told(server)[: len(before)] == before
    assert "deal" not in [kind for kind, _ in told(server)[len(before) :]]
    assert "signal" in [kind for kind, _ in told(server)[len(before) :]]


def test_a_database_from_a_copy_whose_numbers_begin_anew_is_told_all_the_same(relay, server):
    make_deal()
    relay.pass_on()
    number = max(int(key.partition("@")[0]) for _, fields in server.xrange(STREAM) for key in event_of(fields).changes)
    again = make_deal(make_config())
    LiveChange.objects.all().delete()
    LiveChange.objects.create(pk=number, kind="deal", row_id=again.pk)
    Relay(server, events_of, stream=STREAM).pass_on()
    assert told(server)[-1][1]["id"] == again.pk


def test_a_row_that_cannot_be_told_holds_up_nothing(server):
    def fails(changes):
        raise ValueError("a defect")

    make_deal()
    relay = Relay(server, fails, stream=STREAM)
    assert relay.pass_on() > 0
    assert kinds(server) == ["reset"]
    assert relay.pass_on() == 0


def test_what_nobody_tells_is_bounded_and_comes_to_one_reset(relay, server):
    LiveChange.objects.all().delete()
    LiveChange.objects.bulk_create(LiveChange(kind="fill", row_id=number) for number in range(30))
    assert live_changes_prune(keep=20) == 10
    assert live_changes_prune(keep=21) == 0
    relay.pass_on()
    assert kinds(server) == ["reset"]  # these fills are not there


def test_places_only_grow(relay, server):
    for _ in range(3):
        make_deal(make_config())
        relay.pass_on()
    places = [place_of(text) for text, _ in server.xrange(STREAM)]
    assert all(one < other for one, other in pairwise(places))


@pytest.mark.django_db(transaction=True)
def test_one_relay_leads_and_another_takes_over(server):
    with alone(relays._LEADING, 0) as mine:
        assert mine
        waiting = Relay(server, events_of, stream=STREAM)
        waiting.start()
        make_deal()
        assert not waiting.leads
        assert kinds(server) == []
    wait_for(lambda: "deal" in kinds(server), 15, "the next one leads and tells")
    assert waiting.leads
    waiting.stop()
