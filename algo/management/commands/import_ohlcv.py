"""`manage.py import_ohlcv`: recorded candles of a file into the database."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from algo import exchanges
from algo.management._cli import (
    CliCommand,
    add_market_options,
    add_unit_jump_option,
    known_market,
    row_progress,
    say_gaps,
    to_resolution,
)
from algo.services.candle_import import Imported, candles_import

DEFAULT_PROVIDER = "nobitex"


class Command(CliCommand):
    help = (
        "Import closed candles from a CSV file (gzip allowed) with the header time,open,high,low,close,volume and "
        "times in unix seconds. Each candle is stored once; what is stored already stays as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="The CSV file.")
        add_market_options(parser, symbol_required=True)
        add_unit_jump_option(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        resolution = to_resolution(options["resolution"]) if options["resolution"] else None
        provider = options["provider"] or DEFAULT_PROVIDER
        market = known_market(provider, options["symbol"])
        with row_progress(self.stderr, f"{market.symbol} {options['file']}") as progress:
            imported = candles_import(
                market,
                resolution,
                options["file"],
                now=exchanges.CLOCK.now(),
                accept_unit_jump=options["accept_unit_jump"],
                progress=progress,
            )
        self._say(f"{market.symbol} at {provider}, resolution {imported.resolution}", imported)
        say_gaps(self.stdout, imported.gaps, "the file has none")

    def _say(self, series: str, imported: Imported) -> None:
        refused = sum(imported.refused.values())
        self.stdout.write(f"{series}: {imported.new} new candles, {imported.known} known, {refused} refused")
        if imported.revised:
            self.stdout.write(f"{imported.revised} known candles have other values in the file; the stored ones stay.")
        for reason, count in sorted(imported.refused.items()):
            self.stdout.write(f"  refused: {count} {reason}")
        for note in imported.notes:
            self.stdout.write(f"  {note}")
