"""A house with one row of every kind, and who looks at it in Persian."""

from __future__ import annotations

from typing import Any

import pytest

from algo.services.preferences import language_choose
from tests.admin.conftest import _empty_cache, account, admin_user, browser, config
from tests.admin.test_pages import house

__all__ = ["_empty_cache", "account", "admin_user", "browser", "config", "house"]


@pytest.fixture
def reader(browser: Any, admin_user: Any, house: Any) -> Any:
    """A signed-in administrator who reads Persian."""
    language_choose(admin_user, "fa")
    return browser
