"""Channels over REST: one's own, whose addresses and secrets go in and never come out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from algo.models import AuditRecord, Delivery, NotificationChannel, OutboxEvent
from algo.selectors.rights import Role
from algo.standard_webhooks import signature
from tests import factories as make
from tests.api.test_scopes import client_of

pytestmark = pytest.mark.django_db

HOOK = {"name": "hook", "type": "webhook", "target": "https://hooks.example.org/CANARY-path"}
TELEGRAM = {
    "name": "phone",
    "type": "chat",
    "target": "tgram://123456789:CANARYAbCdEfGhIjKlMnOpQrStUvWxYz12/987654321/",
}


def make_one(api: APIClient, **fields: Any) -> Any:
    return api.post("/api/v1/channels/", HOOK | fields, format="json")


def wrong(answer: Any) -> Any:
    assert answer.status_code == 400, answer.content
    return [error["attr"] for error in answer.json()["errors"]]


def test_a_webhook_is_made_with_a_secret_that_is_told_once(api, trader):
    made = make_one(api, kinds=["deal.closed"], minimum_severity="warning", quiet_from="22:00", quiet_to="07:00")
    assert made.status_code == 201, made.content
    secret = made.json()["secret"]
    row = NotificationChannel.objects.get()
    assert (row.owner, row.target(), row.secret(), row.minimum_severity) == (trader, HOOK["target"], secret, 20)
    assert signature(b"{}", event_id="a", timestamp=1, secret=secret).startswith("v1,")
    read = api.get(f"/api/v1/channels/{row.pk}/")
    assert (read.json()["target_hint"], read.json()["quiet_from"], read.json()["kinds"]) == (
        "hooks.example.org",
        "22:00:00",
        ["deal.closed"],
    )
    listed = api.get("/api/v1/channels/").content.decode() + read.content.decode() + json.dumps(audited())
    assert "CANARY" not in listed
    assert secret not in listed


def audited() -> Any:
    return [[row.act, row.details] for row in AuditRecord.objects.order_by("pk")]


def test_a_chat_shows_its_service_and_nothing_else(api):
    made = make_one(api, **TELEGRAM)
    assert (made.status_code, made.json()["target_hint"], made.json()["secret"]) == (201, "Telegram", "")
    assert "CANARY" not in made.content.decode()


def test_an_e_mail_needs_a_mail_server(api, settings):
    sara = {"name": "mail", "type": "email", "target": "sara@example.org"}
    settings.EMAIL_HOST = ""
    assert make_one(api, **sara).status_code == 409
    settings.EMAIL_HOST = "mail.example.org"
    assert make_one(api, **sara).json()["target_hint"] == "s…@example.org"


@pytest.mark.parametrize(
    ("fields", "attr"),
    [
        ({"target": "http://hooks.example.org/x"}, "target"),
        ({"target": "https://127.0.0.1/x"}, "target"),
        ({"target": "https://[::1]:8080/x"}, "target"),
        ({"type": "chat", "target": "json://169.254.169.254/"}, "target"),
        ({"type": "chat", "target": "syslog://"}, "target"),
        ({"kinds": ["deal.exploded"]}, "kinds.0"),
        ({"minimum_severity": "loud"}, "minimum_severity"),
        ({"quiet_from": "22:00"}, "quiet_to"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"daily_summary": True}, "summary_at"),
        ({"most_per_minute": 601}, "most_per_minute"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_what_cannot_work_is_refused_beside_its_field(api, fields, attr):
    assert wrong(make_one(api, **fields)) == [attr]
    assert not NotificationChannel.objects.exists()


def test_two_of_one_owner_have_two_names(api):
    make_one(api)
    assert wrong(make_one(api)) == ["name"]
    assert make_one(client(make.make_trader())).status_code == 201


def client(user: Any) -> APIClient:
    api = APIClient()
    api.force_authenticate(user)
    return api


def test_a_change_sets_what_is_sent_and_the_log_tells_which_fields(api, trader):
    pk = make_one(api).json()["id"]
    account = make.make_account(owner=trader)
    answer = api.patch(f"/api/v1/channels/{pk}/", {"language": "fa", "accounts": [account.pk]}, format="json")
    assert (answer.json()["language"], answer.json()["accounts"]) == ("fa", [account.pk])
    api.patch(f"/api/v1/channels/{pk}/", {"target": "https://other.example.org/x"}, format="json")
    row = NotificationChannel.objects.get()
    assert (row.target(), row.target_hint) == ("https://other.example.org/x", "other.example.org")
    acts = [(act, details["fields"]) for act, details in audited()]
    assert acts[1:] == [("channel.change", ["language", "accounts"]), ("channel.change", ["target"])]


def test_another_secret_takes_the_place_of_the_one_before(api):
    made = make_one(api).json()
    new = api.post(f"/api/v1/channels/{made['id']}/secret/").json()["secret"]
    assert new != made["secret"]
    assert NotificationChannel.objects.get().secret() == new


def test_a_test_goes_the_way_of_all_events_and_its_outcome_is_read_there(api):
    pk = make_one(api).json()["id"]
    answer = api.post(f"/api/v1/channels/{pk}/test/")
    assert (answer.status_code, answer.json()["kind"], answer.json()["state"]) == (202, "webhook.test", "waiting")
    Delivery.objects.update(last_error="the receiver answered 500", status_code=500, attempts=1)
    (row,) = api.get("/api/v1/deliveries/", {"channel": pk}).json()["results"]
    assert (row["channel_name"], row["status_code"], row["last_error"]) == ("hook", 500, "the receiver answered 500")
    assert api.post(f"/api/v1/deliveries/{row['id']}/redeliver/").status_code == 200


def test_deleting_one_takes_along_what_waits_for_it(api):
    pk = make_one(api).json()["id"]
    api.post(f"/api/v1/channels/{pk}/test/")
    assert api.delete(f"/api/v1/channels/{pk}/").status_code == 204
    assert not Delivery.objects.exists()
    assert not OutboxEvent.objects.filter(channel=pk).exists()


def test_an_admin_sees_everybodys_without_addresses_and_may_switch_them_off(api, staff_api):
    pk = make_one(api).json()["id"]
    seen = staff_api.get(f"/api/v1/channels/{pk}/")
    assert "CANARY" not in seen.content.decode()
    assert staff_api.patch(f"/api/v1/channels/{pk}/", {"is_enabled": False}, format="json").status_code == 200
    assert NotificationChannel.objects.get().is_enabled is False


def test_the_operators_channel_is_changed_in_the_environment(staff_api):
    row = make.make_channel(None, name="WEBHOOK_URL")
    assert staff_api.patch(f"/api/v1/channels/{row.pk}/", {"name": "x"}, format="json").status_code == 409
    assert staff_api.delete(f"/api/v1/channels/{row.pk}/").status_code == 409


def test_a_viewer_has_channels_when_signed_in_and_a_token_to_read_makes_none(trader):
    viewer = make.make_user(role=Role.VIEWER)
    signed_in = APIClient()
    signed_in.force_login(viewer)
    assert make_one(signed_in).status_code == 201
    assert make_one(client_of(trader, "read")).status_code == 403
    assert make_one(client_of(trader, "trade")).status_code == 201


def test_who_has_no_role_has_no_channel():
    assert make_one(client(make.make_user())).status_code == 403
    assert not NotificationChannel.objects.exists()


def test_a_person_has_twenty_at_most(api, trader):
    for number in range(20):
        make.make_channel(trader, name=f"channel {number} of twenty")
    assert make_one(api).status_code == 409
