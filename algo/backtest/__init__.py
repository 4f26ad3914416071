"""Backtests: the signals of live, and a kernel for what happens to money."""

from algo.backtest.books import BookSeries
from algo.backtest.charts import charts_of
from algo.backtest.engine import BacktestResult, BacktestSettings, FillModel, run, run_both, signals_of
from algo.backtest.metrics import Metrics, metrics_of
from algo.backtest.report import side_by_side, summary
from algo.backtest.sweep import Sweep, sweep

__all__ = [
    "BacktestResult",
    "BacktestSettings",
    "BookSeries",
    "FillModel",
    "Metrics",
    "Sweep",
    "charts_of",
    "metrics_of",
    "run",
    "run_both",
    "side_by_side",
    "signals_of",
    "summary",
    "sweep",
]
