"""A house with one row of every kind, and who looks at it in Persian."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache

from algo.services.preferences import language_choose
from tests.admin.conftest import _empty_cache, account, admin_user, browser, config
from tests.admin.test_pages import house
from tests.factories import make_user
from tests.personal.second_factors import PASSWORD

__all__ = ["_empty_cache", "account", "admin_user", "browser", "config", "house"]


@pytest.fixture
def reader(browser: Any, admin_user: Any, house: Any) -> Any:
    """A signed-in administrator who reads Persian."""
    language_choose(admin_user, "fa")
    return browser


@pytest.fixture
def fast_hashes(settings) -> None:
    """For tests that sign in often. Nobody was counted before."""
    cache.clear()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def sara() -> User:
    """An administrator with a password."""
    return make_user("sara", is_staff=True, is_superuser=True, password=PASSWORD)
