from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from tests import factories as make

CANARY = "CANARY-exchange-key-9z9z"


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


@pytest.fixture
def admin_user(db: Any) -> Any:
    return make.make_user("admin", is_staff=True, is_superuser=True)


@pytest.fixture
def browser(admin_user: Any) -> Client:
    """A signed-in administrator."""
    client = Client()
    client.force_login(admin_user)
    return client


@pytest.fixture
def account(admin_user: Any) -> Any:
    """A Wallex account whose key is a canary."""
    return make.make_account(owner=admin_user, name="main", api_key=CANARY)


@pytest.fixture
def config(account: Any) -> Any:
    return make.make_config(account=account, name="demo")
