"""A second factor: nobody gets in past it, and who has lost it is helped."""

from __future__ import annotations

import io
import re
import urllib.parse
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone
from django_otp.oath import hotp
from rest_framework.test import APIClient

from algo import exchanges
from algo.models import AuditRecord, RecoveryCode, SecondFactor
from algo.selectors.rights import Role
from algo.services.second_factor import CodeRefused, factor_check
from providers.clock import AnchoredClock
from tests import factories as make
from tests.admin.pages import shown
from tests.personal.second_factors import PASSWORD, code_for, code_of, set_up, sign_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fast_hashes")]
PAGE = "/second-factor/"
LOGIN_OF_API = "/api/v1/auth/login"


@pytest.fixture
def trader():
    return make.make_trader("tara", is_staff=True, password=PASSWORD)


def is_in(client: Client, path: str = "/admin/") -> bool:
    return client.get(path).status_code == 200


def api_login(**words):
    return APIClient().post(LOGIN_OF_API, {"username": "sara", "password": PASSWORD, **words}, format="json")


# --- the codes --------------------------------------------------------------------------------------------------------


def test_a_code_is_that_of_rfc_6238():
    """Its appendix B, of eight digits there: the last six of 94287082 at 59 s and of 07081804 at 1111111109 s."""
    secret = b"12345678901234567890"
    assert [f"{hotp(secret, at // 30):06}" for at in (59, 1_111_111_109)] == ["287082", "081804"]


@pytest.mark.parametrize(("steps", "opens"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_code_opens_half_a_minute_before_and_after(sara, steps, opens):
    factor, _codes = set_up(sara)
    SecondFactor.objects.update(last_step=-1)
    if opens:
        assert factor_check(sara, code_of(factor, steps=steps), now=timezone.now()) == factor
    else:
        with pytest.raises(CodeRefused, match="not right"):
            factor_check(sara, code_of(factor, steps=steps), now=timezone.now())


def test_a_code_opens_once(sara):
    factor, _codes = set_up(sara)
    code = code_of(factor)
    assert factor_check(sara, code, now=timezone.now()) == factor
    with pytest.raises(CodeRefused) as refused:
        factor_check(sara, code, now=timezone.now())
    assert refused.value.reason == "wrong"


def test_codes_are_taken_as_they_are_typed(sara):
    factor, codes = set_up(sara)
    persian = code_of(factor).translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))
    assert factor_check(sara, f" {persian[:3]} {persian[3:]}", now=timezone.now()) == factor
    assert factor_check(sara, codes[0].upper().replace("-", " "), now=timezone.now()) == factor


def test_after_wrong_codes_one_waits_longer_and_longer_and_then_the_right_one_opens(sara):
    factor, _codes = set_up(sara)
    for failures, seconds in ((1, 1), (2, 2), (3, 4), (4, 8)):
        with pytest.raises(CodeRefused, match="not right"):
            factor_check(sara, "000000", now=timezone.now())
        factor.refresh_from_db()
        assert factor.throttling_failure_count == failures
        with pytest.raises(CodeRefused) as refused:
            factor_check(sara, code_of(factor), now=timezone.now())
        assert refused.value.reason == "throttled"
        SecondFactor.objects.update(throttling_failure_timestamp=timezone.now() - timedelta(seconds=seconds))
    assert factor_check(sara, code_of(factor), now=timezone.now()) == factor
    factor.refresh_from_db()
    assert factor.throttling_failure_count == 0


def test_neither_the_secret_nor_a_recovery_code_stands_in_the_database(sara):
    factor, codes = set_up(sara)
    kept = str(list(SecondFactor.objects.values())) + str(list(RecoveryCode.objects.values()))
    assert factor.secret().hex() not in kept
    assert [code for code in codes if code.replace("-", "") in kept] == []


def test_without_its_encryption_key_a_recovery_code_opens_still(sara, settings):
    _factor, codes = set_up(sara)
    settings.FIELD_ENCRYPTION_KEYS = ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
    assert factor_check(sara, codes[3], now=timezone.now()) is not None


