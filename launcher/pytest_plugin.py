"""Gives a test session real servers: PostgreSQL and Valkey start before Django's settings are read.

pytest-django reads the settings before `pytest_configure`; only `pytest_load_initial_conftests`, tried first, is early
enough. With DATABASE_URL and REDIS_URL set, those servers are used. Workers of xdist inherit the controller's servers;
each has a Redis database of its own, so that one worker's flush is not another one's loss.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

import pytest

from launcher import ROOT
from launcher.embedded import ensure_test_servers, stop_test_servers

REDIS_DATABASES = 16


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker:
        number = int(worker.removeprefix("gw")) + 1
        url = urlsplit(os.environ["REDIS_URL"])
        os.environ["REDIS_URL"] = url._replace(path=f"/{number % REDIS_DATABASES}").geturl()
        return
    ensure_test_servers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes come first: a few tests that take long. Begun last, the other core would wait for
    them."""
    long = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in long)


def pytest_unconfigure() -> None:
    stop_test_servers()
