"""A receiver that dies for ten minutes, and a worker that dies amid a delivery: nothing is lost, each deal in its
order, every signature valid. Times are passed in; the server, the sockets and the killed process are real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings as platform
from django.db import connection

from algo.models import Delivery, DeliveryState, EventKind, OutboxEvent
from algo.models.event_kinds import CHOOSABLE
from algo.notifications.deliver import LEASE, channel_deliver, channels_due
from algo.notifications.senders import SENDERS
from algo.services.channels import new_secret
from algo.services.fan_out import fan_out
from algo.services.outbox import event_record
from tests import factories as make
from tests.execution.processes import wait_for
from tests.factories import NOW

ROOT = Path(__file__).resolve().parents[2]
STORY = (EventKind.DEAL_OPENED, EventKind.STOP_MOVED, EventKind.PROTECTION_LOST, EventKind.PROTECTION_RESTORED)
TICK = timedelta(seconds=10)


@pytest.fixture(autouse=True)
def loopback_is_allowed(settings):
    settings.NOTIFY_PRIVATE_ADDRESSES = True
    settings.WEBHOOK_URL = ""


@pytest.fixture
def owner():
    return make.make_trader()


@pytest.fixture
def channel(receiver, owner):
    return make.make_channel(owner, target=receiver.url, secret=new_secret())


@pytest.fixture
def verified():
    """What the documentation tells receivers to do, as it stands there."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "notifications.md").read_text(), re.DOTALL)
    [text] = [each for each in examples if "def verified(" in each]
    names: dict = {}
    exec(text, names)
    return names["verified"]


def tick(now):
    """What the beat and its workers do every ten seconds."""
    fan_out(now)
    for pk in channels_due(now):
        channel_deliver(pk, now, SENDERS)


def by_deal(events):
    told = defaultdict(list)
    for identity, deal in events:
        told[deal].append(identity)
    return dict(told)


def is_all_told():
    return not Delivery.objects.filter(state=DeliveryState.WAITING).exists()


@pytest.mark.django_db
def test_receiver_killed_for_ten_minutes_gets_everything_in_order_once_it_is_back(receiver, owner, channel, verified):
    other = make.make_channel(owner, target=receiver.url.replace("/hook", "/other"), secret=new_secret())
    deals = [make.make_open_deal(make.make_config(account=make.make_account(owner=owner))) for _ in range(3)]

    def happen(kind, at):
        for deal in deals:
            event_record(kind, {"deal_id": deal.pk}, at=at, deal=deal)

    happen(EventKind.DEAL_OPENED, NOW)
    tick(NOW)
    assert len(receiver.received) == 6  # to both channels
    receiver.close()
    now = NOW
    for minute in range(10):
        happen(STORY[minute % 4], now)
        for _ in range(6):
            now += TICK
            tick(now)
    assert len(receiver.received) == 6
    assert Delivery.objects.filter(state=DeliveryState.WAITING).count() == 60
    receiver.open()
    happen(EventKind.DEAL_CLOSED, now)
    back_at = now
    while not is_all_told():
        now += TICK
        tick(now)
        assert now - back_at < timedelta(minutes=11), "a receiver that is back is asked within ten minutes"

    wanted = by_deal((f"event_{event.pk}", event.deal_id) for event in OutboxEvent.objects.order_by("pk"))
    for each in (channel, other):
        path = urlsplit(each.target()).path
        got = [(headers, body) for where, headers, body in receiver.received if where == path]
        documents = [verified(headers, body, each.secret()) for headers, body in got]
        assert by_deal((document["id"], document["data"]["deal_id"]) for document in documents) == wanted
        assert len(documents) == len({document["id"] for document in documents}) == 3 * 12  # each exactly once


@pytest.mark.django_db
def test_forged_changed_or_old_message_is_told_by_its_signature(receiver, channel, verified, monkeypatch):
    make.make_delivery(channel=channel)
    tick(NOW)
    [(_, headers, body)] = receiver.received
    assert verified(headers, body, channel.secret())["type"] == "deal.closed"
    for changed, secret in ((body + b" ", channel.secret()), (body, new_secret())):
        with pytest.raises(ValueError, match="not signed by us"):
            verified(headers, changed, secret)
    old = headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)}
    with pytest.raises(ValueError, match="too old"):
        verified(old, body, channel.secret())


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_worker_killed_amid_a_delivery_loses_nothing(receiver, owner, channel, verified):
    """SIGKILL while the receiver has the first message and has not answered: nobody knows whether it was taken."""
    now = datetime.now(UTC)
    deal = make.make_open_deal(make.make_config(account=make.make_account(owner=owner)))
    for kind in STORY:
        event_record(kind, {"deal_id": deal.pk}, at=now, deal=deal)
    fan_out(now)
    receiver.may_answer.clear()
    worker = subprocess.Popen(
        [
            sys.executable,
            "manage.py",
            "shell",
            "-c",
            f"from algo.tasks import deliver_channel as d; d.run({channel.pk})",
        ],
        cwd=ROOT,
        env=worker_environment(),
    )
    try:
        wait_for(lambda: receiver.received, 120, "the worker sent the first message")
        worker.send_signal(signal.SIGKILL)
        assert worker.wait(20) == -signal.SIGKILL
    finally:
        worker.kill()
        worker.wait(20)
    receiver.may_answer.set()
    assert Delivery.objects.filter(state=DeliveryState.WAITING).count() == 4
    assert channels_due(datetime.now(UTC)) == []  # the dead worker's claim stands
    tick(datetime.now(UTC) + LEASE)
    assert is_all_told()
    documents = [verified(headers, body, channel.secret()) for _, headers, body in receiver.received]
    first, *others = [f"event_{event.pk}" for event in OutboxEvent.objects.order_by("pk")]
    assert [document["id"] for document in documents] == [first, first, *others]
    assert json.loads(receiver.received[0][2]) == json.loads(receiver.received[1][2])


def worker_environment():
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    return os.environ | {
        "DATABASE_URL": url,
        "SECRET_KEY": platform.SECRET_KEY,
        "FIELD_ENCRYPTION_KEYS": ",".join(platform.FIELD_ENCRYPTION_KEYS),
        "NOTIFY_PRIVATE_ADDRESSES": "true",
        "WEBHOOK_URL": "",
    }


def test_every_kind_of_event_is_explained_to_receivers():
    text = (ROOT / "docs" / "notifications.md").read_text()
    assert [kind for kind, _ in CHOOSABLE if f"`{kind}`" not in text] == []