# --- the page ---------------------------------------------------------------------------------------------------------


def test_setting_it_up_from_the_page_to_the_first_sign_in_with_it(sara):
    mine, other = Client(), Client()
    sign_in(mine, "sara"), sign_in(other, "sara")
    answer = mine.get(PAGE)
    assert answer["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"
    page = answer.content.decode()
    secret = re.search(r'id="secret"[^>]*>([A-Z2-7 ]+)<', page)[1]
    picture = urllib.parse.unquote(re.search(r'src="data:image/svg\+xml[^,]*,([^"]+)"', page)[1])
    assert picture.startswith("<svg")
    assert "<script" not in picture
    done = mine.post(PAGE, {"act": "confirm", "code": code_for(secret)})
    codes = re.findall(r"<li>([a-z2-9-]{19})</li>", done.content.decode())
    assert len(set(codes)) == 10
    assert "Recovery codes left: 10" in shown(done)
    assert codes[0] not in mine.get(PAGE).content.decode()
    assert is_in(mine)
    assert not is_in(other)  # it began without
    SecondFactor.objects.update(last_step=-1)
    fresh = Client()
    assert "Enter the code that your authenticator app shows" in shown(sign_in(fresh, "sara"))
    assert not is_in(fresh)
    assert sign_in(fresh, "sara", code=code_for(secret)).status_code == 302
    assert is_in(fresh)
    assert is_in(fresh, "/")
    assert AuditRecord.objects.get(act="second_factor.set_up").username == "sara"


def test_a_wrong_code_sets_nothing_up(sara):
    client = Client()
    sign_in(client, "sara")
    client.get(PAGE)
    answer = client.post(PAGE, {"act": "confirm", "code": "000000"})
    assert answer.status_code == 400
    assert "not right" in answer.content.decode()
    assert not SecondFactor.objects.filter(confirmed=True).exists()
    assert sign_in(Client(), "sara").status_code == 302


def test_an_unconfirmed_one_is_asked_for_nowhere(sara):
    client = Client()
    sign_in(client, "sara")
    client.get(PAGE)
    assert sign_in(Client(), "sara").status_code == 302
    assert api_login().status_code == 200


def test_new_recovery_codes_replace_the_old_ones(sara):
    factor, codes = set_up(sara)
    client = Client()
    sign_in(client, "sara", code=codes[0])
    answer = client.post(PAGE, {"act": "codes", "code": code_of(factor)})
    fresh = re.findall(r"<li>([a-z2-9-]{19})</li>", answer.content.decode())
    assert len(fresh) == 10
    assert not set(fresh) & set(codes)
    with pytest.raises(CodeRefused):
        factor_check(sara, codes[1], now=timezone.now())


def test_it_is_removed_with_a_code_only(sara):
    factor, codes = set_up(sara)
    client = Client()
    sign_in(client, "sara", code=codes[0])
    assert client.post(PAGE, {"act": "remove", "code": ""}).status_code == 400
    assert client.post(PAGE, {"act": "remove", "code": codes[0]}).status_code == 400  # used
    assert SecondFactor.objects.exists()
    factor.throttle_reset()
    assert client.post(PAGE, {"act": "remove", "code": code_of(factor)}).status_code == 302
    assert not SecondFactor.objects.exists()
    assert not is_in(client)
    assert sign_in(Client(), "sara").status_code == 302
    assert AuditRecord.objects.filter(act="second_factor.remove").exists()


def test_the_page_is_for_who_is_signed_in():
    assert Client().get(PAGE).status_code == 302


def test_the_page_is_written_in_persian_too(sara):
    client = Client(headers={"accept-language": "fa"})
    sign_in(client, "sara")
    page = client.get(PAGE).content.decode()
    assert "رمز" in page
    assert "Scan this" not in page


# --- every door -------------------------------------------------------------------------------------------------------


def test_a_recovery_code_signs_in_once(sara):
    _factor, codes = set_up(sara)
    assert sign_in(Client(), "sara", code=codes[0]).status_code == 302
    assert sign_in(Client(), "sara", code=codes[0]).status_code == 200
    assert SecondFactor.objects.get().recovery_codes.filter(used_at=None).count() == 9


def test_the_api_gives_a_token_for_a_code_only(sara):
    factor, codes = set_up(sara)
    refused = api_login()
    assert (refused.status_code, refused.json()["code"]) == (401, "second_factor_required")
    refused = api_login(code="000000")
    assert (refused.status_code, refused.json()["code"]) == (401, "second_factor_wrong")
    refused = api_login(code=code_of(factor))
    assert (refused.status_code, refused.json()["code"]) == (401, "second_factor_throttled")
    factor.throttle_reset()
    given = api_login(code=code_of(factor))
    assert given.status_code == 200, given.content
    assert "sessionid" not in given.cookies
    assert APIClient().get("/api/v1/deals", HTTP_AUTHORIZATION=f"Token {given.json()['token']}").status_code == 200
    cache.clear()
    assert api_login(code=codes[0]).status_code == 200


def test_a_wrong_password_is_told_before_the_code(sara):
    set_up(sara)
    assert api_login(password="wrong", code="000000").json()["code"] == "authentication_failed"


def test_a_session_from_before_opens_no_door(sara):
    client = Client()
    sign_in(client, "sara")
    set_up(sara)
    assert client.get("/api/v1/deals").status_code == 401
    answer = client.get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/login/")


# --- who must ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "admin_must", "trader_must"),
    [("optional", False, False), ("admins", True, False), ("staff", True, True)],
)
def test_who_must_is_led_to_the_page_and_gets_no_further(sara, trader, settings, policy, admin_must, trader_must):
    settings.TWO_FACTOR = policy
    for name, must in (("sara", admin_must), ("tara", trader_must)):
        client = Client()
        sign_in(client, name)
        for path in ("/admin/", "/", "/preferences/", "/admin/algo/deal/"):
            answer = client.get(path)
            assert (answer.status_code, answer.get("Location")) == ((302, PAGE) if must else (200, None)), path
        assert client.get(PAGE).status_code == 200
        told = client.get("/api/v1/deals")
        assert told.status_code == (403 if must else 200)
        assert not must or told.json()["code"] == "second_factor_missing"


