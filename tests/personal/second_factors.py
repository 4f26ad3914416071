"""What a person with an authenticator app does."""

from __future__ import annotations

import time
from base64 import b32decode
from typing import Any

from django.test import Client
from django.utils import timezone
from django_otp.oath import totp

from algo.models import SecondFactor
from algo.services.second_factor import factor_begin, factor_confirm
from tests import factories as make
from tests.factories import NOW

PASSWORD = "correct horse battery"
LOGIN = "/admin/login/"


def code_of(factor: SecondFactor, *, steps: int = 0) -> str:
    """What the app shows, or showed or will show so many steps of 30 s from now."""
    return f"{totp(factor.secret(), t0=int(-30 * steps)):06}"


def code_for(secret: str) -> str:
    """What an app shows that was given the secret as the page writes it."""
    return f"{totp(b32decode(secret.replace(' ', ''))):06}"


def set_up(user: Any) -> tuple[SecondFactor, list[str]]:
    """A second factor whose first code was given a minute ago, and its recovery codes."""
    begun = factor_begin(user)
    factor, codes = factor_confirm(user, code_of(begun), by=make.by(user), now=timezone.now(), at=NOW)
    SecondFactor.objects.filter(pk=factor.pk).update(last_step=int(time.time()) // 30 - 2)
    factor.refresh_from_db()
    return factor, codes


def sign_in(client: Client, username: str, *, password: str = PASSWORD, code: str = "", **headers: Any) -> Any:
    words = {"username": username, "password": password, "code": code, "next": "/admin/"}
    return client.post(LOGIN, words, **headers)
