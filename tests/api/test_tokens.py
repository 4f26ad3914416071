from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from algo.models import AuditRecord, TokenGrant
from algo.selectors.rights import Role
from algo.services.idempotency import answer_claim
from algo.services.tokens import tokens_prune
from algo.tasks import prune_api
from tests import factories as make
from tests.api.test_access import login
from tests.api.test_scopes import client_of, token_of

pytestmark = pytest.mark.django_db

TOKENS = "/api/v1/auth/tokens"


def problem(answer, status=400):
    assert answer.status_code == status, answer.content
    [error] = answer.json()["errors"]
    return error["attr"], error["detail"]


def give(client, **asked):
    return client.post(TOKENS, asked, format="json")


def test_a_login_gives_what_the_role_allows_up_to_trade(trader, password, settings):
    assert login(APIClient()).json()["scope"] == "trade"
    trader.groups.clear()
    assert login(APIClient()).json()["scope"] == "read"
    trader.is_superuser = True
    trader.save()
    assert login(APIClient()).json()["scope"] == "trade"
    assert login(APIClient(), scope="admin").json()["scope"] == "admin"


def test_a_login_takes_a_scope_an_end_and_a_label(trader, password):
    ends = (timezone.now() + timedelta(hours=2)).replace(microsecond=0)
    body = login(APIClient(), scope="read", expiry=ends.isoformat(), label="screen").json()
    assert (body["scope"], body["expiry"], body["label"]) == ("read", f"{ends:%Y-%m-%dT%H:%M:%SZ}", "screen")
    grant = TokenGrant.objects.get()
    assert (grant.token.expiry, grant.scope, grant.label, grant.created_by) == (ends, "read", "screen", trader)


@pytest.mark.parametrize(
    ("asked", "attr", "said"),
    [
        ({"scope": "admin"}, "scope", "more than the role Trader may have: trade at most. No token was given."),
        ({"scope": "everything"}, "scope", "valid choice"),
        ({"expiry": "2020-01-01T00:00:00Z"}, "expiry", "must lie after now"),
        ({"expiry": "2999-01-01T00:00:00Z"}, "expiry", "No token was given"),
        ({"label": "x" * 81}, "label", "80"),
    ],
)
def test_a_login_that_asks_for_too_much_gives_nothing(trader, password, asked, attr, said):
    field, detail = problem(login(APIClient(), **asked))
    assert field == attr
    assert said in detail
    assert not AuthToken.objects.exists()


def test_a_wrong_password_is_told_before_what_was_asked_for(trader, password):
    assert login(APIClient(), password="wrong", scope="admin").status_code == 401


def test_an_expired_token_is_told_so_and_forgotten_after_a_month(trader):
    client, now = client_of(trader), timezone.now()
    AuthToken.objects.update(expiry=now - timedelta(minutes=1))
    for _ in range(2):
        assert "This token expired at " in problem(client.get("/api/v1/deals"), 401)[1]
    assert tokens_prune(now) == 0
    assert tokens_prune(now + timedelta(days=31)) == 1
    assert problem(client.get("/api/v1/deals"), 401)[1] == "Invalid token."


def test_the_task_forgets_old_tokens_and_old_answers(trader):
    client_of(trader)
    claimed = answer_claim(trader, "k", "f", timezone.now())
    assert prune_api() == 0
    AuthToken.objects.update(expiry=timezone.now() - timedelta(days=31))
    type(claimed).objects.update(claimed_at=timezone.now() - timedelta(hours=25))
    assert prune_api() == 2
    assert not TokenGrant.objects.exists()


def test_the_token_of_a_disabled_user_opens_nothing(trader):
    client = client_of(trader)
    trader.is_active = False
    trader.save()
    assert client.get("/api/v1/deals").status_code == 401


@pytest.mark.parametrize("header", ["Token", "Token a b", "Token \xff", "Token " + "0" * 64, "Token " + "x" * 5000])
def test_a_header_that_is_no_token_is_401(header):
    assert APIClient().get("/api/v1/deals", HTTP_AUTHORIZATION=header).status_code == 401


