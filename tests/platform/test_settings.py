"""Nothing insecure starts, and a wrong environment is a sentence, not a traceback."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from algo_trade.env import key_weakness
from launcher.session import random_text

ROOT = Path(__file__).resolve().parents[2]
STRONG = "kP3vX9qLw7RzT5mB1nYc8HdJ4gFs6AaQeUiOtWxZyVbNhGjKlC"
GOOD = {
    "SECRET_KEY": STRONG,
    "DATABASE_URL": "postgres://user:pw@127.0.0.1:5432/db",
    "FIELD_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "ENV_FILE": "",
}


ON_PAPER = {
    "EXCHANGE_ENVIRONMENT": "paper",
    "WALLEX_BASE_URL": "http://127.0.0.1:9/wallex",
    "NOBITEX_BASE_URL": "http://127.0.0.1:9/nobitex",
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
        ({"SECRET_KEY": "types-only"}, "SECRET_KEY is weak: it has 10 characters, fewer than 50"),
        ({"SECRET_KEY": "django-insecure-" + STRONG}, "SECRET_KEY is weak: it begins like an example"),
        ({"SECRET_KEY": "changeme" + STRONG}, "SECRET_KEY is weak: it begins like an example"),
        ({"SECRET_KEY": "s" * 60}, "SECRET_KEY is weak: it is made of 1 different characters"),
        ({"SECRET_KEY": "abcdefghijkl" * 5}, "SECRET_KEY is weak: it repeats itself"),
        ({"DEBUG": "1"}, "DEBUG is on and EXCHANGE_ENVIRONMENT is live"),
        ({"CLOCK_CALLS": "60"}, "CLOCK_CALLS is set and EXCHANGE_ENVIRONMENT is live"),
        (
            {"CLOCK_SPEED": "60", "CLOCK_ANCHOR": "0", "CLOCK_ANCHOR_REAL": "0"},
            "CLOCK_CALLS is set and EXCHANGE_ENVIRONMENT is live",
        ),
        ({"DEBUG": "1", "TLS": "1", **ON_PAPER}, "DEBUG is on and TLS is on"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS is *"),
        ({"ALLOWED_HOSTS": "trade.example.org, *", "TLS": "1", **ON_PAPER}, "ALLOWED_HOSTS is *"),
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
    assert load_settings(SECRET_KEY=None, DEBUG="1", **ON_PAPER).returncode == 0


def test_on_paper_and_without_tls_any_host_may_be_named():
    assert load_settings(ALLOWED_HOSTS="*", **ON_PAPER).returncode == 0


@pytest.mark.parametrize(
    "key",
    [random_text(50), random_text(64), secrets.token_hex(32), secrets.token_urlsafe(48)],
    ids=["50", "64", "hex", "url"],  # workers of one session must see the same names
)
def test_a_random_key_is_not_called_weak(key):
    assert key_weakness(key) == ""


def test_no_weak_key_is_repeated_in_the_complaint():
    assert "hunter2" not in load_settings(SECRET_KEY="hunter2-hunter2").stderr


def test_the_settings_of_a_server_pass_djangos_own_check_without_a_warning():
    """As docker-compose.prod.yml sets them; without a database, which this check does not ask."""
    result = manage("check", "--deploy", "--fail-level", "WARNING", **SERVER)
    assert result.returncode == 0, result.stderr
    assert "System check identified no issues (0 silenced)." in result.stdout


def test_without_tls_djangos_own_check_would_complain():
    result = manage("check", "--deploy", "--fail-level", "WARNING", **(SERVER | {"TLS": "0"}))
    assert result.returncode == 1
    assert "security.W004" in result.stderr  # HSTS
    assert "security.W012" in result.stderr  # the session's cookie


@pytest.mark.parametrize(
    ("command", "user"), [("migrate", "owner"), ("database_role", "owner"), ("check", "app"), ("run_guardian", "app")]
)
def test_tables_are_changed_by_their_owner_and_everything_else_by_the_role_of_the_platform(command, user):
    code = f"import sys; sys.argv = ['manage.py', {command!r}]; import algo_trade.settings as s; "
    env = {
        **GOOD,
        "DATABASE_URL": "postgres://app:x@127.0.0.1/d",
        "MIGRATE_DATABASE_URL": "postgres://owner:x@127.0.0.1/d",
    }
    words = (sys.executable, "-c", code + "print(s.DATABASES['default']['USER'])")
    told = subprocess.run(
        words, cwd=ROOT, env=env | {"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == user


def test_cookies_of_a_server_travel_over_tls_only_and_no_script_reads_them():
    told = told_settings(
        "SESSION_COOKIE_NAME CSRF_COOKIE_NAME SESSION_COOKIE_SECURE CSRF_COOKIE_SECURE SESSION_COOKIE_HTTPONLY "
        "CSRF_COOKIE_HTTPONLY SESSION_COOKIE_SAMESITE SESSION_COOKIE_AGE SECURE_HSTS_SECONDS PASSWORD_HASHERS",
        **SERVER,
    )
    assert told[:2] == ["__Host-sessionid", "__Host-csrftoken"]
    assert told[2:6] == [True, True, True, True]
    assert told[6:9] == ["Lax", 43_200, 31_536_000]
    assert told[9][0] == "django.contrib.auth.hashers.Argon2PasswordHasher"


SERVER = {
    "DEBUG": "false",
    "TLS": "true",
    "ALLOWED_HOSTS": "trade.example.org",
    "CSRF_TRUSTED_ORIGINS": "https://trade.example.org",
    "EXCHANGE_ENVIRONMENT": "live",
    "REDIS_URL": "redis://:password@127.0.0.1:9/0",
}


def manage(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    env = {**GOOD, **changes, "PATH": os.environ["PATH"]}
    words = (sys.executable, "manage.py", *words)
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def told_settings(names: str, **changes: str) -> list:
    code = f"import json, algo_trade.settings as s; print(json.dumps([getattr(s, n) for n in {names.split()!r}]))"
    env = {**GOOD, **changes, "PATH": os.environ["PATH"]}
    words = (sys.executable, "-c", code)
    return json.loads(subprocess.run(words, cwd=ROOT, env=env, capture_output=True, timeout=60, check=True).stdout)


def test_no_secret_is_repeated_in_a_complaint():
    result = load_settings(DATABASE_URL="sqlite://secret-canary", FIELD_ENCRYPTION_KEYS="secret-canary")
    assert result.returncode != 0
    assert "secret-canary" not in result.stderr + result.stdout
