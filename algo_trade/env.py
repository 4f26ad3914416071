"""The environment, typed. Settings fail here, at start, with a sentence; never at midnight with a KeyError.

Sources, first wins: the process environment; `.run/session.env`, written by `./run` while it is up so that `manage.py`
talks to the same servers (not read by a process that was given a DATABASE_URL); `.env`, or the file named by ENV_FILE.
Instead of NAME the process environment may hold NAME_FILE, the path of a file with the value, as Docker's secrets are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit
from zoneinfo import available_timezones

from cryptography.fernet import Fernet
from dotenv import dotenv_values
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from algo.live.redis_url import RedisPlace
from providers.clock import AnchoredClock, calls_factor, clock_from_env

BASE_DIR = Path(__file__).resolve().parent.parent
PAPER, LIVE = "paper", "live"


_MAIL_PORTS = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
REAL_EXCHANGES = ("wallex.ir", "nobitex.ir")


def _is_real(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return any(host == domain or host.endswith(f".{domain}") for domain in REAL_EXCHANGES)


SHORTEST_KEY, FEWEST_CHARACTERS = 50, 10
SHORTEST_METRICS_TOKEN = 16
# How keys begin that stand in examples for everybody to read, Django's own among them.
KNOWN_KEYS = ("django-insecure-", "insecure-key-", "changeme", "change-me", "your-secret", "your_secret", "secret")


def key_weakness(key: str) -> str:
    """Why `key` could be guessed; empty where nothing says so."""
    if len(key) < SHORTEST_KEY:
        return f"it has {len(key)} characters, fewer than {SHORTEST_KEY}"
    if key.lower().startswith(KNOWN_KEYS):
        return "it begins like an example"
    if len(set(key)) < FEWEST_CHARACTERS:
        return f"it is made of {len(set(key))} different characters"
    if any(key.startswith(key[period:]) for period in range(1, len(key) // 2 + 1)):
        return "it repeats itself"
    return ""


def _values_in_files(names: Iterable[str]) -> dict[str, str]:
    """The value of each NAME from the file that the process environment names as NAME_FILE; its last line break is none
    of it. ValueError where the file cannot be read, or both are set."""
    found = {}
    for name in names:
        variable = f"{name}_FILE"
        path = os.environ.get(variable, "")
        if not path:
            continue
        if os.environ.get(name):
            raise ValueError(f"{name} and {variable} are both set: nothing was started. Set one of them.")
        try:
            found[name] = Path(path).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise ValueError(
                f"{variable} names a file that cannot be read ({type(exc).__name__}): nothing was started."
            ) from None
    return found


class Env(BaseSettings):
    """Every variable the platform reads. `.env.example` lists the same names."""

    model_config = SettingsConfigDict(env_file=os.environ.get("ENV_FILE", BASE_DIR / ".env") or None, extra="ignore")

    SECRET_KEY: SecretStr = SecretStr("")
    DEBUG: bool = False
    ALLOWED_HOSTS: str = "127.0.0.1,localhost"
    CSRF_TRUSTED_ORIGINS: str = ""
    DATABASE_URL: SecretStr = SecretStr("")
    MIGRATE_DATABASE_URL: SecretStr = Field(
        SecretStr(""), description="With the owner of the tables; empty: DATABASE_URL"
    )
    DATABASE_POOLED: bool = Field(False, description="DATABASE_URL leads through a pool that shares sessions")
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
    INBOUND_SIGNALS: bool = Field(False, description="Signals from outside (TradingView …) may be sent to strategies")
    KEEP_CANDLES_DAYS: int = Field(0, ge=0, description="Older candles are dropped, a quarter at a time; 0: none")
    LOG_LEVEL: str = "INFO"
    LOG_FORMAT: Literal["line", "json"] = "line"
    METRICS_TOKEN: SecretStr = Field(SecretStr(""), description="Opens /metrics; empty: nobody can read them")
    FLOWER_URL: str = "http://127.0.0.1:5555"
    WEB_URL: str = Field("", description="Where people open the platform; empty: not known")
    LIVE_URL: str = Field("", description="Where the process `live` is; empty: same origin as the page")
    LIVE_CONNECTIONS: int = Field(1000, ge=1, le=20_000)
    LIVE_CONNECTIONS_OF_USER: int = Field(20, ge=1, le=20_000)
    TLS: bool = False
    TWO_FACTOR: Literal["", "optional", "admins", "staff"] = Field(
        "", description="Empty: admins with TLS, else optional"
    )
    SENTRY_DSN: SecretStr = Field(SecretStr(""), description="Errors are reported there; empty: to nobody")
    OTEL_EXPORTER_OTLP_ENDPOINT: str = Field("", description="Traces go there (OTLP over HTTP); empty: there are none")
    WEBHOOK_URL: str = ""
    WEBHOOK_SECRET: SecretStr = Field(SecretStr(""), description="Signs every webhook: HMAC-SHA256")
    EMAIL_URL: SecretStr = Field(SecretStr(""), description="smtp://, smtps:// or smtp+tls://user:password@host:port")
    EMAIL_FROM: str = Field("", description="Sender of e-mails; empty: the user of EMAIL_URL")
    NOTIFY_CHAT_SERVICES: str = Field("", description="More services of Apprise, comma separated, as ntfys,gotifys")
    NOTIFY_PRIVATE_ADDRESSES: bool = Field(False, description="Whether users may have private addresses sent to")

    @property
    def is_serving(self) -> bool:
        """Whether others can reach it, or money is real."""
        return self.TLS or self.EXCHANGE_ENVIRONMENT == LIVE

    @model_validator(mode="before")
    @classmethod
    def read_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values | _values_in_files(cls.model_fields)

    @model_validator(mode="after")
    def refuse_unsafe(self) -> Env:
        """Nothing insecure starts with DEBUG off."""
        self._refuse_open_doors()
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
        self.redis  # noqa: B018 - refused here, not at the first task
        if self.TRADING_DAY_TIME_ZONE not in available_timezones():
            raise ValueError("TRADING_DAY_TIME_ZONE is no known time zone; the default is Asia/Tehran.")
        self._refuse_wrong_exchanges()
        self.mail  # noqa: B018 - refused here, not when the first mail is sent
        if 0 < len(self.METRICS_TOKEN.get_secret_value()) < SHORTEST_METRICS_TOKEN:
            raise ValueError(
                f"METRICS_TOKEN has fewer than {SHORTEST_METRICS_TOKEN} characters and could be guessed: nothing was "
                "started. Set it to 32 random characters, or leave it empty: then nobody can read /metrics."
            )
        for name in ("WEB_URL", "LIVE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"):
            if getattr(self, name) and urlsplit(getattr(self, name)).scheme not in ("http", "https"):
                raise ValueError(f"{name} must be an http or https address, or empty.")
        if self.WEBHOOK_URL and not self.WEBHOOK_SECRET.get_secret_value():
            raise ValueError(
                "WEBHOOK_URL is set and WEBHOOK_SECRET is not: nobody could tell our webhooks from forged ones. "
                "Set WEBHOOK_SECRET to 32 random characters that the receiver knows too."
            )
        return self

    def _refuse_open_doors(self) -> None:
        if self.DEBUG and self.is_serving:
            why = "EXCHANGE_ENVIRONMENT is live" if self.EXCHANGE_ENVIRONMENT == LIVE else "TLS is on"
            raise ValueError(
                f"DEBUG is on and {why}: error pages would show settings and variables to whoever causes an error. "
                "Nothing was started. Unset DEBUG, or trade on paper without TLS."
            )
        if not self.DEBUG and not self.SECRET_KEY.get_secret_value():
            raise ValueError(
                "SECRET_KEY is not set and DEBUG is off: nothing was started. Set SECRET_KEY in the environment or in "
                ".env (50 random characters), or start everything with ./run, which makes one."
            )
        if not self.DEBUG and (weakness := key_weakness(self.SECRET_KEY.get_secret_value())):
            raise ValueError(
                f"SECRET_KEY is weak: {weakness}. Whoever guesses it signs sessions as anybody. Nothing was started. "
                "Make one of 50 random characters: "
                'python -c "import secrets; print(secrets.token_urlsafe(48))". Everybody has to sign in again then.'
            )
        if self.is_serving and any(host.strip() == "*" for host in self.ALLOWED_HOSTS.split(",")):
            raise ValueError(
                "ALLOWED_HOSTS is *: a request could name any host, and links in its answer would lead there. Nothing "
                "was started. List the host names under which people open the platform, comma separated."
            )

    def _refuse_wrong_exchanges(self) -> None:
        if self.EXCHANGE_ENVIRONMENT == LIVE and (clock_from_env() != AnchoredClock() or calls_factor() != 1):
            raise ValueError(
                "CLOCK_SPEED, CLOCK_ANCHOR or CLOCK_CALLS is set and EXCHANGE_ENVIRONMENT is live: real exchanges know "
                "neither another time nor more calls a minute. Nothing was started. Unset them: they belong to replays."
            )
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
    def redis(self) -> RedisPlace:
        """REDIS_URL, understood. ValueError, which does not repeat it, where it is none."""
        return RedisPlace.parse(self.REDIS_URL.get_secret_value() or "redis://127.0.0.1:6379/0")

    @property
    def mail(self) -> dict[str, Any]:
        """EMAIL_URL as Django's settings. ValueError, which does not repeat it, where it is none."""
        url = self.EMAIL_URL.get_secret_value()
        if not url:
            return {"EMAIL_HOST": "", "DEFAULT_FROM_EMAIL": self.EMAIL_FROM or "algo_trade@localhost"}
        wrong = ValueError(
            "EMAIL_URL must be smtp://, smtp+tls:// or smtps://user:password@host:port (reserved characters of user "
            "and password as %40): nothing was started."
        )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme not in _MAIL_PORTS or not parts.hostname or parts.path not in ("", "/"):
            raise wrong
        user = unquote(parts.username or "")
        sender = self.EMAIL_FROM or (user if "@" in user else f"algo_trade@{parts.hostname}")
        return {
            "EMAIL_HOST": parts.hostname,
            "EMAIL_PORT": port or _MAIL_PORTS[parts.scheme],
            "EMAIL_HOST_USER": user,
            "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
            "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
            "EMAIL_USE_SSL": parts.scheme == "smtps",
            "DEFAULT_FROM_EMAIL": sender,
        }

    @property
    def secret_key(self) -> str:
        return self.SECRET_KEY.get_secret_value() or "insecure-key-for-debugging-only-" + "x" * 24


def join_session() -> None:
    """Take over the environment of a running `./run`, clock included, unless this process has a database of its own."""
    session = BASE_DIR / ".run" / "session.env"
    if {"DATABASE_URL", "DATABASE_URL_FILE"} & os.environ.keys() or not session.exists():
        return
    for name, value in dotenv_values(session, interpolate=False).items():
        os.environ.setdefault(name, value or "")
