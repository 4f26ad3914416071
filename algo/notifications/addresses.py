"""HTTP to addresses that people typed in: only public ones, looked up once, connected to as looked up, never
redirected, and over within a time that no receiver can stretch."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from django.utils.translation import gettext as _
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError, NewConnectionError
from urllib3.util import connection

MOST_CHARACTERS = 2000
_NO_HOST_HAS = re.compile(r"[\s\\\x00-\x1f\x7f]")
_A_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
# Nobody's, whatever the standard library of this version thinks: protocol assignments, 6to4 relays, site-local.
_SPECIAL = tuple(ipaddress.ip_network(each) for each in ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10"))
# IPv6 forms that hold an IPv4 address in their last 32 bits: what counts is where they lead.
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


class AddressRefused(ValueError):
    """An address that nothing is sent to. The text says why."""


def require_web_address(url: str, *, allow_private: bool) -> None:
    """Refuse what is no plain web address; only https, and no address that is private by its spelling, where private
    ones are refused. What its name resolves to is seen when it is connected to. Raises AddressRefused."""
    parts = _parts(url)
    allowed = ("https",) if not allow_private else ("https", "http")
    if parts.scheme not in allowed or not parts.hostname:
        schemes = " / ".join(f"{scheme}://" for scheme in allowed)
        raise AddressRefused(_("a webhook address must start with %(schemes)s and a host") % {"schemes": schemes})
    if "@" in parts.netloc:
        raise AddressRefused(_("a webhook address must not hold a user name or password"))
    if not allow_private:
        _require_public(parts.hostname, _port(parts))


def _parts(url: str) -> SplitResult:
    if len(url) > MOST_CHARACTERS or _NO_HOST_HAS.search(url):
        raise AddressRefused(_("a webhook address is too long, or holds a space, a backslash or a control character"))
    try:
        return urlsplit(url)
    except ValueError as exc:
        raise AddressRefused(_("a webhook address must be a web address: %(why)s") % {"why": exc}) from None


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        raise AddressRefused(_("the port of a webhook address must be a number from 1 to 65535")) from None


def _require_public(spelled: str, port: int | None) -> None:
    if port is not None and port != 443 and port < 1024:
        raise AddressRefused(_("the port of a webhook address must be 443, or 1024 and above"))
    host = unicodedata.normalize("NFKC", spelled).lower()
    if host.endswith("."):
        raise AddressRefused(_("the host of a webhook address must not end with a dot"))
    if ":" not in host and _A_NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise AddressRefused(
                _("%(host)s is an unusual spelling of an IP address: write it as four decimal numbers") % {"host": host}
            ) from None
    if _is_address(host) and not is_public(host):  # a name is looked up when it is connected to
        raise _private(host)


def _private(host: str) -> AddressRefused:
    return AddressRefused(
        _("%(host)s is, or leads to, a private, loopback or link-local address: nothing was sent") % {"host": host}
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether `address` is a unicast address of the open internet, also behind its IPv6 disguises. ValueError for what
    is no IP address."""
    ip: Any = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if inner is None and ip.version == 6 and any(ip in network for network in _NAT64):
        inner = ipaddress.ip_address(int(ip) & 0xFFFF_FFFF)
    ip = inner or ip
    is_special = any(ip.version == network.version and ip in network for network in _SPECIAL)
    return bool(ip.is_global) and not (ip.is_multicast or ip.is_reserved or is_special)


def public_addresses(host: str, port: int) -> list[str]:
    """What `host` resolves to. AddressRefused where a single one of them is not public."""
    found = [str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not all(is_public(address) for address in found):
        raise _private(host)
    return found


# --- the post -------------------------------------------------------------------------------------------------------


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    timeout: tuple[float, float],
    seconds: float,
) -> tuple[int, Mapping[str, str]]:
    """POST once; the status and headers of the answer, whose body is not read. `timeout` bounds the connecting and each
    wait for a byte, `seconds` all of it. Raises AddressRefused, requests' and urllib3's errors."""
    require_web_address(url, allow_private=allow_private)
    adapter = _CheckedAdapter(allow_private)
    with _session(adapter) as http, _over_within(adapter, seconds):
        answer = http.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False, stream=True)
        with answer:
            return answer.status_code, answer.headers


def session(*, allow_private: bool) -> requests.Session:
    """A session without proxies; without private addresses too, unless they are allowed."""
    return _session(_CheckedAdapter(allow_private))


def _session(adapter: _CheckedAdapter) -> requests.Session:
    made = requests.Session()
    made.trust_env = False  # a proxy or .netrc of the environment would undo all of the above
    for scheme in ("https://", "http://"):
        made.mount(scheme, adapter)
    return made


@contextmanager
def _over_within(adapter: _CheckedAdapter, seconds: float) -> Iterator[None]:
    """Cut its connections after so long: a byte now and then outlives every timeout of a socket."""
    alarm = threading.Timer(seconds, adapter.cut)
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


class _Checked(HTTPConnection):
    """Connects to the very address that was checked: a second look-up could answer differently (DNS rebinding)."""

    adapter: _CheckedAdapter

    def _new_conn(self) -> socket.socket:
        port = self.port or self.default_port
        try:
            address = self.host if self.adapter.allow_private else public_addresses(self.host, port)[0]
            made = connection.create_connection((address, port), self.timeout, socket_options=self.socket_options)
        except socket.gaierror as exc:
            raise NameResolutionError(self.host, self, exc) from exc
        except OSError as exc:
            raise NewConnectionError(self, f"no connection to {self.host}: {exc}") from exc
        self.adapter.opened.append(made)
        return made


class _CheckedTLS(_Checked, HTTPSConnection):
    """The same; the certificate is still checked against the host's name."""


class _CheckedAdapter(HTTPAdapter):
    """Every connection of one session is checked, and kept so that it can be cut."""

    def __init__(self, allow_private: bool) -> None:
        self.allow_private = allow_private
        self.opened: list[socket.socket] = []
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        mine = {"adapter": self}
        plain = type("_Plain", (_Checked,), mine)
        tls = type("_TLS", (_CheckedTLS,), mine)
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("_HTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("_HTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
        }

    def cut(self) -> None:
        for each in self.opened:
            with suppress(OSError):  # closed meanwhile
                each.shutdown(socket.SHUT_RDWR)
