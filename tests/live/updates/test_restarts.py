"""Whatever is killed while a page listens: no committed deal is left untold, and none is told that is not there."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from launcher.processes import free_port
from tests.execution.processes import said, started, wait_for
from tests.live.updates.listening import Listener, LiveProcess
from tests.paper.world import ROOT
from tests.servers import Servers

pytestmark = [pytest.mark.e2e, pytest.mark.long]


class Page:
    """As a browser: comes back whenever it was cut off, and says how far it was."""

    def __init__(self, port: int, token: str) -> None:
        self.deals: list[int] = []
        self.resets = 0
        self.connections = 0
        self.states: list[bool] = []
        self._port, self._token, self._last = port, token, ""
        self._closing = threading.Event()
        self._listener: Listener | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            headers = {"Authorization": f"Token {self._token}"} | ({"Last-Event-ID": self._last} if self._last else {})
            try:
                self._listener = Listener(self._port, headers)
            except OSError:
                time.sleep(0.1)
                continue
            self.connections += self._listener.answer.status == 200
            self._listener.ended.wait()
            self._last = self._listener.last_id or self._last
            self._take(self._listener)
            self._listener = None
            time.sleep(0.1)

    def _take(self, listener: Listener) -> None:
        self.deals += [row["id"] for row in listener.of("deal")]
        self.resets += len(listener.of("reset"))
        self.states += [row["flowing"] for row in listener.of("system")]

    @property
    def listener(self) -> Listener | None:
        return self._listener

    def so_far(self) -> list[int]:
        return self.deals + (self._listener.of("deal") if self._listener else [])

    def close(self) -> None:
        self._closing.set()
        if self._listener is not None:
            self._listener.close()
        self._thread.join(10)


@pytest.fixture
def servers(tmp_path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    with ExitStack() as cleanup:
        cleanup.callback(servers.stop)
        for name in ("postgres", "valkey"):
            servers.start(name)
        subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=ROOT, env=servers.env, check=True)
        yield servers


@pytest.mark.parametrize(
    "killed", [["postgres", "postgres"], ["valkey", "valkey", "valkey"]], ids=lambda names: names[0]
)
def test_no_deal_is_lost_or_invented_when_live_or_a_server_is_killed(servers, tmp_path, killed):
    port = free_port()
    live = ("-m", "algo_trade.live", "--port", str(port))
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.live.updates.writer"],
        cwd=ROOT, env=servers.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with ExitStack() as cleanup:
        cleanup.callback(writer.kill)
        token = writer.stdout.readline().strip()
        running = ExitStack()
        cleanup.callback(lambda: running.close())  # noqa: PLW0108 - whichever it is then
        process = LiveProcess(port, running.enter_context(started(tmp_path, *live, env=servers.env)))
        wait_for(lambda: process.is_up, 60, "live is up", folder=tmp_path)
        page = Page(port, token)
        cleanup.callback(page.close)
        wait_for(lambda: page.connections, 20, "the page listens", folder=tmp_path)
        writer.stdin.write("begin\n")  # what was there before a page came is not told to it: it reads that itself
        writer.stdin.flush()

        def told_more(after: str = "the start", count: int = 20) -> None:
            before = len(page.so_far())
            wait_for(lambda: len(page.so_far()) >= before + count, 40, f"deals after {after}", folder=tmp_path)

        told_more()
        for _ in range(2):
            running.close()  # killed
            running = ExitStack()
            running.enter_context(started(tmp_path, *live, env=servers.env))
            told_more("live")
        connections = page.connections
        for name in ("valkey", "postgres", "valkey"):
            servers.kill(name)
            time.sleep(1.5)  # it stays away for a while, and deals are tried
            servers.start(name)
            told_more(name)
        assert page.connections == connections  # those stayed
        ids, _ = writer.communicate("", timeout=60)
        committed = json.loads(ids)
        wait_for(lambda: len(page.so_far()) >= len(committed), 60, "the last deals", folder=tmp_path)
        time.sleep(1)  # one that was told twice would come now
        page.close()
    assert page.deals == sorted(page.deals) == committed
    assert page.resets == 0
    assert page.states[-2:] == [False, True]
    assert "Traceback" not in said(tmp_path)
