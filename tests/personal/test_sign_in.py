"""Wrong passwords are counted by name and address, slowed down, and told; right ones elsewhere go on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from algo.models import AuditRecord, OutboxEvent
from algo.services import sign_in as limits
from algo.services.sign_in import client_address
from algo.tasks import prune_api
from tests import factories as make
from tests.personal.second_factors import PASSWORD, code_of, set_up, sign_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fast_hashes")]
HERE, THERE = {"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": "192.0.2.2"}
UNREACHABLE = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:9/0"}
}


def guess(times: int, username: str = "sara", **where):
    return [sign_in(Client(), username, password="wrong", **where).status_code for _ in range(times)]


def test_the_fifth_wrong_password_closes_the_door_for_this_name_from_this_address_only(sara):
    assert guess(5, **HERE) == [200, 200, 200, 200, 429]
    refused = sign_in(Client(), "sara", **HERE)
    assert refused.status_code == 429  # the right one too
    said = refused.content.decode()
    assert "Too many wrong passwords or codes from this address. Nobody was let in. Try again in 15 min" in said
    assert sign_in(Client(), "sara", **THERE).status_code == 302
    make.make_user("omid", is_staff=True, password=PASSWORD)
    assert sign_in(Client(), "omid", **HERE).status_code == 302


def test_it_opens_again_after_a_quarter_of_an_hour_however_often_it_was_tried_meanwhile(sara):
    guess(5, **HERE)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=14, seconds=30))
    assert "Try again in 30 s" in sign_in(Client(), "sara", **HERE).content.decode()
    guess(20, **HERE)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=15, seconds=1))
    assert sign_in(Client(), "sara", **HERE).status_code == 302


def test_the_right_password_forgives_the_wrong_ones_before(sara):
    guess(4, **HERE)
    assert sign_in(Client(), "sara", **HERE).status_code == 302
    assert guess(4, **HERE) == [200] * 4


def test_a_name_that_nobody_has_is_refused_in_the_same_words(sara):
    told = [
        sign_in(Client(), name, password="wrong", **HERE).content.decode().count("for a staff account")
        for name in ("sara", "nobody")
    ]
    assert told == [1, 1]
    assert guess(4, "nobody", **HERE)[-1] == 429


def test_who_guesses_at_many_names_is_stopped_by_address(sara, monkeypatch):
    monkeypatch.setattr(limits, "MOST_OF_ADDRESS", 6)
    for n in range(6):
        guess(1, f"name{n}", **HERE)
    assert sign_in(Client(), "sara", **HERE).status_code == 429
    assert sign_in(Client(), "sara", **THERE).status_code == 302


def test_the_lock_is_told_once_with_whom_and_from_where(sara):
    guess(9, **HERE)
    [record] = AuditRecord.objects.filter(act="sign_in.lock")
    assert (record.subject_name, record.door, record.details) == (
        "sara", "platform", {"address": "192.0.2.1", "failures": 5, "minutes": 15}
    )  # fmt: skip
    [event] = OutboxEvent.objects.filter(kind="sign_in.locked")
    assert event.payload["user"] == "sara"
    assert event.account is None  # Admins' alone


def test_what_somebody_typed_into_the_wrong_field_is_told_to_nobody(sara):
    guess(6, "my password is hunter2", **HERE)
    assert not AuditRecord.objects.exists()
    assert not OutboxEvent.objects.exists()


def test_no_password_and_no_code_is_kept_of_an_attempt(sara):
    sign_in(Client(), "sara", password="wrong-canary", code="123456", **HERE)
    kept = str(AccessAttempt.objects.values().get())
    assert "canary" not in kept
    assert "123456" not in kept


def test_attempts_that_count_no_more_are_forgotten(sara):
    guess(2, **HERE)
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(hours=1))
    assert prune_api() >= 1
    assert not AccessAttempt.objects.exists()


def test_without_redis_the_door_neither_opens_nor_closes(sara, settings):
    settings.CACHES = UNREACHABLE
    assert sign_in(Client(), "sara", **THERE).status_code == 302
    assert guess(5, **HERE)[-1] == 429
    assert sign_in(Client(), "sara", **HERE).status_code == 429


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "198.51.100.7", "192.0.2.1"),  # nobody's header is believed where no proxy of ours stands in front
        (1, "198.51.100.7", "198.51.100.7"),
        (1, "203.0.113.9, 198.51.100.7", "198.51.100.7"),  # what a client wrote itself stands before
        (1, "", "192.0.2.1"),
        (1, "unknown", None),
    ],
)
def test_behind_the_proxy_the_address_is_the_one_that_the_proxy_saw(rf, settings, proxies, forwarded, address):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    more = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    assert client_address(rf.get("/", **HERE, **more)) == address


def test_a_header_that_a_client_writes_does_not_open_the_door(sara, settings):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    for n in range(5):
        guess(1, HTTP_X_FORWARDED_FOR=f"203.0.113.{n}, 198.51.100.7")
    assert sign_in(Client(), "sara", HTTP_X_FORWARDED_FOR="203.0.113.99, 198.51.100.7").status_code == 429
    assert sign_in(Client(), "sara", HTTP_X_FORWARDED_FOR="198.51.100.8").status_code == 302


def test_the_api_counts_with_the_page_and_says_how_long(sara):
    guess(4, **HERE)
    body = {"username": "sara", "password": "wrong"}
    answers = [APIClient().post("/api/v1/auth/login", body, format="json", **HERE) for _ in range(2)]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
        assert 890 <= int(answer["Retry-After"]) <= 900
    assert sign_in(Client(), "sara", **HERE).status_code == 429


def test_wrong_codes_count_like_wrong_passwords(sara):
    factor, _codes = set_up(sara)
    statuses = []
    for _ in range(5):
        factor.throttle_reset()
        statuses.append(sign_in(Client(), "sara", code="000000", **HERE).status_code)
    assert statuses == [200, 200, 200, 200, 429]
    factor.throttle_reset()
    assert sign_in(Client(), "sara", code=code_of(factor), **HERE).status_code == 429
    assert sign_in(Client(), "sara", code=code_of(factor), **THERE).status_code == 302
