"""How a request travels: `Transport` carries one and brings its answer, or says whether a byte of it may have left.

`RequestsTransport` is the one of real sockets. Another (of tests, of a simulated world) may stand in its place; what is
concluded from what it says is the same code (http.py).

Proxies of the environment (HTTPS_PROXY, NO_PROXY) are used, except for loopback addresses. A .netrc is never used: its
credentials would replace the exchange's own.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 5.0  # between two bytes
TOTAL_TIMEOUT = 8.0  # of one request, first byte to last
MAX_BODY_BYTES = 5 * 1024 * 1024
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class TransportError(Exception):
    """The request brought no answer; the text says why. Never raised as such: whether it left is what matters."""


class NotSent(TransportError):
    """No byte of the request left: the exchange cannot have acted on it."""


class Lost(TransportError):
    """The request, or part of it, left, and no complete answer came: the exchange may have acted on it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as its caller has it. `path` begins with a slash and stands below the base URL; `auth` adds the
    credentials to the headers of what it is called with, last of all."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    body: bytes | None = None  # JSON
    auth: AuthBase | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer. Names of headers are looked up in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Transport(Protocol):
    """The way to one exchange."""

    def send(self, request: Request) -> Reply:
        """Carry it once. Raises `NotSent` or `Lost`, nothing else."""
        ...


# --- real sockets ---------------------------------------------------------------------------------------------------


class NoAuth(AuthBase):
    """Sends no credentials, and keeps requests from looking for some in a .netrc."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        return r


@dataclass(slots=True)
class _Exchange:
    """What happened on the socket during one request, whatever the libraries above say."""

    sock: Any = None
    sent: bool = False
    expired: bool = False
    done: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, sock: Any) -> None:
        """A byte is about to leave. Raises TimeoutError instead when the time is up: a name that took long to resolve
        must not put an order on the wire that nobody waits for any more."""
        with self.lock:
            if self.expired:
                raise TimeoutError("the time was up before anything was sent")
            self.sock, self.sent = sock, True

    def expire(self) -> None:
        """End the request from outside: a peer that trickles bytes never runs into a read timeout."""
        with self.lock:
            if self.done:
                return
            self.expired = True
            with suppress(OSError, TypeError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def finish(self) -> None:
        with self.lock:
            self.done = True


class _Current(threading.local):
    exchange: _Exchange | None = None


_current = _Current()


class _Watched:
    """Mixed into urllib3's connections: notes the socket, and whether a byte of the request may have left."""

    sock: Any

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        finally:
            if _current.exchange:  # a proxy's CONNECT and a TLS handshake are not the request
                _current.exchange.sent = False

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if _current.exchange:
            _current.exchange.begin(self.sock)
        super().send(data)  # type: ignore[misc]


class _WatchedHTTP(_Watched, HTTPConnection):
    pass


class _WatchedHTTPS(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


class _Adapter(HTTPAdapter):
    """No retries of its own, and watched connections, behind a proxy as well."""

    def __init__(self) -> None:
        super().__init__(max_retries=0, pool_connections=4, pool_maxsize=16)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager


_TRANSPORT_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError)


class RequestsTransport:
    """Connections to `base_url`, kept open, with `headers` on every request."""

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        total_timeout: float = TOTAL_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        self._base_url = base_url
        self._total_timeout, self._read_timeout = total_timeout, read_timeout
        self._session = requests.Session()
        self._session.mount("http://", _Adapter())
        self._session.mount("https://", _Adapter())
        self._session.trust_env = urlsplit(base_url).hostname not in _LOOPBACK
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({"Accept": "application/json", **(headers or {})})

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._session.close()

    def send(self, request: Request) -> Reply:
        exchange = _Exchange()
        watchdog = threading.Timer(self._total_timeout, exchange.expire)
        watchdog.daemon = True
        _current.exchange = exchange
        watchdog.start()
        failure = ""
        try:
            reply = self._carry(request)
        except _TRANSPORT_ERRORS as exc:
            failure = f"{type(exc).__name__}: {exc}"
        finally:
            watchdog.cancel()
            exchange.finish()
            _current.exchange = None
        if exchange.expired:
            failure = f"no complete answer within {self._total_timeout:g} s"
        if failure:  # outside the except: the library's exception, which may hold headers, is not chained
            raise (Lost if exchange.sent else NotSent)(failure)
        return reply

    def _carry(self, request: Request) -> Reply:
        response = self._session.request(
            request.method,
            self._base_url + request.path,
            params=request.params,
            data=request.body,
            headers={} if request.body is None else {"Content-Type": "application/json"},
            auth=request.auth or NoAuth(),
            timeout=(CONNECT_TIMEOUT, self._read_timeout),
            allow_redirects=False,
            stream=True,
        )
        with response:
            content = bytearray()
            for chunk in response.iter_content(65536):
                content += chunk
                if len(content) > MAX_BODY_BYTES:
                    raise requests.ConnectionError(f"the answer is longer than {MAX_BODY_BYTES} bytes")
        return Reply(response.status_code, response.headers, bytes(content))
