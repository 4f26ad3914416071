"""The language switch, the preferences page, and what each page and answer is written in."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from algo.models import UserPreference

pytestmark = pytest.mark.django_db
SAVED = {"language": "", "calendar": "", "digits": "", "time_zone": "", "theme": "auto"}


@pytest.fixture
def user(client):
    user = User.objects.create_superuser("u", password="p")
    client.force_login(user)
    return user


def html_tag(response):
    return re.search(r"<html[^>]*>", response.content.decode()).group()


def test_a_page_is_english_and_runs_from_left_to_right_until_somebody_chooses(client, user):
    response = client.get("/admin/")
    assert 'lang="en"' in html_tag(response)
    assert 'dir="ltr"' in html_tag(response)
    assert response["Content-Language"] == "en"


def test_the_switch_is_kept_with_the_user_and_leads_back(client, user):
    response = client.post("/language/", {"language": "fa", "next": "/admin/algo/deal/"})
    assert response.url == "/admin/algo/deal/"
    client.logout()
    client.cookies.clear()
    client.force_login(user)
    page = client.get("/admin/")
    assert 'lang="fa"' in html_tag(page)
    assert 'dir="rtl"' in html_tag(page)


def test_the_switch_leads_to_no_other_site(client, user):
    assert client.post("/language/", {"language": "fa", "next": "https://example.com/"}).url == "/"


def test_a_language_that_there_is_not_changes_nothing(client, user):
    client.post("/language/", {"language": "xx", "next": "/admin/"})
    assert not UserPreference.objects.exists()
    assert 'lang="en"' in html_tag(client.get("/admin/"))


def test_the_switch_is_no_link(client, user):
    assert client.get("/language/").status_code == 405


def test_who_is_not_signed_in_keeps_the_choice_in_a_cookie(client):
    client.post("/language/", {"language": "fa", "next": "/admin/login/"})
    assert 'dir="rtl"' in html_tag(client.get("/admin/login/"))
    assert client.cookies["django_language"]["httponly"]


def test_without_a_choice_the_browser_is_asked(client):
    page = client.get("/admin/login/", headers={"Accept-Language": "fa-IR,fa;q=0.9,en;q=0.5"})
    assert 'lang="fa"' in html_tag(page)
    assert 'lang="en"' in html_tag(client.get("/admin/login/", headers={"Accept-Language": "de"}))


def test_a_choice_of_the_user_stands_above_cookie_and_browser(client, user):
    client.post("/preferences/", {**SAVED, "language": "en"})
    client.cookies["django_language"] = "fa"
    assert 'lang="en"' in html_tag(client.get("/admin/", headers={"Accept-Language": "fa"}))


def test_preferences_are_kept_and_the_page_is_written_by_them(client, user):
    answer = client.post(
        "/preferences/",
        {"language": "fa", "calendar": "gregorian", "digits": "latin", "time_zone": "Europe/Berlin", "theme": "dark"},
    )
    assert answer.status_code == 302
    kept = UserPreference.objects.get(user=user)
    assert (kept.calendar, kept.digits, kept.time_zone, kept.theme) == ("gregorian", "latin", "Europe/Berlin", "dark")
    page = client.get("/preferences/")
    assert "1,234,567.89" in page.content.decode()
    assert 'class="dark"' in html_tag(page)


def test_the_page_shows_jalali_dates_and_persian_digits_to_who_reads_persian(client, user):
    client.post("/language/", {"language": "fa"})
    page = client.get("/preferences/").content.decode()
    assert "۱٬۲۳۴٬۵۶۷٫۸۹" in page
    assert re.search(r"۱۴\d\d/\d\d/\d\d", page)


def test_a_time_zone_that_there_is_not_is_told_beside_its_field(client, user):
    page = client.post("/preferences/", {**SAVED, "time_zone": "Asia/Teheran"})
    assert "There is no time zone Asia/Teheran." in page.content.decode()
    assert not UserPreference.objects.exists()


def test_preferences_belong_to_who_is_signed_in(client):
    assert client.get("/preferences/").url == "/admin/login/?next=/preferences/"


@pytest.mark.parametrize("field", ["language", "calendar", "digits", "theme"])
def test_the_database_refuses_what_nobody_can_choose(user, field):
    with pytest.raises(IntegrityError), transaction.atomic():
        UserPreference.objects.create(user=user, **{field: "klingon"})


def test_the_api_speaks_the_language_of_its_request_and_keeps_its_codes(client, user):
    english = client.get("/api/v1/deals/999").json()
    answer = client.get("/api/v1/deals/999", headers={"Accept-Language": "fa"})
    assert answer["Content-Language"] == "fa"
    assert answer.json()["code"] == english["code"] == "not_found"
    assert list(answer.json()) == list(english)


def test_a_page_that_calls_the_api_gets_the_words_of_its_user(client, user):
    client.post("/language/", {"language": "fa"})
    assert client.get("/api/v1/deals/999", headers={"Accept-Language": "en-US"})["Content-Language"] == "fa"
