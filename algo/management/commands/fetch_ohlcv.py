"""`manage.py fetch_ohlcv`: download candles into the database."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from algo import exchanges
from algo.management._cli import (
    DOWNLOADS_KEPT,
    CliCommand,
    add_market_options,
    add_period_options,
    add_unit_jump_option,
    download_progress,
    known_market,
    say_gaps,
    to_period,
    to_resolution,
)
from algo.services.candles import candles_fetch_range

DEFAULT_PROVIDER = "nobitex"


class Command(CliCommand):
    kept = DOWNLOADS_KEPT
    help = (
        "Download closed candles, each once. An interrupted download goes on where it stopped; gaps are reported and "
        "never filled."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_market_options(parser, symbol_required=True)
        add_period_options(parser)
        add_unit_jump_option(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        now = exchanges.CLOCK.now()
        resolution, period = to_resolution(options["resolution"]), to_period(options, now)
        provider = options["provider"] or DEFAULT_PROVIDER
        market = known_market(provider, options["symbol"])
        with download_progress(self.stderr, f"{market.symbol} {resolution}") as progress:
            fetched = candles_fetch_range(
                market,
                resolution,
                exchanges.public_provider(provider),
                start=period.start,
                end=period.end,
                now=now,
                accept_unit_jump=options["accept_unit_jump"],
                progress=progress,
            )
        self.stdout.write(f"{market.symbol} at {provider}, resolution {resolution}: {fetched.new} new candles")
        say_gaps(self.stdout, fetched.gaps, "the exchange has none")
