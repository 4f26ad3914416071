"""A rolling update under open deals: `python -m tests.chaos.rolling --seed 1`.

The platform as in the chaos run, but nothing is broken: every process is told to end, in the order of docker/update.sh,
and started anew, the next one only when the one before works again. Judged as the chaos run is, but less is forgiven:
only a bounded wait of a loaded machine explains a traceback, and nothing lengthens how long a position may be without
cover. Prints one JSON object; exit code 1 on any violation.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from launcher import ROOT
from tests.chaos.__main__ import Run
from tests.chaos.stack import PLATFORM, Stack, remove, running

NAMES = (*PLATFORM, "worker-notify", "worker-backtests", "web", "live")
TWINS = ("guardian", "beat", "live")
OPEN_DEALS = 3  # before the first process is replaced
OPEN_WITHIN = 120.0
AFTERWARDS = 20.0  # it goes on trading with all that is new
GRACE = 60.0  # stop_grace_period of docker-compose.prod.yml, at most
READY_WITHIN = 300.0
# A pass that waited longer than its bounds ends, and the next one comes in a second (algo/execution/locks.py).
BOUNDED = (("", r"OperationalError: canceling statement due to (lock|statement) timeout"),)
# Names of compose services to those of the launcher.
OF_COMPOSE = {
    "django_app": "web",
    "django_app_b": None,  # two cannot share the one port of this machine
    "celery_worker": "worker",
    "celery_worker_orders": "worker-orders",
    "celery_worker_notifications": "worker-notify",
    "celery_worker_backtests": "worker-backtests",
    "celery_beat": "beat",
    "celery_beat_b": "beat-2",
    "guardian_b": "guardian-2",
    "live_b": "live-2",
    "flower": None,
}
SAYS_AT_START = {"guardian": "guardian started", "beat": "beat: Starting", "stream": "", "live": "", "web": ""}


def order_of_update() -> list[str]:
    """The processes in the order in which docker/update.sh replaces their services."""
    text = (ROOT / "docker" / "update.sh").read_text()
    found = re.search(r'^SERVICES="([^"]+)"', text, re.MULTILINE)
    assert found is not None
    names = [OF_COMPOSE.get(service, service) for service in found[1].split()]
    return [name for name in names if name]


class Rolling(Run):
    expected = BOUNDED

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack, [], 0)
        self.replaced: dict[str, dict[str, float]] = {}
        self.open_at_start = 0
        self.late: list[str] = []

    def _hurt(self) -> None:
        self._wait(lambda: self._open_deals() >= OPEN_DEALS, OPEN_WITHIN, f"{OPEN_DEALS} deals are open")
        self.open_at_start = self._open_deals()
        for name in order_of_update():
            before = self._open_deals()
            self.say(f"replacing {name}, {before} deals open")
            ended = self.stack.replace(name, GRACE)
            began = time.monotonic()
            self._wait(lambda name=name: self._works(name), READY_WITHIN, f"{name} works again")
            if not self._works(name):
                self.late.append(f"{name} did not work again within {READY_WITHIN:g} s")
            self.replaced[name] = {
                "open_deals": before,
                "ended_after": round(ended, 2),
                "works_after": round(time.monotonic() - began, 2),
            }
        end = time.monotonic() + AFTERWARDS
        while time.monotonic() < end:
            self._pause()

    def _works(self, name: str) -> bool:
        """Started anew, and it says so itself."""
        service = self.stack.services[name]
        word = next((word for kind, word in SAYS_AT_START.items() if name.startswith(kind)), " ready.")
        if service.process is None or service.process.poll() is not None or not service.ready(service):
            return False
        return self._starts(name, word) >= 2

    def _starts(self, name: str, word: str) -> int:
        return self.stack.services[name].log.read_text(errors="replace").count(word) if word else 2

    def _open_deals(self) -> int:
        from algo.models import Deal

        return Deal.objects.filter(status__in=("OPEN", "EXITING")).count()

    def report(self) -> dict[str, Any]:
        told = super().report()
        told["violations"] += self.late
        return told | {"open_at_start": self.open_at_start, "replaced": self.replaced}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "tests.chaos.rolling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, default=5.0, help="platform time over wall time")
    options = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    folder, evidence = None, True
    try:
        with running(options.seed, options.speed, names=NAMES, twins=TWINS) as stack:
            folder = stack.folder
            second = stack.services["live-2"]
            second.argv = [*second.argv, "--port", str(stack.plan.live_port + 1)]
            report = Rolling(stack).report()
        evidence = bool(report["violations"])
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        return 1 if evidence else 0
    finally:
        if folder is not None and not evidence:
            remove(folder)
        elif folder is not None:
            sys.stderr.write(f"logs: {folder / 'logs'}\n")


if __name__ == "__main__":
    sys.exit(main())
