"""Nothing insecure starts, and a wrong environment is a sentence, not a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "SECRET_KEY": "s" * 50,
    "DATABASE_URL": "postgres://user:pw@127.0.0.1:5432/db",
    "FIELD_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "ENV_FILE": "",
}


def load_settings(**changes: str | None) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in (GOOD | changes).items() if value is not None}
    env["PATH"] = os.environ["PATH"]
    return subprocess.run(
        [sys.executable, "-c", "import algo_trade.settings as s; print(s.DATABASES['default']['ENGINE'])"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_complete_environment_starts_on_postgresql():
    result = load_settings()
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "django.db.backends.postgresql"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"SECRET_KEY": None}, "SECRET_KEY is not set and DEBUG is off"),
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set and DEBUG is off"),
        ({"FIELD_ENCRYPTION_KEYS": None}, "FIELD_ENCRYPTION_KEYS is not set"),
        ({"FIELD_ENCRYPTION_KEYS": "short"}, "FIELD_ENCRYPTION_KEYS"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        ({"DATABASE_URL": "sqlite:///db.sqlite3"}, "PostgreSQL"),
        ({"WALLEX_BASE_URL": "ftp://exchange"}, "WALLEX_BASE_URL must be an http or https address"),
        ({"EXCHANGE_ENVIRONMENT": "real"}, "EXCHANGE_ENVIRONMENT"),
        ({"EXCHANGE_ENVIRONMENT": "paper"}, "EXCHANGE_ENVIRONMENT is paper, but WALLEX_BASE_URL is the address of the"),
        ({"TRADING_DAY_TIME_ZONE": "Mars/Base"}, "TRADING_DAY_TIME_ZONE"),
    ],
)
def test_a_wrong_environment_starts_nothing_and_says_what_to_set(changes, named):
    result = load_settings(**changes)
    assert result.returncode != 0
    assert named in result.stderr
    assert "Traceback" not in result.stderr


def test_debugging_may_go_without_a_secret_key():
    assert load_settings(SECRET_KEY=None, DEBUG="1").returncode == 0


def test_no_secret_is_repeated_in_a_complaint():
    result = load_settings(DATABASE_URL="sqlite://secret-canary", FIELD_ENCRYPTION_KEYS="secret-canary")
    assert result.returncode != 0
    assert "secret-canary" not in result.stderr + result.stdout
