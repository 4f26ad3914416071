"""A real HTTP server on loopback that answers as told, and remembers what came over the wire."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from providers.budgets import InProcessBudget, Limit
from providers.nobitex.client import NobitexClient
from providers.wallex.client import WallexClient

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
WALLEX_KEY = "4242|CanaryWallexKeyCanaryWallexKeyCanary"
NOBITEX_TOKEN = "ca9a0123456789abcdef0123456789abcdef0123"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """`mode`: whole, reset (after the request was read), silent (no byte), trickle (a byte at a time), trickle_headers,
    cut (less than announced), open_end (trickle without an announced length)."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    mode: str = "whole"

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class ScriptedExchange:
    """`answer` decides over every request; `requests` is everything that arrived."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Reply] = lambda request: Reply({}, 404)
        self.close_after_answer = False
        self.stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/some/prefix"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def replies(self, *replies: Reply) -> None:
        """Answer with these in turn; the last one stays."""
        left = list(replies)
        self.answer = lambda request: left.pop(0) if len(left) > 1 else left[0]

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(outer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet per answer

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                address = urlsplit(self.path)
                query = dict(parse_qsl(address.query))
                request = Request(self.command, address.path, query, dict(self.headers), body)
                outer.requests.append(request)
                outer._send(self, outer.answer(request))
                self.close_connection = self.close_connection or outer.close_after_answer

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *args: Any) -> None:
                pass

        return Handler

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.close_connection = reply.mode != "whole"
        if reply.mode == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        elif reply.mode == "silent":
            self.stopped.wait(5)
        elif reply.mode == "trickle_headers":
            self._trickle(handler, b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000)
        else:
            self._respond(handler, reply)

    def _respond(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        content = reply.content
        handler.send_response(reply.status)
        handler.send_header("Content-Type", reply.kind)
        if reply.mode != "open_end":
            handler.send_header("Content-Length", str(len(content) * (2 if reply.mode == "cut" else 1)))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if reply.mode in ("trickle", "open_end"):
            handler.wfile.flush()
            self._trickle(handler, content)
        else:
            handler.wfile.write(content)
            handler.wfile.flush()

    def _trickle(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        for byte in content:
            try:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
            except OSError:
                return
            if self.stopped.wait(0.05):
                return


@dataclass
class SteppedClock:
    """Platform time that stands still until it is moved."""

    moment: datetime = NOW
    speed: float = 1.0

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def exchange() -> Iterator[ScriptedExchange]:
    server = ScriptedExchange()
    yield server
    server.stop()


@pytest.fixture
def free_budget() -> InProcessBudget:
    """A budget no test runs into."""
    return InProcessBudget({"default": Limit(1_000_000, 1.0)})


@pytest.fixture
def wallex(exchange: ScriptedExchange, free_budget: InProcessBudget) -> WallexClient:
    return WallexClient(exchange.url, api_key=WALLEX_KEY, clock=SteppedClock(), budget=free_budget)


@pytest.fixture
def nobitex(exchange: ScriptedExchange, free_budget: InProcessBudget) -> NobitexClient:
    return NobitexClient(exchange.url, api_key=NOBITEX_TOKEN, clock=SteppedClock(), budget=free_budget)


def closed_port() -> int:
    """A loopback port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float = 2.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
