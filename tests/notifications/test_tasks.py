from __future__ import annotations

import pytest

from algo import tasks
from algo.exchanges import CLOCK
from algo.models import Delivery, DeliveryState
from tests import factories as make

pytestmark = pytest.mark.django_db


def test_each_channel_with_something_to_send_is_a_task_of_its_own(receiver, settings, monkeypatch):
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET, settings.DEBUG = receiver.url, "secret", True
    handed_on = []
    monkeypatch.setattr(tasks.deliver_channel, "apply_async", lambda args, **_: handed_on.append(*args))
    away = make.make_channel(make.make_user(role=make.rights.Role.ADMIN), target="https://127.0.0.1/", secret="s")
    make.make_outbox_event("deal.opened", created_at=CLOCK.now())
    assert tasks.deliver_outbox() == 2
    operators = Delivery.objects.get(channel__owner=None).channel
    assert sorted(handed_on) == sorted([away.pk, operators.pk])
    assert [tasks.deliver_channel(pk) for pk in (away.pk, operators.pk)] == [0, 1]
    assert Delivery.objects.get(channel=operators).state == DeliveryState.DELIVERED
    assert "refused" in Delivery.objects.get(channel=away).last_error
    handed_on.clear()
    assert (tasks.deliver_outbox(), handed_on) == (0, [])  # the one is told, the other is left alone for a while
