"""A stand-in for the process `live`: a test says what is told, and when the connection breaks."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

CAME_SECONDS = 20


class LiveDouble:
    """`asked` holds the query of every connection, oldest first."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.origin = ""
        self._open: list[queue.SimpleQueue[bytes | None]] = []
        self._lock = threading.Lock()
        self._place = 0
        self._refuses = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def tell(self, kind: str, *rows: Any) -> None:
        """To every page that listens."""
        told = b"".join(self._frame(kind, row) for row in rows)
        with self._lock:
            for each in self._open:
                each.put(told)

    def drop(self, *, refuses: int = 0) -> None:
        """Every connection ends; the next `refuses` that are tried are refused."""
        with self._lock:
            self._refuses = refuses
            for each in self._open:
                each.put(None)
            self._open.clear()

    def waits_for(self, connections: int) -> None:
        """Until so many have been made since the beginning."""
        deadline = time.monotonic() + CAME_SECONDS
        while len(self.asked) < connections:
            assert time.monotonic() < deadline, f"{len(self.asked)} connections, not {connections}"
            time.sleep(0.02)

    def stop(self) -> None:
        self.drop(refuses=10**6)
        self._server.shutdown()
        self._server.server_close()

    def _frame(self, kind: str, row: Any) -> bytes:
        self._place += 1
        return f"id: {self._place}-0\nevent: {kind}\ndata: {json.dumps(row)}\n\n".encode()

    def _join(self, query: dict[str, str]) -> queue.SimpleQueue[bytes | None] | None:
        with self._lock:
            if self._refuses > 0:
                self._refuses -= 1
                return None
            mine: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
            mine.put(b"retry: 200\n\n" + self._frame("hello", {"server": "double", "version": "1"}))
            self.asked.append(query)
            self._open.append(mine)
            return mine

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                query = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
                query["came_back_from"] = self.headers.get("Last-Event-ID", "")
                mine = double._join(query)
                self.send_response(200 if mine else 503)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Access-Control-Allow-Origin", double.origin)
                self.send_header("Access-Control-Allow-Credentials", "true")
                self.end_headers()
                while mine and (told := mine.get()) is not None:
                    try:
                        self.wfile.write(told)
                        self.wfile.flush()
                    except OSError:  # the page has gone
                        return

            def log_message(self, *words: Any) -> None: ...

        return Handler


@contextmanager
def live_double() -> Iterator[LiveDouble]:
    double = LiveDouble()
    try:
        yield double
    finally:
        double.stop()
