from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from algo.selectors.rights import Role
from tests import factories as make


@pytest.fixture(autouse=True)
def _no_request_counted_yet() -> None:
    cache.clear()


@pytest.fixture
def trader(db: Any) -> Any:
    """A Trader, who owns accounts and is no staff."""
    return make.make_trader("trader")


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
    """An Admin's."""
    client = APIClient()
    client.force_authenticate(make.make_user("boss", role=Role.ADMIN))
    return client


@pytest.fixture
def config(trader: Any) -> Any:
    """A strategy on an account of the trader, whose key is a canary."""
    return make.make_config(account=make.make_account(owner=trader, api_key="CANARY-KEY-zq7X"))


@pytest.fixture
def looker(config: Any) -> APIClient:
    """Who trades elsewhere and may look at the account of the trader."""
    user = make.make_trader("looker")
    config.account.viewers.add(user)
    client = APIClient()
    client.force_authenticate(user)
    return client
