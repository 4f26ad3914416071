"""What the children must know: secrets made once, and the variables of this session."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from launcher import ROOT, RUN_DIR
from launcher.processes import write_private

SESSION_FILE = RUN_DIR / "session.env"
ALPHANUMERIC = string.ascii_letters + string.digits


def random_text(length: int, alphabet: str = ALPHANUMERIC) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def fernet_key() -> str:
    """32 random bytes, URL-safe base64: what cryptography.Fernet takes."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Secrets:
    """Made at the first start, kept in `secrets.json` (0600). `api_token` is known only once the demo was seeded."""

    secret_key: str
    field_encryption_key: str
    valkey_password: str
    admin_password: str
    wallex_api_key: str
    nobitex_api_key: str
    paper_control_token: str
    api_token: str = ""

    def __repr__(self) -> str:
        return "Secrets(...)"

    @classmethod
    def make(cls) -> Secrets:
        return cls(
            secret_key=random_text(64),
            field_encryption_key=fernet_key(),
            valkey_password=random_text(32),
            admin_password=random_text(20),
            wallex_api_key=f"{random_text(5, string.digits[1:])}|{random_text(40)}",
            nobitex_api_key=secrets.token_hex(20),
            paper_control_token=secrets.token_hex(20),
        )

    @classmethod
    def load_or_make(cls, path: Path) -> Secrets:
        """Those of `path`; what is missing there (an older version wrote it) is made and added."""
        fresh = cls.make()
        if path.exists():
            kept = json.loads(path.read_text())
            known = {field.name for field in fields(cls)}
            fresh = replace(fresh, **{name: value for name, value in kept.items() if name in known})
        fresh.save(path)
        return fresh

    def save(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self), indent=1) + "\n")


def parse_env(text: str) -> dict[str, str]:
    """KEY=VALUE lines; comments, blank lines, `export` and one pair of surrounding quotes are understood."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or name.startswith("#"):
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        else:
            value = value.partition(" #")[0].rstrip()
        values[name.strip()] = value
    return values


def format_env(values: Mapping[str, str]) -> str:
    """What `parse_env` and the settings read back; a value with anything unusual in it is quoted."""
    plain = re.compile(r"[\w.:/@%|,+=-]*")
    return "".join(
        f"{name}={value}\n" if plain.fullmatch(value) else f"{name}='{value}'\n"
        for name, value in sorted(values.items())
    )


def read_env(path: Path) -> dict[str, str]:
    return parse_env(path.read_text()) if path.exists() else {}


def test_environment() -> dict[str, str]:
    """Everything a test session must not inherit from `.env` or from a platform that is up; no real exchange."""
    return {
        "DJANGO_SETTINGS_MODULE": "algo_trade.settings",
        "SECRET_KEY": random_text(50),
        "FIELD_ENCRYPTION_KEYS": fernet_key(),
        "DEBUG": "False",
        "ALLOWED_HOSTS": "127.0.0.1,localhost,testserver",
        "EXCHANGE_ENVIRONMENT": "paper",
        "WALLEX_BASE_URL": "http://127.0.0.1:9/wallex",  # the discard port: nobody answers
        "NOBITEX_BASE_URL": "http://127.0.0.1:9/nobitex",
        "WALLEX_WS_URL": "",
        "NOBITEX_WS_URL": "",
        "WALLEX_API_KEY": "",
        "NOBITEX_API_KEY": "",
        "PAPER_URL": "",
        "PAPER_CONTROL_URL": "",
        "PAPER_CONTROL_TOKEN": "",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "line",
        "METRICS_TOKEN": "",
        "SENTRY_DSN": "",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
    }


def user_environment() -> dict[str, str]:
    """What the user said: `.env`, overruled by the environment of the process. An empty value says nothing."""
    return {name: value for name, value in (read_env(ROOT / ".env") | dict(os.environ)).items() if value}
