from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from tests import factories as make


@pytest.fixture(autouse=True)
def _no_request_counted_yet() -> None:
    cache.clear()


@pytest.fixture
def trader(db: Any) -> Any:
    """An ordinary user: owns accounts, is no staff."""
    return make.make_user("trader")


@pytest.fixture
def password(trader: Any, settings: Any) -> str:
    """The trader's password, hashed fast."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    trader.set_password("correct horse battery")
    trader.save()
    return "correct horse battery"


@pytest.fixture
def api(trader: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(trader)
    return client


@pytest.fixture
def staff_api(db: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(make.make_user("boss", is_staff=True))
    return client


@pytest.fixture
def config(trader: Any) -> Any:
    """A strategy on an account of the trader, whose key is a canary."""
    return make.make_config(account=make.make_account(owner=trader, api_key="CANARY-KEY-zq7X"))
