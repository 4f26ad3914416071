"""Fixtures of every room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.db import connection, connections


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recorded data and oracles kept beside the checkout (ALGO_SHARED says where else); skipped where they are not."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("ALGO_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}: set ALGO_SHARED to the folder that holds data/ and oracle/")
    return folder


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Sessions of the tests may empty the tables of the ledger between two tests; no other session may."""
    options = connections["default"].settings_dict["OPTIONS"]
    options["options"] += " -c algo.may_erase_history=on"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """A test that runs inside one transaction may think between two queries as long as it needs: a first import or a
    compilation takes longer than the platform lets a session idle, where the machine is busy."""
    if connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
