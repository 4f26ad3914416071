"""`./run --check`: wait for the proof that the platform trades and protects, as one JSON object."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import IO, Any

from launcher import ROOT
from launcher.bootstrap import PYTHON
from launcher.console import say
from launcher.processes import child_environment

LONGEST_SECONDS = 360.0
POLL_SECONDS = 3.0
# Between a fill at the exchange and its row in the database there is always a moment; a real difference stays.
DIFFERENCE_SETTLES_SECONDS = 30.0
FAILED_POLLS_FORGIVEN = 3
REPORTED = (
    "deals_opened",
    "deals_closed",
    "closed_protected",
    "closed_by",
    "orders",
    "fills",
    "unprotected_seconds",
    "ledger_difference",
    "streams",
)


def proven(status: Mapping[str, Any]) -> bool:
    """A deal was opened with its stop resting at the exchange, and one was closed by stop, target or trailing stop."""
    return bool(status.get("opened_with_stop")) and int(status.get("closed_protected", 0)) >= 1


def books_agree(status: Mapping[str, Any]) -> bool:
    """Whether exchange and database differ by nothing at all."""
    try:
        return Decimal(str(status.get("ledger_difference"))) == 0
    except InvalidOperation:
        return False


@dataclass(slots=True)
class DemoWatch:
    """Asks `manage.py demo_status --json` every few seconds, without ever holding up the supervisor's loop."""

    env: Mapping[str, str]
    began: float = field(default_factory=time.monotonic)
    status: dict[str, Any] = field(default_factory=dict)
    verdict: str | None = None  # None: not yet; "": proven; else the reason why not
    _process: subprocess.Popen[bytes] | None = None
    _answer: IO[bytes] | None = None
    _next_poll: float = 0.0
    _failures: int = 0
    _differs_since: float | None = None

    def each(self) -> bool:
        """One look; False when the verdict is in."""
        now = time.monotonic()
        if now - self.began > LONGEST_SECONDS:
            self.verdict = self._too_late()
        elif self._process is not None:
            self._collect(now)
        elif now >= self._next_poll:
            self._ask()
        if self.verdict is not None:
            self.close()
        return self.verdict is None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def report(self, **more: object) -> str:
        """The JSON object for stdout."""
        told = {name: self.status[name] for name in REPORTED if name in self.status}
        verdict = {"ok": True} if self.verdict == "" else {"ok": False, "reason": self.verdict or "interrupted"}
        return json.dumps(verdict | more | told)

    def _ask(self) -> None:
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115 - lives until the answer was read
        self._process = subprocess.Popen(
            [str(PYTHON), "manage.py", "demo_status", "--json"],
            cwd=ROOT,
            env=child_environment(self.env),
            stdin=subprocess.DEVNULL,
            stdout=self._answer,
            stderr=subprocess.DEVNULL,
        )

    def _collect(self, now: float) -> None:
        assert self._process is not None  # noqa: S101
        assert self._answer is not None  # noqa: S101
        code = self._process.poll()
        if code is None:
            return
        self._answer.seek(0)
        text = self._answer.read().decode(errors="replace")
        self._process = None
        self.close()
        self._next_poll = now + POLL_SECONDS
        try:
            status = json.loads(text.strip().splitlines()[-1])
        except (ValueError, IndexError):
            status = None
        if code != 0 or not isinstance(status, dict):
            self._failures += 1
            if self._failures > FAILED_POLLS_FORGIVEN:
                self.verdict = f"manage.py demo_status failed {self._failures} times in a row (exit code {code})"
            return
        self._failures = 0
        self._judge(status, now)

    def _judge(self, status: dict[str, Any], now: float) -> None:
        if status != self.status:
            say(_progress(status, now - self.began))
        self.status = status
        if not proven(status):
            return
        if books_agree(status):
            self.verdict = ""
            return
        if self._differs_since is None:
            self._differs_since = now
        if now - self._differs_since > DIFFERENCE_SETTLES_SECONDS:
            self.verdict = f"exchange and database differ: {status.get('ledger_difference')}"

    def _too_late(self) -> str:
        if proven(self.status) and not books_agree(self.status):
            return f"exchange and database differ: {self.status.get('ledger_difference')}"
        wanted = "no deal was closed by stop, target or trailing stop"
        if not self.status.get("opened_with_stop"):
            wanted = "no deal was opened with its stop resting at the exchange"
        return f"{wanted} within {LONGEST_SECONDS / 60:.0f} minutes"


def _progress(status: Mapping[str, Any], seconds: float) -> str:
    deals = f"{status.get('deals_opened', 0)} opened, {status.get('deals_closed', 0)} closed"
    rest = f"{status.get('orders', 0)} orders, {status.get('fills', 0)} fills"
    difference = f"ledger difference {status.get('ledger_difference', '?')}"
    if "ledger_difference" in status and not books_agree(status):
        difference += " (something is under way: asked about again)"
    return f"  {seconds:4.0f} s: deals {deals}; {rest}; {difference}"
