"""`manage.py backtest_strategy`: what a strategy would have earned on stored, downloaded or recorded candles."""

from __future__ import annotations

import csv
import json
import os
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import CommandError

from algo.backtest import BacktestResult, FillModel, charts_of, run_both
from algo.backtest.html_report import html_report
from algo.management._backtest_plan import Data, Plan, add_plan_options, planned
from algo.management._backtest_tables import backtest_tables
from algo.management._cli import DOWNLOADS_KEPT, CliCommand, parent_folder_exists
from algo.services.backtests import backtest_record, backtest_report


class Command(CliCommand):
    kept = DOWNLOADS_KEPT
    help = (
        "Test a strategy on past candles. Missing candles are downloaded from the exchange's public data. Both fill "
        "models are always shown; --fill-model says which one is stored first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_plan_options(parser)
        parser.add_argument("--books", metavar="FILE", help="Order books as record_books writes them: real fills.")
        parser.add_argument("--fill-model", choices=[*FillModel], default=str(FillModel.CONSERVATIVE))
        parser.add_argument("--json", action="store_true", help="One JSON object on stdout, nothing else.")
        parser.add_argument(
            "--html", metavar="FILE", help="Write a report with charts: one file, opens without network."
        )
        parser.add_argument("--trades", metavar="FILE.csv", help="Write every deal of the chosen fill model.")

    def handle(self, *args: Any, **options: Any) -> None:
        for name in ("html", "trades"):
            parent_folder_exists(options[name])
        plan, data = planned(options, self.stderr)
        results = run_both(data.candles, plan.strategy, None, plan.rules, plan.settings, data.books)
        report = backtest_report(results, source=data.source, missing=data.missing, notes=data.notes)
        charts = charts_of(results)
        if options["html"]:
            write_whole(Path(options["html"]), lambda sink: sink.write(html_report(report, charts)))
        if options["trades"]:
            write_trades(Path(options["trades"]), results[plan.settings.fill_model])
        report["run_id"] = _kept(report, charts, plan, data)
        self._print(report, as_json=options["json"])

    def _print(self, report: Mapping[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(report, allow_nan=False))
        else:
            self.show(*backtest_tables(report))


# --- what comes out -------------------------------------------------------------------------------------------------


def _kept(report: Mapping[str, Any], charts: Mapping[str, Any], plan: Plan, data: Data) -> int | None:
    """The id of the stored run; None for a market that is not known here."""
    if plan.market is None:
        return None
    run = backtest_record(
        report,
        data.candles,
        market=plan.market,
        now=datetime.now(UTC),
        charts=charts,
        config=plan.config,
        asked=plan.money.as_json(),
    )
    return run.pk


def write_trades(path: Path, result: BacktestResult) -> None:
    """One line for each deal."""
    rows = result.rows()

    def write(sink: TextIO) -> None:
        writer = csv.DictWriter(sink, fieldnames=list(rows[0]) if rows else ["side", "opened_at", "closed_at"])
        writer.writeheader()
        writer.writerows(rows)

    write_whole(path, write)


def write_whole(path: Path, write: Callable[[TextIO], Any]) -> None:
    """A file that appears whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", newline="", encoding="utf-8") as sink:
            write(sink)
        draft.replace(path)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise CommandError(
            f"{path} cannot be written: {exc.strerror}. Nothing was stored; choose another file."
        ) from exc
