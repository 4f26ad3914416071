"""`manage.py refresh_markets`: what the exchanges allow now."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from algo import exchanges
from algo.management._cli import CliCommand, sentences
from algo.models import Provider
from algo.services.markets import markets_refresh


class Command(CliCommand):
    help = "Load the markets of the exchanges: symbols, grids, minimums, fees. Markets not listed any more are closed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--provider", choices=Provider.values, help="Only this exchange (default: all).")

    def handle(self, *args: Any, **options: Any) -> None:
        failures = []
        for name in [options["provider"]] if options["provider"] else Provider.values:
            try:
                with sentences():
                    count = markets_refresh(exchanges.public_provider(name), now=exchanges.CLOCK.now())
            except CommandError as exc:  # the other exchange is not the worse for it
                failures.append(f"{name}: {exc}")
            else:
                self.stdout.write(f"{name}: {count} markets")
        if failures:
            raise CommandError("\n".join(failures))
