"""Passwords and sessions: how they are kept, and when they end."""

from __future__ import annotations

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client

from tests import factories as make

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture
def sara():
    return make.make_user("sara", is_staff=True, is_superuser=True, password=PASSWORD)


def signed_in(password: str = PASSWORD) -> Client:
    client = Client()
    answer = client.post("/admin/login/", {"username": "sara", "password": password, "next": "/admin/"})
    assert answer.status_code == 302, answer.content
    return client


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_a_password_is_kept_with_argon2(sara):
    assert sara.password.startswith("argon2$argon2id$")


def test_a_hash_of_the_old_kind_is_made_anew_when_its_user_signs_in(sara):
    sara.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    sara.save()
    signed_in()
    sara.refresh_from_db()
    assert sara.password.startswith("argon2$argon2id$")
    assert sara.check_password(PASSWORD)


def test_a_password_of_eleven_characters_is_refused(sara):
    form = {"old_password": PASSWORD, "new_password1": "elevenchars", "new_password2": "elevenchars"}
    answer = signed_in().post("/admin/password_change/", form)
    assert answer.status_code == 200
    assert "at least 12 characters" in answer.content.decode()


def test_signing_in_gives_a_session_of_another_name(sara):
    client = Client()
    session = client.session
    session["planted"] = True
    session.save()
    client.cookies["sessionid"] = session.session_key
    client.post("/admin/login/", {"username": "sara", "password": PASSWORD, "next": "/admin/"})
    assert is_in(client)
    assert client.cookies["sessionid"].value != session.session_key


def test_the_cookie_of_a_session_is_for_no_script_and_ends_within_a_day(sara):
    cookie = signed_in().cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", 43_200)


def test_a_new_password_ends_every_other_session(sara):
    mine, other = signed_in(), signed_in()
    form = {
        "old_password": PASSWORD,
        "new_password1": "another horse battery",
        "new_password2": "another horse battery",
    }
    assert mine.post("/admin/password_change/", form).status_code == 302
    assert is_in(mine)
    assert not is_in(other)


def test_logging_out_ends_the_session_itself(sara):
    client = signed_in()
    copied = Client()
    copied.cookies["sessionid"] = client.cookies["sessionid"].value
    client.post("/admin/logout/")
    assert not is_in(copied)
