"""`manage.py record_books`: order books into a file, so that a backtest can fill as the market would have."""

from __future__ import annotations

import gzip
import logging
import time
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import CommandError

from algo import exchanges
from algo.management._cli import CliCommand, known_market, parent_folder_exists
from algo.models import Provider
from providers.errors import AuthFailed, ProviderError
from providers.recorded_books import book_line

logger = logging.getLogger("algo.commands")

DEFAULT_SECONDS = 30.0


class Command(CliCommand):
    kept = "The books recorded so far are kept."
    help = (
        "Record the order book of a market into a file, again and again until Ctrl-C. Give the file to "
        "backtest_strategy as --books: market orders then pay what the levels asked, and order-book signals are heard."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--provider", choices=Provider.values, help="Exchange (default: nobitex).")
        parser.add_argument("--symbol", required=True, help="As the exchange spells it: BTCUSDT, BTCIRT.")
        parser.add_argument("--out", metavar="FILE", required=True, help="Appended to; packed where it ends in .gz.")
        parser.add_argument(
            "--every", metavar="SECONDS", type=float, default=DEFAULT_SECONDS, help="Between two books (default: 30)."
        )
        parser.add_argument("--count", metavar="N", type=int, help="Stop after so many books (default: Ctrl-C).")

    def handle(self, *args: Any, **options: Any) -> None:
        parent_folder_exists(options["out"])
        if not 1 <= options["every"] <= 3600:
            raise CommandError("--every must be from 1 to 3600 seconds. Nothing was recorded.")
        if options["count"] is not None and options["count"] < 1:
            raise CommandError("--count must be at least 1. Nothing was recorded.")
        market = known_market(options["provider"] or Provider.NOBITEX.value, options["symbol"])
        provider = exchanges.public_provider(market.provider)
        path = Path(options["out"])
        self.stderr.write(f"Recording {market} into {path}, one book every {options['every']:g} s. Ctrl-C ends it.")
        written = failed = 0
        while options["count"] is None or written < options["count"]:
            began = time.monotonic()
            try:
                # A book that has not changed for a while counts from when it was read, not from its last change.
                line = book_line(replace(provider.order_book(market.symbol), as_of=exchanges.CLOCK.now()))
            except AuthFailed:
                raise
            except ProviderError as exc:
                failed += 1
                logger.warning("no book of %s: %s", market, exc)
            else:
                with _appended(path) as sink:
                    sink.write(line + "\n")
                written += 1
            if written != options["count"]:
                time.sleep(max(options["every"] - (time.monotonic() - began), 0.0))
        self.stdout.write(f"{written} books written to {path}; {failed} could not be read.")


def _appended(path: Path) -> TextIO:
    """Opened for each book: what was recorded is whole on the disk, however the recording ends."""
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "at", encoding="utf-8")
        return path.open("a", encoding="utf-8")
    except OSError as exc:
        raise CommandError(f"{path} cannot be written: {exc.strerror}. Choose another file.") from exc
