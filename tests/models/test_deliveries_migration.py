from __future__ import annotations

from datetime import timedelta

import pytest

from algo.models import Delivery, OutboxEvent
from tests.factories import NOW, make_outbox_event
from tests.migrating import latest, migrate_to

pytestmark = pytest.mark.django_db(transaction=True)
BEFORE = ("algo", "0024_preferences")


def test_what_became_of_events_so_far_is_kept_as_deliveries_of_the_operators_channel(settings):
    settings.WEBHOOK_URL = "https://hooks.example.org/"
    names = ("delivered", "given_up", "waiting", "failing")
    pks = {name: make_outbox_event().pk for name in names}
    try:
        old = migrate_to(BEFORE).get_model("algo", "OutboxEvent").objects
        later = NOW + timedelta(hours=1)
        old.filter(pk=pks["delivered"]).update(delivered_at=later, attempts=2)
        old.filter(pk=pks["given_up"]).update(attempts=30, next_attempt_at=None, last_error="503")
        old.filter(pk=pks["failing"]).update(attempts=3, next_attempt_at=later, last_error="503")
    finally:
        migrate_to(latest())
    rows = Delivery.objects.order_by("event_id").values_list("event_id", "state", "attempts", "delivered_at")
    assert list(rows) == [(pks["delivered"], "delivered", 2, later), (pks["given_up"], "given_up", 30, None)]
    untold = OutboxEvent.objects.filter(fanned_out_at=None).values_list("pk", flat=True)
    assert set(untold) == {pks["waiting"], pks["failing"]}
