"""Every error below /api/v1/ has one shape, whatever failed."""

from __future__ import annotations

import json

import pytest
from django.core.exceptions import RequestDataTooBig
from django.test import Client
from rest_framework.response import Response
from rest_framework.test import APIClient

from algo.api import deals, throttling
from tests import factories as make

pytestmark = pytest.mark.django_db

JSON = "application/json"
# asked, the status and code that come back
WRONG = {
    "an address that does not exist": (("get", "/no/such/thing", {}), 404, "not_found"),
    "a row that does not exist": (("get", "/deals/1", {}), 404, "not_found"),
    "a method the address has not": (("delete", "/deals", {}), 405, "method_not_allowed"),
    "a body of a type that is not read": (
        ("post", "/backtests", {"data": "a", "content_type": "text/x"}),
        415,
        "unsupported_media_type",
    ),
    "an answer of a type that is not written": (
        ("get", "/deals", {"HTTP_ACCEPT": "image/png"}),
        406,
        "not_acceptable",
    ),
    "half a document": (("post", "/backtests", {"data": '{"a', "content_type": JSON}), 400, "parse_error"),
    "a document that is no text": (("post", "/backtests", {"data": b"\xff", "content_type": JSON}), 400, "parse_error"),
    "missing fields": (("post", "/backtests", {"data": "{}", "content_type": JSON}), 400, "validation_error"),
    "a filter that is no date": (("get", "/deals?opened_after=x", {}), 400, "validation_error"),
    "a host that is not ours": (("get", "/deals", {"HTTP_HOST": "evil.example"}), 400, "parse_error"),
}


def problem_of(answer, status, code):
    body = json.loads(answer.content)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json"), answer.content
    assert list(body) == ["type", "title", "status", "detail", "code", "errors"]
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
    assert body["errors"]
    assert all(list(each) == ["code", "detail", "attr"] for each in body["errors"])
    return body


@pytest.mark.parametrize("what", WRONG)
def test_every_error_is_a_problem(staff_api, settings, what):
    settings.ALLOWED_HOSTS = ["testserver"]
    (method, path, more), status, code = WRONG[what]
    problem_of(staff_api.generic(method.upper(), f"/api/v1{path}", **more), status, code)


def test_a_method_that_is_not_there_is_told_which_are(staff_api):
    for method in ("PUT", "OPTIONS", "TRACE"):
        answer = staff_api.generic(method, "/api/v1/deals")
        problem_of(answer, 405, "method_not_allowed")
        assert answer["Allow"] == "GET, HEAD"


def test_one_error_is_told_at_the_top_and_several_are_counted(staff_api):
    one = problem_of(staff_api.get("/api/v1/deals", {"side": "up"}), 400, "validation_error")
    assert one["title"] == "Bad Request"
    assert one["detail"] == "side: Select a valid choice. up is not one of the available choices."
    assert one["errors"][0]["attr"] == "side"
    two = problem_of(staff_api.get("/api/v1/deals", {"side": "up", "opened_after": "x"}), 400, "validation_error")
    assert two["detail"].startswith("2 things are wrong")
    assert {each["attr"] for each in two["errors"]} == {"side", "opened_after"}


def test_without_a_login_the_answer_says_how_to_log_in():
    answer = APIClient().get("/api/v1/deals")
    problem_of(answer, 401, "not_authenticated")
    assert answer["WWW-Authenticate"] == "Token"
    wrong = APIClient().get("/api/v1/deals", HTTP_AUTHORIZATION="Token nonsense")
    problem_of(wrong, 401, "authentication_failed")


def test_a_session_without_its_form_token_is_refused(trader):
    client = Client(enforce_csrf_checks=True)
    client.force_login(trader)
    body = problem_of(client.post("/api/v1/deals/1/close"), 403, "permission_denied")
    assert "CSRF" in body["detail"]


def test_too_many_requests_say_when_to_ask_again(staff_api, monkeypatch):
    monkeypatch.setattr(throttling.LoginThrottle, "THROTTLE_RATES", {"login": "1/min"})
    ask = lambda: APIClient().post("/api/v1/auth/login", {"username": "x", "password": "y"})  # noqa: E731
    assert ask().status_code == 401
    limited = ask()
    problem_of(limited, 429, "throttled")
    assert 0 < int(limited["Retry-After"]) <= 60


def test_a_bug_is_logged_and_tells_nothing(staff_api, monkeypatch, caplog):
    def fail(*_, **__):
        raise ZeroDivisionError("password=secret")

    staff_api.raise_request_exception = False
    monkeypatch.setattr(deals.DealViewSet, "get_queryset", fail)
    body = problem_of(staff_api.get("/api/v1/deals"), 500, "internal_error")
    assert "ZeroDivision" not in json.dumps(body)
    assert "secret" not in json.dumps(body)
    assert "ZeroDivisionError" in caplog.text


def test_an_answer_that_cannot_be_written_is_a_problem_too(staff_api, monkeypatch):
    staff_api.raise_request_exception = False
    monkeypatch.setattr(deals.DealViewSet, "list", lambda *_, **__: Response(float("nan")))
    problem_of(staff_api.get("/api/v1/deals"), 500, "internal_error")


def test_a_body_that_is_too_large_is_not_read(staff_api, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    answer = staff_api.post("/api/v1/auth/login", {"username": "x" * 20}, format="json")
    problem_of(answer, 413, "too_large")
    assert RequestDataTooBig.__name__ not in answer.content.decode()


def test_what_services_refuse_keeps_its_code(api, config):
    deal = make.make_closed_deal(config)
    body = problem_of(api.post(f"/api/v1/deals/{deal.pk}/close"), 409, "refused")
    assert body["title"] == "Conflict"
    assert body["errors"] == [{"code": "refused", "detail": body["detail"], "attr": None}]


def test_pages_that_are_not_the_api_fail_as_pages(client, settings):
    settings.ALLOWED_HOSTS = ["testserver"]
    assert client.get("/admin/login/", HTTP_HOST="evil.example")["Content-Type"].startswith("text/html")
