"""`manage.py doctor`: is this installation whole, and what is to be done where it is not?"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from algo.management._cli import CliCommand
from algo.monitoring.doctor.examine import examine
from algo.monitoring.doctor.finding import as_json, as_text, is_well


class Command(CliCommand):
    help = (
        "Look at the whole installation: settings, database, Redis, disks, pages, processes, schedules, stored "
        "secrets, accounts, exchanges and clocks. Changes nothing. Exit code 1 where something is broken."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examine()
        told = json.dumps(as_json(findings), ensure_ascii=False) if options["json"] else as_text(findings)
        self.stdout.write(told)
        if not is_well(findings):
            sys.exit(1)
