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
    download_progress,
    known_market,
    to_period,
    to_resolution,
)
from algo.selectors.candles import Gap
from algo.services.candles import Fetched, candles_fetch_range

DEFAULT_PROVIDER = "nobitex"
GAPS_SHOWN = 10


class Command(CliCommand):
    kept = DOWNLOADS_KEPT
    help = (
        "Download closed candles, each once. An interrupted download goes on where it stopped; gaps are reported and "
        "never filled."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_market_options(parser, symbol_required=True)
        add_period_options(parser)

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
                progress=progress,
            )
        self.stdout.write(f"{market.symbol} at {provider}, resolution {resolution}: {fetched.new} new candles")
        self._say_gaps(fetched)

    def _say_gaps(self, fetched: Fetched) -> None:
        if not fetched.gaps:
            self.stdout.write("No gaps.")
            return
        self.stdout.write(f"{fetched.missing} candles are missing in {len(fetched.gaps)} gaps: the exchange has none.")
        for gap in sorted(fetched.gaps, key=lambda gap: -gap.bars)[:GAPS_SHOWN]:
            self.stdout.write(f"  {_span(gap)}  {gap.bars}")
        if len(fetched.gaps) > GAPS_SHOWN:
            self.stdout.write(f"  and {len(fetched.gaps) - GAPS_SHOWN} shorter ones")


def _span(gap: Gap) -> str:
    return f"{gap.start:%Y-%m-%d %H:%M} to {gap.end:%Y-%m-%d %H:%M}"
