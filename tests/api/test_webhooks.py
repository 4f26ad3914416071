from __future__ import annotations

from datetime import timedelta

import pytest

from algo.models import AuditRecord, Delivery, DeliveryState
from providers.clock import clock_from_env
from tests import factories as make

pytestmark = pytest.mark.django_db
SECRET_URL = "https://user:CANARY@hooks.example.org/CANARY-path?token=CANARY"


@pytest.fixture
def receiver(settings):
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET = SECRET_URL, "CANARY-secret"


@pytest.fixture
def now():
    return clock_from_env().now()


@pytest.fixture
def events(now):
    """One that waits, one that failed and waits, one given up, one delivered."""
    fields = {"created_at": now - timedelta(hours=1)}
    return {
        "waiting": make.make_delivery(**fields),
        "failing": make.make_delivery(attempts=3, last_error="503", next_attempt_at=now + timedelta(hours=1), **fields),
        "given_up": make.make_delivery(
            "deal.opened", attempts=30, last_error="503", state=DeliveryState.GIVEN_UP, **fields
        ),
        "delivered": make.make_delivery(attempts=1, delivered_at=now, state=DeliveryState.DELIVERED, **fields),
    }


def test_admins_see_whether_there_is_a_receiver_and_never_its_secret(staff_api, receiver, events):
    answer = staff_api.get("/api/v1/webhooks")
    told = answer.json()
    assert (told["configured"], told["host"]) == (True, "hooks.example.org")
    assert [told[name] for name in ("waiting", "failing", "given_up", "delivered")] == [2, 1, 1, 1]
    assert "CANARY" not in answer.content.decode()


def test_without_a_receiver_it_says_so_and_sends_nothing(staff_api, settings, events):
    settings.WEBHOOK_URL = ""
    assert (staff_api.get("/api/v1/webhooks").json()["host"], Delivery.objects.count()) == (None, 4)
    assert staff_api.post("/api/v1/webhooks/test").status_code == 409
    assert staff_api.post(f"/api/v1/webhooks/deliveries/{events['delivered'].pk}/redeliver").status_code == 409
    assert Delivery.objects.count() == 4


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, {"waiting", "failing", "given_up", "delivered"}),
        ({"state": "waiting"}, {"waiting", "failing"}),
        ({"state": "given_up"}, {"given_up"}),
        ({"state": "delivered"}, {"delivered"}),
        ({"kind": "deal.opened"}, {"given_up"}),
        ({"created_after": "2190-01-01T00:00:00Z"}, set()),
    ],
)
def test_deliveries_are_filtered_and_say_how_they_stand(staff_api, events, query, names):
    rows = staff_api.get("/api/v1/webhooks/deliveries", query).json()["results"]
    assert {row["id"] for row in rows} == {events[name].pk for name in names}
    assert {row["state"] for row in rows} <= {"waiting", "given_up", "delivered"}
    assert all("payload" not in row for row in rows)


def test_what_was_given_up_is_delivered_once_more_from_the_beginning(staff_api, receiver, events, now):
    address = f"/api/v1/webhooks/deliveries/{events['given_up'].pk}"
    assert staff_api.get(address).json()["payload"] == {"deal": 1}
    told = staff_api.post(f"{address}/redeliver").json()
    assert (told["done"], told["delivery"]["state"], told["delivery"]["attempts"]) == (True, "waiting", 0)
    assert staff_api.post(f"{address}/redeliver").json()["done"] is False
    assert AuditRecord.objects.get().act == "webhook.redeliver"


def test_a_test_goes_the_way_of_all_events(staff_api, receiver):
    answer = staff_api.post("/api/v1/webhooks/test")
    assert answer.status_code == 202, answer.content
    row = Delivery.objects.get()
    assert (row.kind, row.payload["by"], answer.json()["id"]) == ("webhook.test", "boss", row.pk)


def test_it_is_for_admins_alone(api, receiver, events):
    pk = events["delivered"].pk
    for method, path in [
        ("get", "webhooks"),
        ("post", "webhooks/test"),
        ("get", "webhooks/deliveries"),
        ("get", f"webhooks/deliveries/{pk}"),
        ("post", f"webhooks/deliveries/{pk}/redeliver"),
    ]:
        assert getattr(api, method)(f"/api/v1/{path}").status_code == 403, path
    assert Delivery.objects.count() == 4


def test_deliveries_of_other_channels_are_not_the_operators(staff_api, events):
    row = make.make_delivery(channel=make.make_channel(make.make_trader()))
    listed = staff_api.get("/api/v1/webhooks/deliveries").json()["results"]
    assert row.pk not in {each["id"] for each in listed}
    assert staff_api.get(f"/api/v1/webhooks/deliveries/{row.pk}").status_code == 404
