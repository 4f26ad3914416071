"""The process `live`: `python -m algo_trade.live --host 127.0.0.1 --port 8002` serves /live/events and /live/health."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from types import FrameType
from typing import Any

import django
import uvicorn

GRACE_SECONDS = 1
UNREAD_MS = 30_000  # a client that takes nothing for so long is gone
SEND_BUFFER = 128 * 1024  # bytes that the kernel keeps for a slow one


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m algo_trade.live", description="Serves live updates.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8002)
    asked = parser.parse_args(argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")
    django.setup()
    from algo.api.live import live_updates  # noqa: PLC0415 - Django has to be set up before

    server = LiveServer(live_updates(), asked.host, asked.port)
    listening = server.config.bind_socket()
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    server.run(sockets=[listening])
    return 0 if server.started else 1


class LiveServer(uvicorn.Server):
    """Begins the work beside the requests before it listens, and ends every stream before it waits for them to end."""

    def __init__(self, live: Any, host: str, port: int) -> None:
        config = uvicorn.Config(
            live, host=host, port=port, lifespan="off", ws="none", log_level="warning", access_log=False,
            server_header=False, log_config=None, timeout_graceful_shutdown=GRACE_SECONDS,
        )  # fmt: skip
        super().__init__(config)
        self._live = live

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal means: end in order, with exit code 0."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._live.start()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.end()
        await super().shutdown(sockets)
        await self._live.stop()


if __name__ == "__main__":
    sys.exit(main())
