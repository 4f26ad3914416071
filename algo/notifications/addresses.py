"""HTTP to addresses that people typed in: only public ones, looked up once, connected to as looked up."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError, NewConnectionError
from urllib3.util import connection


class AddressRefused(ValueError):
    """An address that nothing is sent to. The text says why."""


def require_web_address(url: str, *, allow_private: bool) -> None:
    """Refuse what is no plain web address; only https where private ones are refused. Raises AddressRefused."""
    parts = urlsplit(url)
    allowed = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in allowed or not parts.hostname:
        raise AddressRefused(f"a webhook address must start with {' or '.join(f'{s}://' for s in allowed)} and a host")
    if parts.username or parts.password:
        raise AddressRefused("a webhook address must not hold a user name or password")


def is_public(address: str) -> bool:
    """Whether `address` is a unicast address of the open internet, also behind its IPv6 disguises."""
    ip: Any = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if inner is None and ip.version == 6 and ip in ipaddress.ip_network("64:ff9b::/96"):
        inner = ipaddress.ip_address(int(ip) & 0xFFFF_FFFF)
    ip = inner or ip
    return bool(ip.is_global) and not ip.is_multicast and not ip.is_reserved


def public_addresses(host: str, port: int) -> list[str]:
    """What `host` resolves to. AddressRefused where a single one of them is not public."""
    found = [str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not all(is_public(address) for address in found):
        raise AddressRefused(f"{host} resolves to a private, loopback or link-local address: nothing was sent")
    return found


def session(*, allow_private: bool) -> requests.Session:
    """A session without proxies; without private addresses too, unless they are allowed."""
    made = requests.Session()
    made.trust_env = False  # a proxy or .netrc of the environment would undo all of the above
    if not allow_private:
        for scheme in ("https://", "http://"):
            made.mount(scheme, _PublicAdapter())
    return made


class _Checked(HTTPConnection):
    """Connects to the very address that was checked: a second look-up could answer differently (DNS rebinding)."""

    def _new_conn(self) -> socket.socket:
        try:
            addresses = public_addresses(self.host, self.port or 443)
        except socket.gaierror as exc:
            raise NameResolutionError(self.host, self, exc) from exc
        try:
            return connection.create_connection(
                (addresses[0], self.port or 443), self.timeout, socket_options=self.socket_options
            )
        except OSError as exc:
            raise NewConnectionError(self, f"no connection to {self.host}: {exc}") from exc


class _CheckedTLS(_Checked, HTTPSConnection):
    """The same; the certificate is still checked against the host's name."""


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _Checked


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _CheckedTLS


class _PublicAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
