"""manage.py joins a running ./run, unless it was given a database of its own."""

from __future__ import annotations

import os

import pytest

from algo_trade import env
from launcher.session import format_env


@pytest.fixture
def session(tmp_path, monkeypatch):
    (tmp_path / ".run").mkdir()
    said = {"DATABASE_URL": "postgres:///session", "CLOCK_SPEED": "60", "WEBHOOK_SECRET": "with $pace and #"}
    (tmp_path / ".run" / "session.env").write_text(format_env(said))
    monkeypatch.setattr(env, "BASE_DIR", tmp_path)
    for name in ("DATABASE_URL", "CLOCK_SPEED", "WEBHOOK_SECRET"):
        monkeypatch.setenv(name, "replaced")  # so that whatever the test sets is undone
        monkeypatch.delenv(name)


def test_the_session_of_a_running_platform_is_taken_over_clock_included(session):
    env.join_session()
    assert os.environ["DATABASE_URL"] == "postgres:///session"
    assert os.environ["CLOCK_SPEED"] == "60"
    assert os.environ["WEBHOOK_SECRET"] == "with $pace and #"


def test_a_process_with_its_own_database_takes_nothing_from_a_session(session, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres:///own")
    env.join_session()
    assert os.environ["DATABASE_URL"] == "postgres:///own"
    assert "CLOCK_SPEED" not in os.environ
