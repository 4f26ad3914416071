"""`manage.py compare_live`: a live day through the engine; every decision and fill that differs, with its reason."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db.models import Q
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from algo import exchanges
from algo.backtest.parity_words import DIFFERENCE_HEADS, FIGURE_HEADS, difference_rows, figure_rows, verdict
from algo.management._cli import DOWNLOADS_KEPT, CliCommand, download_progress
from algo.models import ParityReport, StrategyConfig
from algo.selectors.parity import configs_that_decided, day_bounds, live_day, trading_day
from algo.services.candles import candles_fetch_range
from algo.services.parity import NothingToCompare, parity_report
from algo.strategies import create_strategy
from providers.types import Resolution


class Command(CliCommand):
    kept = DOWNLOADS_KEPT
    help = (
        "Replay a live or paper day through the engine and list every decision and fill that differs, with the reason. "
        "The outcome is kept and shown on the strategy's page. Exit code 1 where a difference has no known reason."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--day", help="Trading day, as 2026-11-27 (default: yesterday).")
        parser.add_argument("--config", help="Name or id of a strategy config (default: all that decided that day).")
        parser.add_argument("--no-download", action="store_true", help="Use what is stored, ask no exchange.")
        parser.add_argument("--json", action="store_true", help="One JSON object on stdout, nothing else.")

    def handle(self, *args: Any, **options: Any) -> None:
        now = exchanges.CLOCK.now()
        day = _day(options["day"], now)
        reports, skipped = [], []
        for config in _configs(options["config"], day, now):
            if not options["no_download"]:
                self._download(config, day, now)
            try:
                reports.append(parity_report(config, day, now=now))
            except NothingToCompare as exc:
                if options["config"]:
                    raise CommandError(str(exc)) from exc
                skipped.append(str(exc))
        if not reports:
            raise CommandError(skipped[0])
        self._print(day, reports, skipped, as_json=options["json"])
        if unexplained := sum(report.unexplained for report in reports):
            raise CommandError(
                f"{unexplained} differences have no known reason. The reports are kept; look at each of them above, "
                "first at the candles and the journal of that moment."
            )

    def _download(self, config: StrategyConfig, day: date, now: datetime) -> None:
        """The candles of the day, one after it, and before it what the strategy needs to warm up."""
        market, resolution = config.data_market, Resolution(config.resolution)
        start, end = day_bounds(day)
        oldest = min([deal.bar for deal in live_day(config, start, end).deals] + [int(start.timestamp())])
        bars = create_strategy(config.strategy, config.parameters).warmup_bars + 1
        since = datetime.fromtimestamp(oldest, start.tzinfo) - bars * resolution.duration
        until = min(end + resolution.duration, now)
        with download_progress(self.stderr, f"{market.symbol} {resolution}") as progress:
            provider = exchanges.public_provider(market.provider)
            candles_fetch_range(market, resolution, provider, start=since, end=until, now=now, progress=progress)

    def _print(self, day: date, reports: list[ParityReport], skipped: list[str], *, as_json: bool) -> None:
        if as_json:
            rows = [{"config": report.config.name, **report.summary, "list": report.differences} for report in reports]
            self.stdout.write(json.dumps({"day": day.isoformat(), "reports": rows, "skipped": skipped}))
            return
        for report in reports:
            self.show(*_tables(report))
        for sentence in skipped:
            self.stdout.write(sentence)


def _day(text: str | None, now: datetime) -> date:
    if text is None:
        return trading_day(now) - timedelta(days=1)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is no day. Nothing was compared; write it like 2026-11-27.") from None
    if day_bounds(day)[0] >= now:
        raise CommandError(f"{text} lies in the future. Nothing was compared; choose a day that has begun.")
    return day


def _configs(name: str | None, day: date, now: datetime) -> list[StrategyConfig]:
    if name is None:
        found = list(configs_that_decided(*day_bounds(day)))
        if not found:
            raise CommandError(
                f"No strategy decided anything on {day:%Y-%m-%d}. Nothing was compared; choose another day with --day "
                f"(today is {trading_day(now):%Y-%m-%d} in {settings.TRADING_DAY_TIME_ZONE})."
            )
        return found
    by_id = Q(pk=int(name)) if name.isdecimal() else Q()
    rows = StrategyConfig.objects.select_related("account", "market", "data_market")
    config = rows.filter(Q(name=name) | by_id if by_id else Q(name=name)).first()
    if config is None:
        known = ", ".join(StrategyConfig.objects.values_list("name", flat=True)[:10]) or "none"
        raise CommandError(f"There is no strategy config {name!r}. Known are: {known}.")
    return [config]


# --- what comes out -------------------------------------------------------------------------------------------------


def _tables(report: ParityReport) -> list[RenderableType]:
    summary, kept = report.summary, report.differences
    notes = [Text(f"Note: {note}.") for note in summary["notes"]]
    return [_figures(report), *([_differences(report)] if kept else []), *notes, Text(verdict(summary, len(kept)))]


def _figures(report: ParityReport) -> Table:
    table = Table(title=f"{report.config.name}, {report.day:%Y-%m-%d}: live against backtest")
    for column in FIGURE_HEADS:
        table.add_column(column, justify="right" if column else "left")
    for row in figure_rows(report.summary):
        table.add_row(*row)
    return table


def _differences(report: ParityReport) -> Table:
    table = Table(title="Differences, times in UTC")
    for column in DIFFERENCE_HEADS:
        table.add_column(column)
    for row in difference_rows(report.differences):
        table.add_row(*row, style="bold red" if row[-1].startswith("unexplained") else None)
    return table