def test_who_must_and_has_none_gets_no_token(sara, settings):
    settings.TWO_FACTOR = "admins"
    refused = api_login()
    assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_missing")
    factor, _codes = set_up(sara)
    assert api_login(code=code_of(factor)).status_code == 200


def test_who_must_acts_once_it_is_set_up(sara, settings):
    settings.TWO_FACTOR = "admins"
    factor, _codes = set_up(sara)
    client = Client()
    sign_in(client, "sara", code=code_of(factor))
    assert is_in(client)
    assert client.get("/api/v1/deals").status_code == 200


def test_an_admin_by_role_must_like_a_superuser(settings):
    settings.TWO_FACTOR = "admins"
    make.make_user("boss", role=Role.ADMIN, is_staff=True, password=PASSWORD)
    client = Client()
    sign_in(client, "boss")
    assert client.get("/admin/")["Location"] == PAGE


# --- who has lost it --------------------------------------------------------------------------------------------------


def reset(*words: str) -> str:
    out = io.StringIO()
    call_command("reset_two_factor", *words, stdout=out)
    return out.getvalue()


def test_the_shell_takes_it_away_with_a_record_and_ends_its_sessions(sara, monkeypatch):
    monkeypatch.setattr(exchanges, "CLOCK", AnchoredClock())
    factor, _codes = set_up(sara)
    client = Client()
    sign_in(client, "sara", code=code_of(factor))
    assert reset("sara") == "The second factor of sara was taken away.\n"
    record = AuditRecord.objects.get(act="second_factor.reset")
    assert (record.door, record.subject_name) == ("shell", "sara")
    assert sign_in(Client(), "sara").status_code == 302
    assert "nothing was changed" in reset("sara")
    with pytest.raises(CommandError, match="There is no user 'nobody'"):
        reset("nobody")
