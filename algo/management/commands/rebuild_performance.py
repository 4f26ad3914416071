"""`manage.py rebuild_performance`: the sums behind the performance pages, counted anew from the deals."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from algo.management._cli import CliCommand
from algo.selectors.performance import days_differ, zone_of_days
from algo.services.performance import performance_rebuild


class Command(CliCommand):
    help = "Count the closed deals of every trading day anew. Needed after TRADING_DAY_TIME_ZONE changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="Only compare with the deals; change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["check"]:
            self.stdout.write(f"{performance_rebuild()} rows, trading days in {zone_of_days()}.")
            return
        if zone_of_days() != settings.TRADING_DAY_TIME_ZONE:
            raise CommandError(
                f"The days are kept in {zone_of_days()}, TRADING_DAY_TIME_ZONE is {settings.TRADING_DAY_TIME_ZONE}. "
                "Nothing was changed; run it without --check."
            )
        if wrong := days_differ():
            raise CommandError(f"{wrong} rows are not what the deals say. Nothing was changed; run it without --check.")
        self.stdout.write("Every row is what the deals say.")
