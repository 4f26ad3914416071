"""How fast backtests are: `python -m benchmarks.backtest --json`. Exit 1 where a target is missed.

Each round runs ours and the other at once after the other; a figure is the median of the rounds' ratios. The others are
installed into an environment of their own (`benchmarks/requirements.txt`). The last two figures are seconds of a whole
process; they need the database that DATABASE_URL names, or a throw-away server.

Like is compared with like: everybody buys and sells again, with a stop of 0.3 % that trails at that distance (the only
one at which vectorbt's can), a target of 0.6 %, a fee of 0.1 % and slippage of 0.05 %. Beside that ours keeps to the
grids and minimums of a market, asks for fresh candles, and counts cooldown, entries and losses of trading days; its
limits are wide enough not to save it a deal. Ours moves its stop in steps of 0.1 %, vectorbt at every new high.
`from_signals` gives orders and no equity curve, and so does ours until it is asked for it; `vectorbt_equity` asks both
sides for the curve.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from algo.backtest import BacktestResult, BacktestSettings, run, sweep
from algo.strategies import BreakoutStrategy, Candles
from benchmarks.hand_fused import fused
from benchmarks.peers import Peers
from benchmarks.walk import random_walk
from launcher import ROOT
from providers.types import MarketRules, Side

YEAR, FIVE_YEARS, MONTH = 525_600, 2_628_000, 43_200
EVERY_RULE = {"trailing_stop_percent": "0.3", "max_daily_trades": 1000, "trade_cooldown_minutes": 1}
RULES = MarketRules(
    provider="nobitex",
    symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    step_size=Decimal("0.000001"),
    min_quantity=Decimal("0.00001"),
    min_notional=Decimal(5),
    maker_fee_rate=Decimal("0.001"),
    taker_fee_rate=Decimal("0.001"),
    market_band=Decimal("0.01"),
)
MONEY = BacktestSettings(starting_quote=Decimal(10_000_000), allowed_sides=frozenset({Side.BUY}))


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` against its target; `rounds` are the single values it is the median of."""

    name: str
    what: str
    value: float
    target: float
    at_least: bool
    rounds: tuple[float, ...]

    @property
    def holds(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison (default 5)")
    parser.add_argument("--only", metavar="NAME", help="only the figures whose name holds this")
    parser.add_argument("--child", choices=["first-call", "sweep-memory"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_CHILDREN[options.child]()))
        return 0
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    found = [figure for figure in figures(options.rounds, options.only or "")]
    if options.json:
        print(json.dumps({figure.name: {**asdict(figure), "holds": figure.holds} for figure in found}, indent=2))
    else:
        for figure in found:
            limit = "at least" if figure.at_least else "at most"
            mark = "" if figure.holds else "   MISSED"
            print(f"{figure.name:22} {figure.value:10.2f}  ({limit} {figure.target:g})  {figure.what}{mark}")
    return 0 if all(figure.holds for figure in found) else 1


def figures(rounds: int, only: str) -> Iterator[Figure]:
    """Every figure, as it is found."""
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in _FIGURES.items():
            if only in name:
                yield measure(name, rounds, Path(folder))


# --- against others -------------------------------------------------------------------------------------------------


_TRIES = 8  # of each side: runs of milliseconds are easily disturbed


def against_vectorbt(name: str, rounds: int, folder: Path) -> Figure:
    what = "vectorbt 1.2 from_signals over ours, one year of minutes, signals given"
    return _against_vectorbt(name, what, rounds, folder, "from_signals", lambda result: result.deal_count)


def equity_against_vectorbt(name: str, rounds: int, folder: Path) -> Figure:
    what = "the same with the equity curve of both"
    return _against_vectorbt(name, what, rounds, folder, "equity", lambda result: result.equity)


def _against_vectorbt(
    name: str, what: str, rounds: int, folder: Path, theirs: str, taken: Callable[[BacktestResult], object]
) -> Figure:
    candles, strategy, file = _year(folder)
    signals = strategy.signals(candles)
    with Peers() as peers:
        ratios = _rounds(
            rounds,
            lambda: _seconds(lambda: taken(run(candles, signals, strategy.parameters, RULES, MONEY)), repeat=_TRIES),
            lambda: min(
                peers.run(theirs, file, engine=engine)["seconds"] for engine in ("rust", "auto") * (_TRIES // 2)
            ),
        )
    return _ratio(name, what, ratios, 5)


def against_backtesting(name: str, rounds: int, folder: Path) -> Figure:
    candles, strategy, file = _year(folder)
    signals = strategy.signals(candles)
    with Peers() as peers:
        ratios = _rounds(
            rounds,
            lambda: _seconds(lambda: run(candles, signals, strategy.parameters, RULES, MONEY)),
            lambda: peers.run("event_loop", file)["seconds"],
            warm=False,
        )
    return _ratio(name, "backtesting.py 0.6 over ours, one year of minutes, signals given", ratios, 500)


def against_hand_fused(name: str, rounds: int, folder: Path) -> Figure:
    candles, strategy, _ = _year(folder)
    columns = tuple(getattr(candles, field) for field in Candles.__dataclass_fields__)
    ratios = _rounds(
        rounds,
        lambda: _seconds(lambda: fused(*columns)),
        lambda: _seconds(lambda: run(candles, strategy, None, RULES, MONEY)),
    )
    return _ratio(name, "ours with indicators over a hand-fused loop, one year of minutes", ratios, 3, at_least=False)


def sweep_against_vectorbt(name: str, rounds: int, folder: Path) -> Figure:
    candles, sets, file = _month_of_sets(folder)
    with Peers() as peers:
        ratios = _rounds(
            rounds,
            lambda: _seconds(lambda: sweep(candles, BreakoutStrategy, sets, RULES, MONEY)),
            lambda: peers.run("sweep", file, engine="rust")["seconds"],
        )
    return _ratio(name, "vectorbt 1.2 broadcast over our sweep, 1,000 sets on a month of minutes", ratios, 50)


# --- by itself ------------------------------------------------------------------------------------------------------


def sweep_memory(name: str, rounds: int, folder: Path) -> Figure:
    values = tuple(_child("sweep-memory")["memory_mb"] for _ in range(rounds))
    return Figure(name, "MB of a process that sweeps 1,000 sets", statistics.median(values), 300, False, values)


def linear(name: str, rounds: int, folder: Path) -> Figure:
    short, strategy, _ = _year(folder)
    long = Candles(**random_walk(FIVE_YEARS))
    ratios = _rounds(
        rounds,
        lambda: _seconds(lambda: run(short, strategy, None, RULES, MONEY)) / YEAR,
        lambda: _seconds(lambda: run(long, strategy, None, RULES, MONEY), repeat=1) / FIVE_YEARS,
    )
    what = "cost of a candle in five years over one in one year"
    return _ratio(name, what, ratios, 1.5, at_least=False)


def first_call(name: str, rounds: int, folder: Path) -> Figure:
    _child("first-call")  # fills the compiler's cache
    values = tuple(_child("first-call")["seconds"] for _ in range(rounds))
    return Figure(
        name, "s of the first backtest of a process, compiled before", statistics.median(values), 1, False, values
    )


def command(name: str, rounds: int, folder: Path) -> Figure:
    with _database_of_candles() as environment:
        words = [sys.executable, "manage.py", "backtest_strategy", "--symbol", "BTCUSDT", "--no-download"]
        words += ["--from", "2020-01-02", "--days", "30"]

        def once() -> float:
            return _seconds(lambda: _run(words, environment), repeat=1)

        once()
        values = tuple(once() for _ in range(rounds))
    what = "s of manage.py backtest_strategy, 30 days of minutes out of the database"
    return Figure(name, what, statistics.median(values), 3, False, values)


_FIGURES: dict[str, Callable[[str, int, Path], Figure]] = {
    "vectorbt": against_vectorbt,
    "vectorbt_equity": equity_against_vectorbt,
    "backtesting_py": against_backtesting,
    "hand_fused": against_hand_fused,
    "sweep_vectorbt": sweep_against_vectorbt,
    "sweep_memory_mb": sweep_memory,
    "linear": linear,
    "first_call_s": first_call,
    "command_s": command,
}


# --- children -------------------------------------------------------------------------------------------------------


def _first_call() -> dict[str, float]:
    candles = Candles(**random_walk(1000))
    return {"seconds": _seconds(lambda: run(candles, BreakoutStrategy(EVERY_RULE), None, RULES, MONEY), repeat=1)}


def _sweep_memory() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        candles, sets, _ = _month_of_sets(Path(folder))
        sweep(candles, BreakoutStrategy, sets, RULES, MONEY)
    return {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


_CHILDREN: dict[str, Callable[[], dict[str, float]]] = {"first-call": _first_call, "sweep-memory": _sweep_memory}


def _child(what: str) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.backtest", "--child", what]
    found: dict[str, float] = json.loads(_run(words, dict(os.environ)))
    return found


def _run(words: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr}")
    return done.stdout


# --- what is measured on --------------------------------------------------------------------------------------------


def _year(folder: Path) -> tuple[Candles, BreakoutStrategy, Path]:
    """A year of minutes, a strategy with every rule on, and a file for the others: entries stand at the candle whose
    open they trade at."""
    columns = random_walk(YEAR)
    candles, strategy, file = Candles(**columns), BreakoutStrategy(EVERY_RULE), folder / "year.npz"
    np.savez(file, **columns, enters=_enters(candles, strategy))
    return candles, strategy, file


def _month_of_sets(folder: Path) -> tuple[Candles, list[Any], Path]:
    columns = random_walk(MONTH)
    candles, file = Candles(**columns), folder / "month.npz"
    pairs = [(stop, target) for stop in range(2, 27) for target in range(3, 43)]  # in thousandths
    sets = [
        BreakoutStrategy(
            {
                **EVERY_RULE,
                "trailing_stop_percent": 0,
                "stop_loss_percent": Decimal(stop) / 10,
                "take_profit_percent": Decimal(target) / 10,
            }
        ).parameters
        for stop, target in pairs
    ]
    stops, targets = (np.array(column) / 1000 for column in zip(*pairs, strict=True))
    np.savez(file, **columns, enters=_enters(candles, BreakoutStrategy()), stops=stops, targets=targets)
    return candles, sets, file


def _enters(candles: Candles, strategy: BreakoutStrategy) -> Any:
    enters = np.zeros(len(candles), dtype=np.bool_)
    enters[1:] = strategy.signals(candles).side[:-1] > 0
    enters[: strategy.warmup_bars] = False
    return enters


@contextmanager
def _database_of_candles() -> Iterator[dict[str, str]]:
    """A database with a month of candles and its warm-up; gives the environment in which commands find it."""
    from benchmarks.candles import database, make_market, write_csv

    with database(), tempfile.TemporaryDirectory() as folder:
        from django.conf import settings
        from django.db import connection

        from algo.services.candle_import import candles_import
        from benchmarks.walk import START
        from providers.types import Resolution

        count = 40 * 1440
        now = START + timedelta(minutes=count + 1)
        path = Path(folder) / "candles.csv"
        write_csv(path, count)
        candles_import(make_market(now), Resolution.M1, str(path), now=now)
        url = os.environ["DATABASE_URL"].replace(
            f"/{_name_in(os.environ['DATABASE_URL'])}", f"/{connection.settings_dict['NAME']}"
        )
        yield {**os.environ, "DATABASE_URL": url, "SECRET_KEY": settings.SECRET_KEY}


def _name_in(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


# --- timing ---------------------------------------------------------------------------------------------------------


def _rounds(
    rounds: int, ours: Callable[[], float], theirs: Callable[[], float], *, warm: bool = True
) -> tuple[float, ...]:
    """theirs / ours, measured next to each other in every round, after one round that only compiles."""
    ours()
    if warm:
        theirs()
    return tuple(theirs() / ours() for _ in range(rounds))


def _seconds(work: Callable[[], object], *, repeat: int = 3) -> float:
    """The quickest of a few: what disturbs a run only ever makes it slower."""
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def _ratio(name: str, what: str, ratios: tuple[float, ...], target: float, *, at_least: bool = True) -> Figure:
    return Figure(name, what, statistics.median(ratios), target, at_least, ratios)


if __name__ == "__main__":
    sys.exit(main())
