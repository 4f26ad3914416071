"""Two servers in one process: the exchange, and its control port, which is always loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from providers.paper.faces.connections import Connections
from providers.paper.faces.stream_line import uvicorn_options

LOOPBACK = "127.0.0.1"


def serve(app: ASGIApp, connections: Connections, host: str, port: int, control: ControlServer | None) -> None:
    """Serve until a signal; the control port closes with the exchange."""
    config = uvicorn.Config(
        app, host=host, port=port, http=connections.protocol(), log_level="warning", access_log=False, workers=1,
        timeout_graceful_shutdown=1, server_header=False, date_header=False, **uvicorn_options(),
    )  # fmt: skip
    server = _Main(config, control)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(1)  # uvicorn has said why


class ControlServer(uvicorn.Server):
    """The control port. Signals are the main server's business."""

    def __init__(self, app: ASGIApp, listening: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, server_header=False,
                           timeout_graceful_shutdown=1)
        )  # fmt: skip
        self._listening = listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def run_beside(self) -> None:
        await self.serve(sockets=[self._listening])


class _Main(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, control: ControlServer | None) -> None:
        super().__init__(config)
        self._control = control
        self._beside: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._control is not None and not self.should_exit:
            self._beside = asyncio.create_task(self._control.run_beside())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._control is not None and self._beside is not None:
            self._control.should_exit = True
            await self._beside
        await super().shutdown(sockets)


def listen_on_loopback(port: int) -> socket.socket:
    """A socket for the control port, whatever address the exchange itself is told to use. Raises `OSError`."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
    except OSError:
        listening.close()
        raise
    return listening
