"""REDIS_URL: one server, or the sentinels of several.

redis://:password@host:6379/0, rediss:// (TLS) and unix:// name one server.
sentinel://:password@host1:26379,host2:26379,host3:26379/0?master=NAME names the sentinels that know which server is the
master; `password` is the servers', `sentinel_password=` the sentinels' own, if any. Reserved characters as %40.

Pure: settings read it in every process, also in those that must not import Redis.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

SENTINEL_PORT = 26379
ONE_SERVER = ("redis", "rediss", "unix")
WRONG = (
    "REDIS_URL must be redis://, rediss:// or unix:// and one server, or "
    "sentinel://:password@host1:26379,host2:26379/0?master=NAME: nothing was started. A Redis Cluster cannot be used: "
    "Celery's broker does not know it."
)


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where Redis is. `url`: of the one server; of several, `sentinels` and the name of their `master`."""

    url: str = field(repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> RedisPlace:
        """Raises ValueError, which does not repeat the address, for it may hold a password."""
        scheme, _, rest = url.partition("://")
        if scheme in ONE_SERVER and rest:
            return cls(url)
        if scheme != "sentinel":
            raise ValueError(WRONG)
        try:
            return cls._of_sentinels(url)
        except (ValueError, KeyError, IndexError):
            raise ValueError(WRONG) from None

    @classmethod
    def _of_sentinels(cls, url: str) -> RedisPlace:
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        username, _, password = login.partition(":")
        options = parse_qs(parts.query, strict_parsing=True)
        if options.keys() - {"master", "sentinel_password"}:
            raise ValueError(WRONG)
        return cls(
            url,
            sentinels=tuple(_host_and_port(each) for each in hosts.split(",")),
            master=options["master"][0],
            database=int(parts.path.strip("/") or 0),
            username=unquote(username) or None,
            password=unquote(password) or None,
            sentinel_password=options.get("sentinel_password", [None])[0],
        )

    @property
    def of_servers(self) -> dict[str, Any]:
        """What the master is asked with."""
        return {"db": self.database, "username": self.username, "password": self.password}

    @property
    def of_sentinels(self) -> dict[str, Any]:
        return {"password": self.sentinel_password} if self.sentinel_password else {}

    @property
    def broker_url(self) -> str:
        """As Celery wants it: each sentinel an address of its own, with the login of the servers."""
        if not self.sentinels:
            return self.url
        login = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@" if self.password else ""
        return ";".join(f"sentinel://{login}{host}:{port}/{self.database}" for host, port in self.sentinels)

    def transport_options(self, timeout: float) -> dict[str, Any]:
        """What Celery's broker and result backend need beside `broker_url`. A sentinel that does not answer within
        `timeout` seconds is passed over."""
        if not self.sentinels:
            return {}
        in_time = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        return {"master_name": self.master, "sentinel_kwargs": self.of_sentinels | in_time}


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(WRONG)
    return parts.hostname, parts.port or SENTINEL_PORT
