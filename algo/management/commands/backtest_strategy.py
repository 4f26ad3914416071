"""`manage.py backtest_strategy`: what a strategy would have earned on stored, downloaded or recorded candles."""

from __future__ import annotations

import csv
import json
import os
from argparse import ArgumentParser
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from algo.backtest import BacktestResult, FillModel, run_both, side_by_side
from algo.management._backtest_plan import Data, add_plan_options, planned
from algo.management._backtest_tables import backtest_tables
from algo.management._cli import DOWNLOADS_KEPT, CliCommand, parent_folder_exists
from algo.services.backtests import backtest_record, candles_fingerprint


class Command(CliCommand):
    kept = DOWNLOADS_KEPT
    help = (
        "Test a strategy on past candles. Missing candles are downloaded from the exchange's public data. Both fill "
        "models are always shown; --fill-model says which one is stored first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_plan_options(parser)
        parser.add_argument("--fill-model", choices=[*FillModel], default=str(FillModel.CONSERVATIVE))
        parser.add_argument("--json", action="store_true", help="One JSON object on stdout, nothing else.")
        parser.add_argument("--trades", metavar="FILE.csv", help="Write every deal of the chosen fill model.")

    def handle(self, *args: Any, **options: Any) -> None:
        parent_folder_exists(options["trades"])
        plan, data = planned(options, self.stderr)
        results = run_both(data.candles, plan.strategy, None, plan.rules, plan.settings, data.books)
        report = _report(results, data)
        if options["trades"]:
            write_trades(Path(options["trades"]), results[plan.settings.fill_model])
        if plan.market:
            run = backtest_record(report, data.candles, market=plan.market, now=datetime.now(UTC))
            report["run_id"] = run.pk
        self._print(report, as_json=options["json"])

    def _print(self, report: Mapping[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(report, allow_nan=False))
        else:
            self.show(*backtest_tables(report))


# --- what comes out -------------------------------------------------------------------------------------------------


def _report(results: Mapping[FillModel, BacktestResult], data: Data) -> dict[str, Any]:
    report = side_by_side(results)
    report["warnings"] = [*report["warnings"], *data.notes]
    report["data"] = {
        "source": data.source,
        "missing_candles": data.missing,
        "fingerprint": candles_fingerprint(data.candles),
    }
    report["run_id"] = None
    return report


def write_trades(path: Path, result: BacktestResult) -> None:
    """One line for each deal; the file appears whole or not at all."""
    rows = result.rows()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", newline="", encoding="utf-8") as sink:
            writer = csv.DictWriter(sink, fieldnames=list(rows[0]) if rows else ["side", "opened_at", "closed_at"])
            writer.writeheader()
            writer.writerows(rows)
        draft.replace(path)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise CommandError(
            f"{path} cannot be written: {exc.strerror}. Nothing was stored; choose another file."
        ) from exc
