"""The whole platform as `./run` starts it, in a folder of its own, for people with browsers.

`python -m tests.browser.platform FOLDER` is its process: the launcher's own plan and supervisor, with the paper
exchange and simulated prices, until SIGTERM.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from launcher.bootstrap import PYTHON
from launcher.plan import Mode, make_plan, remember_seed
from launcher.processes import child_environment, spawn, stop, tail, write_private
from launcher.supervisor import Supervisor
from tests.paper.world import ROOT
from tests.test_whole_platform import OF_THE_TESTS

READY_SECONDS = 200
TOLD = "told.json"
MAKE_PEOPLE = """
from django.contrib.auth.models import Group, User
for name, role in (("tara", "Trader"), ("vera", "Viewer")):
    user = User.objects.create_user(name, password=name + "'s password", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
"""
LET_VERA_LOOK = """
from django.contrib.auth.models import User
from algo.models import Account
for account in Account.objects.filter(provider="wallex"):
    account.viewers.add(User.objects.get(username="vera"))
"""


@dataclass(frozen=True)
class Platform:
    """What a test may know of it: addresses, passwords, and the exchange's control port."""

    env: dict[str, str] = field(repr=False)
    admin_password: str = field(repr=False)
    folder: str = ""  # its logs are in logs/

    @property
    def url(self) -> str:
        return self.env["WEB_URL"]

    def password_of(self, name: str) -> str:
        return self.admin_password if name == "admin" else f"{name}'s password"

    def manage(self, *words: str, **env: str) -> str:
        """A command of `manage.py`, as a person at the shell gives it."""
        told = subprocess.run(
            [str(PYTHON), "manage.py", *words],
            cwd=ROOT, env=child_environment(self.env | env), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        return told.stdout

    def last_price(self, pair: str) -> Decimal:
        return Decimal(self.control("GET", "/prices")["last"]["wallex"][pair])

    def move_price(self, pair: str, percent: str) -> None:
        """Both exchanges trade `percent` away from the last price, from the next second on."""
        price = self.last_price(pair) * (1 + Decimal(percent) / 100)
        self.control("POST", "/prices", json={"pair": pair, "price": str(price.quantize(Decimal("0.01")))})

    def control(self, method: str, path: str, **more: Any) -> Any:
        headers = {"x-paper-control": self.env["PAPER_CONTROL_TOKEN"]}
        address = f"{self.env['PAPER_CONTROL_URL']}/paper{path}"
        answer = requests.request(method, address, headers=headers, timeout=10, **more)
        assert answer.ok, answer.text
        return answer.json()

    def populate(self) -> None:
        """tara trades on an account of her own; vera may look at it, and at the demo's; admin owns the demo."""
        self.manage("shell", "-c", MAKE_PEOPLE)
        made = self.control(
            "POST", "/accounts", json={"name": "tara", "balances": {"wallex": {"USDT": "20000", "BTC": "0.1"}}}
        )
        words = ("--name", "tara's", "--provider", "wallex", "--owner", "tara", "--environment", "paper")
        self.manage("create_account", *words, WALLEX_API_KEY=made["wallex_key"])
        self.manage("shell", "-c", LET_VERA_LOOK)


@contextmanager
def running() -> Iterator[Platform]:
    """A populated platform; at the end all of its processes are gone, and its folder too."""
    folder = Path(tempfile.mkdtemp(prefix="algo-browser-"))
    folder.chmod(0o711)  # the database's user passes through; its own folders are 0700
    env = {name: value for name, value in child_environment().items() if name not in OF_THE_TESTS}
    log = folder / "platform.log"
    process = spawn([PYTHON, "-m", "tests.browser.platform", folder], log=log, env=env)
    try:
        platform = _when_ready(process, folder, log)
        platform.populate()
        yield platform
    finally:
        stop(process, signum=signal.SIGTERM, seconds=60)
        shutil.rmtree(folder, ignore_errors=True)


def _when_ready(process: subprocess.Popen[bytes], folder: Path, log: Path) -> Platform:
    deadline = time.monotonic() + READY_SECONDS
    while not (folder / TOLD).exists():
        assert process.poll() is None, f"the platform ended while starting:\n{tail(log, 40)}"
        assert time.monotonic() < deadline, f"the platform is not ready after {READY_SECONDS} s:\n{tail(log, 40)}"
        time.sleep(0.2)
    return Platform(**json.loads((folder / TOLD).read_text()))


def main(folder: Path) -> None:
    plan = make_plan(Mode.CHECK, state_dir=folder)
    supervisor = Supervisor(plan.services, plan.logs)
    supervisor.catch_signals()
    try:
        if supervisor.start(lambda each: remember_seed(plan, each.output) if each.name == "seed_demo" else None):
            told = {"env": plan.env, "admin_password": plan.secrets.admin_password, "folder": str(folder)}
            write_private(folder / "telling", json.dumps(told))
            (folder / "telling").rename(folder / TOLD)
            supervisor.run()
    finally:
        supervisor.stop()
        if plan.postgres is not None:
            plan.postgres.forget()


if __name__ == "__main__":
    os.chdir(ROOT)
    main(Path(sys.argv[1]))