def test_tokens_are_listed_without_themselves(trader):
    client = client_of(trader)
    token_of(make.make_trader("other"))
    answer = client.get(TOKENS)
    [row] = answer.json()["results"]
    assert (row["user"], row["scope"], row["is_current"], row["created_by"]) == ("trader", "trade", True, "trader")
    grant = TokenGrant.objects.get(pk=row["id"])
    assert "token" not in row
    assert grant.token.digest not in answer.content.decode()
    assert grant.token.token_key not in answer.content.decode()


def test_a_token_gives_another_that_is_no_wider_and_lives_no_longer(trader):
    client = client_of(trader)
    mine = TokenGrant.objects.get()
    answer = give(client, scope="read", label="screen")
    assert answer.status_code == 201
    body = answer.json()
    assert (body["scope"], body["label"], TokenGrant.objects.get(pk=body["id"]).token.expiry) == (
        "read", "screen", mine.token.expiry
    )  # fmt: skip
    reads = APIClient()
    reads.credentials(HTTP_AUTHORIZATION=f"Token {body['token']}")
    assert reads.get(TOKENS).status_code == 200
    assert AuditRecord.objects.latest("pk").details["asked_with"] == mine.token.token_key  # if that one was stolen
    assert problem(give(reads, scope="trade")) == (
        "scope", "A token of scope read gives none of scope trade: log in for it. No token was given."
    )  # fmt: skip
    assert give(reads).json()["scope"] == "read"
    later = (mine.token.expiry + timedelta(seconds=1)).isoformat()
    assert problem(give(client, expiry=later))[0] == "expiry"
    assert problem(give(client, scope="admin"))[0] == "scope"
    assert TokenGrant.objects.count() == 3


def test_one_revokes_ones_own_and_an_admin_with_the_scope_for_it_anybodys(trader):
    client, other = client_of(trader), client_of(make.make_trader("other"))
    boss = make.make_user("boss", role=Role.ADMIN)
    mine, theirs = TokenGrant.objects.order_by("pk")
    assert client.delete(f"{TOKENS}/{theirs.pk}").status_code == 404
    assert "needs the scope admin" in problem(client_of(boss, "trade").delete(f"{TOKENS}/{theirs.pk}"), 403)[1]
    assert client_of(boss, "admin").delete(f"{TOKENS}/{theirs.pk}").status_code == 204
    assert other.get("/api/v1/deals").status_code == 401
    assert client.delete(f"{TOKENS}/{mine.pk}").status_code == 204
    assert client.get("/api/v1/deals").status_code == 401


def test_a_token_to_read_revokes_none_that_trades(trader):
    trades = client_of(trader)
    reads, strong = client_of(trader, "read"), TokenGrant.objects.earliest("pk")
    assert "still valid" in problem(reads.delete(f"{TOKENS}/{strong.pk}"), 403)[1]
    assert trades.get("/api/v1/deals").status_code == 200
    weak = TokenGrant.objects.latest("pk")
    assert reads.delete(f"{TOKENS}/{weak.pk}").status_code == 204


def test_giving_and_revoking_are_in_the_audit_log_without_the_token(trader, password):
    token = login(APIClient(), label="bot").json()["token"]
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert client.post("/api/v1/auth/logout").status_code == 204
    acts = AuditRecord.objects.order_by("pk")
    assert [(each.act, each.username, each.door, each.subject_name) for each in acts] == [
        ("token.give", "trader", "api", "trader"),
        ("token.revoke", "trader", "api", "trader"),
    ]
    assert acts[0].details["label"] == "bot"
    assert (acts[0].details["scope"], acts[0].details["token"]) == ("trade", token[:15])
    assert token[15:] not in str([each.details for each in acts])


def test_a_viewer_gets_a_token_to_read_and_logs_out():
    client = client_of(make.make_user(role=Role.VIEWER))
    assert give(client, label="screen").json()["scope"] == "read"
    assert client.post("/api/v1/auth/logout").status_code == 204
