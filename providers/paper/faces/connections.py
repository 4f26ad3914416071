"""The TCP connections under the HTTP faces. What runs behind ASGI cannot close one without an answer; these can."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import h11
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connections:
    """Open HTTP connections by the address of the client."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], asyncio.Transport] = {}

    def close(self, scope: Scope, *, reset: bool) -> None:
        """End the connection a request came by: FIN, or RST. The rest of the request is still answered into nothing."""
        transport = self._open.get(tuple(scope["client"] or ()))
        if transport is None:
            raise ConnectionAbortedError("the connection of this request is not known here")
        if reset:
            _linger_no_longer(transport)
            transport.abort()
        else:
            transport.close()

    def protocol(self) -> type[H11Protocol]:
        """What uvicorn has to speak HTTP with."""
        connections = self._open

        class Registered(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                if self.client is not None:
                    connections[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                self._forget()
                super().connection_lost(exc)

            def handle_websocket_upgrade(self, event: h11.Request) -> None:
                self._forget()  # another protocol takes the connection over
                super().handle_websocket_upgrade(event)

            def _forget(self) -> None:
                if self.client is not None:
                    connections.pop(self.client, None)

        return Registered


def _linger_no_longer(transport: asyncio.Transport) -> None:
    """Closing such a socket sends RST."""
    sock: Any = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
