"""`manage.py check_strategy`: does a backtest of this strategy mean anything? Look-ahead, warm-up, memory."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError
from rich.markup import escape
from rich.table import Table

from algo import exchanges
from algo.backtest import FillModel
from algo.backtest.bias import candles_wanted, check_strategy
from algo.backtest.bias_findings import Checked, CheckResult
from algo.backtest.synthetic import synthetic_market
from algo.management._backtest_plan import add_data_options, planned, planned_strategy
from algo.management._cli import DOWNLOADS_KEPT, CliCommand, to_resolution
from algo.models import StrategyConfig
from algo.services.strategy_checks import strategy_check_record
from algo.strategies import Candles, StrategyInterface

SECONDS = 60.0  # a person waits longer than a page does
NO_MONEY: Mapping[str, Any] = {
    "fill_model": FillModel.CONSERVATIVE,
    **dict.fromkeys(("fee", "slippage", "balance", "base_balance", "sides")),
}
COLOURS = {"passed": "green", "failed": "red", "not checked": "yellow"}


class Command(CliCommand):
    kept = DOWNLOADS_KEPT
    help = (
        "Check a strategy for what makes its backtests lie: signals that read the future, a warm-up too short, memory "
        "between calls. Over a simulated market unless --symbol, --config or --csv names candles. Exit code 1 where a "
        "check fails. With --config and without --param, what is found is kept: a config that fails does not run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data_options(parser)
        parser.add_argument("--json", action="store_true", help="One JSON object on stdout, nothing else.")
        parser.set_defaults(**NO_MONEY)

    def handle(self, *args: Any, **options: Any) -> None:
        config, strategy, candles, source = self._planned(options)
        checked = check_strategy(strategy, candles, seconds=SECONDS)
        kept = config if config and not options["param"] else None
        if kept:
            strategy_check_record(kept, strategy, checked, source=source, now=exchanges.CLOCK.now())
        name = type(strategy).__name__
        if options["json"]:
            report = {"strategy": name, "parameters": strategy.parameters.model_dump(mode="json"), "source": source}
            self.stdout.write(json.dumps({**report, **checked.report()}, allow_nan=False))
        else:
            self._show(name, source, checked, kept)
        if not checked.passed:
            names = ", ".join(result.check for result in checked.failed)
            raise CommandError(f"{name} failed: {names}. Its backtests do not say what it would do live.")

    def _planned(self, options: Mapping[str, Any]) -> tuple[StrategyConfig | None, StrategyInterface, Candles, str]:
        if not (options["csv"] or options["symbol"] or options["config"]):
            config, strategy = planned_strategy(options)
            seconds = to_resolution(options["resolution"]).seconds
            return config, strategy, synthetic_market(candles_wanted(strategy)[0], seconds=seconds), "simulated market"
        config, _ = planned_strategy(options)
        plan, data = planned(options, self.stderr)
        return config, plan.strategy, data.candles, f"{data.source} ({plan.rules.symbol})"

    def _show(self, name: str, source: str, checked: Checked, kept: StrategyConfig | None) -> None:
        table = Table(title=f"{name}: {checked.candles:,} candles, {escape(source)}")
        for heading in ("check", "result", "looked at"):
            table.add_column(heading)
        for result in checked.results:
            colour = COLOURS[result.verdict]
            table.add_row(result.title, f"[{colour}]{result.verdict}[/{colour}]", _looked_at(result))
        self.show(table)
        for result in checked.failed:
            self.stdout.write("\n".join(_lines(result)))
        for note in checked.notes:
            self.stdout.write(f"Note: {note}.")
        if kept:
            self.stdout.write(f"Kept for the config {kept.name}.")
        self.stdout.write(f"{checked.signals:,} signals, {checked.seconds:.1f} s.")


def _looked_at(result: CheckResult) -> str:
    return escape("; ".join(part for part in (result.scope, result.note) if part))


def _lines(result: CheckResult) -> list[str]:
    lines = ["", f"{result.title}: no."]
    for finding in result.findings:
        lines.append(f"  {finding.at or 'everywhere'}  {finding.what}")
        lines.append(f"    expected {finding.expected}")
        lines.append(f"    found    {finding.found}")
    if result.differences > len(result.findings):
        lines.append(f"  and {result.differences - len(result.findings):,} more")
    return [*lines, f"  {result.hint}"]
