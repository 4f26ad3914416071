"""A POST with a key acts once: repeated, at once or after a crash."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone
from rest_framework.test import APIClient

from algo.api.base import Common
from algo.models import AuditRecord, BacktestRun, Deal, KeptAnswer
from algo.selectors.rights import Role
from algo.services.idempotency import answer_claim, answer_keep, answer_release, answers_prune
from providers.clock import clock_from_env
from tests import factories as make
from tests.api.routes import routes

pytestmark = pytest.mark.django_db

BACKTESTS = "/api/v1/backtests"
# answers that hold a secret, which is kept nowhere; what does nothing; and a signal, which has an id of its own
WITH_SECRETS = {"auth/login", "auth/tokens", "channels", "channels/{pk}/secret", "inbound-keys"}
WITHOUT = WITH_SECRETS | {"strategies/validate", "inbound/{id}"}


def post(client: APIClient, address: str, body: Any, key: str = "one", **more: Any) -> Any:
    return client.post(address, body, format="json", HTTP_IDEMPOTENCY_KEY=key, **more)


def error(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    found: dict[str, Any] = answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    return found


@pytest.fixture(autouse=True)
def _nobody_is_told(monkeypatch):
    monkeypatch.setattr("algo.api.backtests.backtest_enqueue", lambda _: None)
    monkeypatch.setattr("algo.api.deals.advance_hint", lambda _: None)


def asked() -> dict[str, Any]:
    now = clock_from_env().now()
    start, end = (now - timedelta(days=2)).isoformat(), (now - timedelta(days=1)).isoformat()
    return {"strategy": "BreakoutStrategy", "market": make.make_market().pk, "start": start, "end": end}


def test_every_post_takes_a_key_but_those_that_are_named_here():
    posts = [route for route in routes() if route.method == "post"]
    assert len(posts) > 8
    for route in posts:
        said = route.initkwargs.get("idempotent", getattr(route.view, "idempotent", False))
        takes = issubclass(route.view, Common) and said
        assert takes is (route.path not in WITHOUT), route


def test_a_repeated_post_is_answered_again_and_acts_once(api):
    body = asked()
    first, again = post(api, BACKTESTS, body), post(api, f"{BACKTESTS}/", dict(reversed(body.items())))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert (first.get("Idempotent-Replayed"), again["Idempotent-Replayed"]) == (None, "true")
    assert post(api, BACKTESTS, body, key="two").json()["id"] != first.json()["id"]
    assert BacktestRun.objects.count() == 2


def test_without_a_key_each_post_acts(api):
    body = asked()
    ids = {api.post(BACKTESTS, body, format="json").json()["id"] for _ in range(2)}
    assert len(ids) == 2
    assert not KeptAnswer.objects.exists()


def test_an_act_on_a_deal_is_recorded_once(api, config):
    deal = make.make_open_deal(config)
    answers = [post(api, f"/api/v1/deals/{deal.pk}/close", {"reason": "news"}) for _ in range(3)]
    assert [answer.json()["done"] for answer in answers] == [True] * 3
    assert AuditRecord.objects.filter(act="deal.close").count() == 1


@pytest.mark.parametrize("other", ["body", "address"])
def test_a_key_of_another_request_is_refused(api, config, other):
    one = make.make_open_deal(config)
    two = make.make_open_deal(make.make_config(account=config.account, market=make.make_market("ETHUSDT")))
    assert post(api, f"/api/v1/deals/{one.pk}/close", {}).status_code == 200
    deal, body = (one, {"reason": "x"}) if other == "body" else (two, {})
    refused = error(post(api, f"/api/v1/deals/{deal.pk}/close", body), 422)
    assert refused["code"] == "idempotency_key_reused"
    assert "Nothing was done" in refused["detail"]
    assert Deal.objects.filter(status="EXITING").count() == 1


def test_users_do_not_share_keys(api, staff_api):
    body = asked()
    assert post(api, BACKTESTS, body).json()["id"] != post(staff_api, BACKTESTS, body).json()["id"]


def test_a_refusal_of_what_was_sent_is_kept_and_one_of_who_asks_is_not(api, trader, config):
    deal = make.make_closed_deal(config)
    for replayed in (None, "true"):
        answer = post(api, f"/api/v1/deals/{deal.pk}/close", {})
        assert error(answer, 409)["code"] == "refused"
        assert answer.get("Idempotent-Replayed") == replayed
    wrong = {**asked(), "fee_percent": "100"}
    assert [post(api, BACKTESTS, wrong, key="two").get("Idempotent-Replayed") for _ in range(2)] == [None, "true"]
    seen = make.make_open_deal()
    seen.account.viewers.add(trader)
    for _ in range(2):
        answer = post(api, f"/api/v1/deals/{seen.pk}/close", {}, key="three")
        assert (answer.status_code, answer.get("Idempotent-Replayed")) == (403, None)
    type(seen.account).objects.filter(pk=seen.account_id).update(owner=trader)
    assert post(api, f"/api/v1/deals/{seen.pk}/close", {}, key="three").status_code == 200


def test_a_failure_of_ours_frees_the_key(api, monkeypatch):
    body = asked()
    with monkeypatch.context() as broken:
        broken.setattr("algo.api.backtests.backtest_enqueue", lambda _: 1 / 0)
        api.raise_request_exception = False
        assert post(api, BACKTESTS, body).status_code == 500
    assert not KeptAnswer.objects.exists()
    assert post(api, BACKTESTS, body).get("Idempotent-Replayed") is None


@pytest.mark.parametrize("key", ["", " ", "x" * 65, "two words", "naïve", "tab\t"])
def test_a_key_that_is_none_is_refused_before_anything_is_done(api, key):
    assert "64 visible ASCII" in error(post(api, BACKTESTS, asked(), key=key), 400)["detail"]
    assert not BacktestRun.objects.exists()


def test_who_may_not_act_gets_no_kept_answer(api, trader, config):
    deal = make.make_open_deal(config)
    assert post(api, f"/api/v1/deals/{deal.pk}/close", {}).status_code == 200
    trader.groups.clear()
    again = APIClient()
    again.force_authenticate(type(trader).objects.get(pk=trader.pk))
    assert post(again, f"/api/v1/deals/{deal.pk}/close", {}).status_code == 403


def test_the_same_key_while_the_first_is_running_is_409_until_the_key_is_free(api, trader):
    body, now = asked(), timezone.now()
    first = post(api, BACKTESTS, body)
    running = {"status": None, "body": ""}  # as a process leaves it that dies before its answer
    KeptAnswer.objects.update(**running, claimed_at=now - timedelta(minutes=4))
    answer = post(api, BACKTESTS, body)
    refused = error(answer, 409)
    assert refused["code"] == "idempotency_in_progress"
    assert f"{now + timedelta(minutes=1):%Y-%m-%d %H:%M:%S} UTC on the key is free again" in refused["detail"]
    assert 1 <= int(answer["Retry-After"]) <= 5
    assert BacktestRun.objects.count() == 1
    KeptAnswer.objects.update(claimed_at=now - timedelta(minutes=5))
    assert post(api, BACKTESTS, body).json()["id"] != first.json()["id"]


def test_answers_are_forgotten_after_a_day(api):
    body, now = asked(), timezone.now()
    first = post(api, BACKTESTS, body).json()["id"]
    assert answers_prune(now + timedelta(hours=23)) == 0
    KeptAnswer.objects.update(claimed_at=now - timedelta(hours=24))
    assert post(api, BACKTESTS, {**body, "fee_percent": "0.2"}).json()["id"] != first  # though nobody pruned yet
    assert answers_prune(now + timedelta(hours=25)) == 1


def test_who_lost_a_key_neither_answers_for_it_nor_frees_it(trader):
    now = timezone.now()
    slow = answer_claim(trader, "k", "f", now - timedelta(minutes=6))
    heir = answer_claim(trader, "k", "f", now)
    answer_keep(slow, status=201, body="{}")
    answer_release(slow)
    assert KeptAnswer.objects.get().claim == heir.claim
    answer_keep(heir, status=200, body="")
    assert answer_claim(trader, "k", "f", now).status == 200


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_exactly_one_acts():
    user, body, many = make.make_user("fast", role=Role.ADMIN), asked(), 4

    def send(barrier: Barrier) -> tuple[int, Any]:
        client = APIClient()
        client.force_authenticate(user)
        barrier.wait()
        try:
            answer = post(client, BACKTESTS, body, key=key)
        finally:
            connections.close_all()
        return answer.status_code, answer.json().get("id")

    with ThreadPoolExecutor(many) as pool:
        for turn in range(3):
            key, barrier = f"turn-{turn}", Barrier(many)
            answers = [each.result() for each in [pool.submit(send, barrier) for _ in range(many)]]
            assert {status for status, _ in answers} <= {201, 409}
            assert len({pk for status, pk in answers if status == 201}) == 1
            assert BacktestRun.objects.count() == turn + 1
