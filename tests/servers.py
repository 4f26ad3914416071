"""Servers of one test alone, which it may stop, pause and kill."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from launcher.embedded import PostgreSQL, Valkey, wait_until
from launcher.processes import child_environment, spawn, stop
from launcher.session import test_environment as secrets_of_tests
from tests.paper.world import ROOT


@dataclass
class Servers:
    """A PostgreSQL and a Valkey that keep what they were told, of this test alone: it may kill them."""

    folder: Path
    postgres: PostgreSQL = field(init=False)
    valkey: Valkey = field(init=False)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.chmod(0o711)
        self.postgres = PostgreSQL(self.folder / "pg")
        self.valkey = Valkey(self.folder / "valkey", password="secret-of-this-test")
        self.postgres.place()
        self.valkey.prepare()

    def start(self, name: str) -> None:
        server: Any = {"postgres": self.postgres, "valkey": self.valkey}[name]
        log = self.folder / f"{name}.log"
        if name == "postgres":
            server.prepare(log)
        self.running[name] = spawn(server.command(), log=log, env=child_environment(), death_signal=signal.SIGKILL)
        wait_until(server.ready, self.running[name], name=name, log=log, seconds=60)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait(10)

    @property
    def env(self) -> dict[str, str]:
        return child_environment(
            secrets_of_tests()
            | {
                "DATABASE_URL": self.postgres.url,
                "REDIS_URL": self.valkey.url,
                "DJANGO_SETTINGS_MODULE": "algo_trade.settings",
                "PYTHONPATH": str(ROOT),
            }
        )

    def pause(self, name: str) -> None:
        """It takes connections, and answers nothing: all processes of it stand still."""
        self._signal(name, signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def stop(self) -> None:
        """Whatever still runs, as its end wants it."""
        for name, process in self.running.items():
            if process.poll() is None:
                self.go_on(name)
                stop(process, signum=signal.SIGINT if name == "postgres" else signal.SIGTERM, seconds=10)
        self.postgres.forget()

    def _signal(self, name: str, number: int) -> None:
        process = psutil.Process(self.running[name].pid)
        for each in (*process.children(recursive=True), process):
            each.send_signal(number)
