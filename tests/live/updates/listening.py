"""A process `live`, and pages that listen to it as browsers do."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import Client

from launcher.processes import free_port
from tests.execution.processes import servers_only, started, wait_for

PAGE = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Told:
    kind: str
    data: Any
    id: str
    at: float = field(default_factory=time.monotonic, compare=False)


class Listener:
    """Reads one stream from a thread; says what it was told, and how it ended. `last_id` is what a browser keeps."""

    def __init__(self, port: int, headers: dict[str, str], path: str = "/live/events") -> None:
        self.told: list[Told] = []
        self.last_id = ""
        self.retry = 0
        self.comments = 0
        self.ended = threading.Event()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.request("GET", path, headers=headers)
        self.answer = self._connection.getresponse()
        if self.answer.status == 200:
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
        else:
            self.ended.set()
            self.problem = json.loads(self.answer.read())

    def close(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # it has ended
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self.ended.wait(5)

    def of(self, kind: str) -> list[Any]:
        return [told.data for told in self.told if told.kind == kind]

    def wait(self, condition: Callable[[Listener], object], seconds: float = 10.0, what: str = "told") -> None:
        wait_for(lambda: condition(self), seconds, f"{what}; was told {self.told[-5:]}", pause=0.01)

    def _read(self) -> None:
        kind, data, place = "message", "", ""
        try:
            while line := self.answer.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    data = value
                elif name == "id":
                    place = self.last_id = value
                elif name == "retry":
                    self.retry = int(value)
                elif not name:
                    self.comments += bool(value)
                    if data:
                        self.told.append(Told(kind, json.loads(data), place))
                    kind, data, place = "message", "", ""
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            self.ended.set()


def cookie_of(user: Any) -> dict[str, str]:
    """Signed in as `user`, as by the login page."""
    browser = Client()
    browser.force_login(user)
    return {"Cookie": f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"}


@dataclass
class LiveProcess:
    port: int
    process: Any
    _open: list[Listener] = field(default_factory=list)

    def listen(self, user: Any = None, *, path: str = "/live/events", **headers: str) -> Listener:
        signed_in = cookie_of(user) if user is not None else {}
        found = Listener(
            self.port, signed_in | {name.replace("_", "-"): value for name, value in headers.items()}, path
        )
        self._open.append(found)
        return found

    def health(self) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", "/live/health")
        return json.loads(connection.getresponse().read())

    @property
    def is_up(self) -> bool:
        try:
            return bool(self.health()["flowing"])
        except OSError:
            return False


@contextmanager
def live_process(folder: Path, *, port: int = 0, ready: bool = True, **env: str) -> Iterator[LiveProcess]:
    port = port or free_port()
    words = ("-m", "algo_trade.live", "--port", str(port))
    with started(folder, *words, env=servers_only(WEB_URL=PAGE) | env) as process:
        live = LiveProcess(port, process)
        if ready:
            wait_for(lambda: live.is_up, 60, "live is up", folder=folder)
        yield live
        for listener in live._open:
            listener.close()
