"""The WebSocket protocol under both stream faces: uvicorn's own, and what ASGI leaves out of reach of an application.

An application behind ASGI can neither send protocol pings nor see their pongs, and it cannot end a connection the way
a broken network does. `PaperWebSockets` puts a `Line` with these into `scope["extensions"]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

_EXTENSION = "paper.line"
LONGEST_MESSAGE = 65_536  # bytes a client may send in one message; more closes with 1009


class PaperWebSockets(WebSocketsSansIOProtocol):
    """One connection. Its own keepalive is off: who pings whom, and when, is the business of the faces."""

    def handle_connect(self, event: Request) -> None:
        self.line = Line(self)
        super().handle_connect(event)
        if hasattr(self, "scope"):  # not set when the handshake was refused
            self.scope["extensions"][_EXTENSION] = {"line": self.line}

    def handle_pong(self, event: Frame) -> None:
        self.line.on_pong()
        super().handle_pong(event)


class Line:
    """The wire below one WebSocket. `on_pong` is called for every protocol pong of the peer."""

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol
        self.on_pong: Callable[[], None] = lambda: None

    def ping(self) -> None:
        """Send a protocol ping, unless the connection is closing."""
        if self._protocol.conn.state is State.OPEN and not self._protocol.transport.is_closing():
            self._protocol.conn.send_ping(b"paper")
            self._protocol.transport.write(b"".join(self._protocol.conn.data_to_send()))

    def cut(self) -> None:
        """End the connection at once: no close frame, nothing that still waits is sent."""
        self._protocol.transport.abort()


def line_of(socket: WebSocket) -> Line | None:
    """None under a server that does not use `PaperWebSockets`."""
    extension = socket.scope.get("extensions", {}).get(_EXTENSION)
    return extension["line"] if extension else None


def uvicorn_options() -> dict[str, Any]:
    """What uvicorn has to be run with for the streams to behave as the exchanges' do (neither compresses)."""
    return {
        "ws": PaperWebSockets,
        "ws_ping_interval": None,
        "ws_per_message_deflate": False,
        "ws_max_size": LONGEST_MESSAGE,
    }
