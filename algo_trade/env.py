"""The environment, typed. Settings fail here, at start, with a sentence; never at midnight with a KeyError.

Sources, first wins: the process environment; `.run/session.env`, written by `./run` while it is up so that `manage.py`
talks to the same servers (not read by a process that was given a DATABASE_URL); `.env`, or the file named by ENV_FILE.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from cryptography.fernet import Fernet
from dotenv import dotenv_values
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent
PAPER, LIVE = "paper", "live"


REAL_EXCHANGES = ("wallex.ir", "nobitex.ir")


def _is_real(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return any(host == domain or host.endswith(f".{domain}") for domain in REAL_EXCHANGES)


class Env(BaseSettings):
    """Every variable the platform reads. `.env.example` lists the same names."""

    model_config = SettingsConfigDict(env_file=os.environ.get("ENV_FILE", BASE_DIR / ".env") or None, extra="ignore")

    SECRET_KEY: SecretStr = SecretStr("")
    DEBUG: bool = False
    ALLOWED_HOSTS: str = "127.0.0.1,localhost"
    CSRF_TRUSTED_ORIGINS: str = ""
    DATABASE_URL: SecretStr = SecretStr("")
    REDIS_URL: SecretStr = SecretStr("")
    FIELD_ENCRYPTION_KEYS: SecretStr = Field(SecretStr(""), description="Fernet keys, newest first, comma separated")

    WALLEX_BASE_URL: str = "https://api.wallex.ir"
    NOBITEX_BASE_URL: str = "https://apiv2.nobitex.ir"
    WALLEX_WS_URL: str = Field("", description="Empty: where the stream of WALLEX_BASE_URL belongs")
    NOBITEX_WS_URL: str = Field("", description="Empty: where the stream of NOBITEX_BASE_URL belongs")
    WALLEX_API_KEY: SecretStr = SecretStr("")
    NOBITEX_API_KEY: SecretStr = SecretStr("")
    EXCHANGE_ENVIRONMENT: Literal["paper", "live"] = "live"
    PAPER_URL: str = ""
    PAPER_CONTROL_URL: str = ""
    PAPER_CONTROL_TOKEN: SecretStr = SecretStr("")

    TRADING_DAY_TIME_ZONE: str = "Asia/Tehran"
    LOG_LEVEL: str = "INFO"
    FLOWER_URL: str = "http://127.0.0.1:5555"
    TLS: bool = False
    SENTRY_DSN: SecretStr = SecretStr("")
    WEBHOOK_URL: str = ""
    WEBHOOK_SECRET: SecretStr = Field(SecretStr(""), description="Signs every webhook: HMAC-SHA256")

    @model_validator(mode="after")
    def refuse_unsafe(self) -> Env:
        """Nothing insecure starts with DEBUG off."""
        if not self.DEBUG and not self.SECRET_KEY.get_secret_value():
            raise ValueError(
                "SECRET_KEY is not set and DEBUG is off: nothing was started. Set SECRET_KEY in the environment or in "
                ".env (50 random characters), or start everything with ./run, which makes one."
            )
        if not self.DATABASE_URL.get_secret_value():
            raise ValueError(
                "DATABASE_URL is not set: nothing was started. Start everything with ./run, or point DATABASE_URL at "
                "a PostgreSQL database (postgres://user:password@host:5432/name)."
            )
        if not self.FIELD_ENCRYPTION_KEYS.get_secret_value():
            raise ValueError(
                "FIELD_ENCRYPTION_KEYS is not set: exchange keys could not be encrypted. Set it to a Fernet key "
                "(32 random bytes, URL-safe base64); ./run makes one."
            )
        try:
            [Fernet(key) for key in self.FIELD_ENCRYPTION_KEYS.get_secret_value().split(",") if key]
        except ValueError:
            raise ValueError(
                "FIELD_ENCRYPTION_KEYS holds something that is no Fernet key (32 random bytes, URL-safe base64): "
                "nothing was started."
            ) from None
        if self.TRADING_DAY_TIME_ZONE not in available_timezones():
            raise ValueError("TRADING_DAY_TIME_ZONE is no known time zone; the default is Asia/Tehran.")
        self._refuse_wrong_exchanges()
        if self.WEBHOOK_URL and not self.WEBHOOK_SECRET.get_secret_value():
            raise ValueError(
                "WEBHOOK_URL is set and WEBHOOK_SECRET is not: nobody could tell our webhooks from forged ones. "
                "Set WEBHOOK_SECRET to 32 random characters that the receiver knows too."
            )
        return self

    def _refuse_wrong_exchanges(self) -> None:
        for name in ("WALLEX_WS_URL", "NOBITEX_WS_URL"):
            if getattr(self, name) and urlsplit(getattr(self, name)).scheme not in ("ws", "wss"):
                raise ValueError(f"{name} must be a ws or wss address, or empty.")
        for name in ("WALLEX_BASE_URL", "NOBITEX_BASE_URL"):
            if urlsplit(getattr(self, name)).scheme not in ("http", "https"):
                raise ValueError(f"{name} must be an http or https address.")
        for name in ("WALLEX_BASE_URL", "NOBITEX_BASE_URL", "WALLEX_WS_URL", "NOBITEX_WS_URL"):
            if self.EXCHANGE_ENVIRONMENT == PAPER and _is_real(getattr(self, name)):
                raise ValueError(
                    f"EXCHANGE_ENVIRONMENT is paper, but {name} is the address of the real exchange: orders there are "
                    "real money. Nothing was started. Set EXCHANGE_ENVIRONMENT=live deliberately, or use the address "
                    "of a paper exchange."
                )

    @property
    def secret_key(self) -> str:
        return self.SECRET_KEY.get_secret_value() or "insecure-key-for-debugging-only-" + "x" * 24


def join_session() -> None:
    """Take over the environment of a running `./run`, clock included, unless this process has a database of its own."""
    session = BASE_DIR / ".run" / "session.env"
    if "DATABASE_URL" in os.environ or not session.exists():
        return
    for name, value in dotenv_values(session, interpolate=False).items():
        os.environ.setdefault(name, value or "")
