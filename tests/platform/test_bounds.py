"""No request brings more than is read, and no page may use what nobody needs."""

from __future__ import annotations

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db
LARGEST = 1024 * 1024
JSON = {"content_type": "application/json"}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/auth/login",
        "/api/v1/inbound/0e4ae4b2-0000-4000-8000-000000000000",
        "/api/v1/strategies",
        "/api/v1/nothing",
    ],
)
def test_a_body_of_the_api_that_is_too_large_is_refused_unread(path):
    answer = Client().post(path, b'{"username": "' + b"x" * LARGEST + b'"}', **JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("path", ["/admin/login/", "/", "/preferences/", "/language/"])
def test_a_form_or_a_file_that_is_too_large_is_refused_unread(path):
    """Django bounds forms, and leaves files to its handlers, which write them to the disk."""
    file = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + b"x" * LARGEST + b"\r\n--b--\r\n"
    for body, kind in (
        (b"a=" + b"x" * LARGEST, "application/x-www-form-urlencoded"),
        (file, "multipart/form-data; boundary=b"),
    ):
        assert Client().post(path, body, content_type=kind).status_code == 413


def test_a_body_below_the_bound_is_read():
    answer = Client().post("/api/v1/auth/login", b'{"username": "' + b"x" * 1000 + b'"}', **JSON)
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["/admin/login/", "/api/v1/deals", "/", "/gone"])
def test_every_answer_forbids_what_no_page_needs(path):
    answer = Client().get(path)
    assert "camera=()" in answer["Permissions-Policy"]
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
