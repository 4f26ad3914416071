"""How long candles take on their way in and out: `python -m benchmarks.candles --candles 1000000`.

Writes a CSV file of its own, imports it the way `manage.py import_ohlcv` does (parse, checks, database), imports it
again (nothing is new), and reads half a million candles into arrays. Prints JSON. Uses a database of its own at
DATABASE_URL, or a throw-away server; nothing is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.walk import START, random_walk

READ_BACK = 500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--candles", type=int, default=1_000_000, help="how many one-minute candles (default 1000000)")
    candles = parser.parse_args().candles
    if candles < 2:
        parser.error("--candles must be at least 2")
    with tempfile.TemporaryDirectory() as folder, database():
        path = Path(folder) / "candles.csv"
        write_csv(path, candles)
        print(json.dumps(measure(path, candles), indent=2))


def write_csv(path: Path, candles: int) -> None:
    """A random walk of one-minute candles, always the same."""
    table = np.column_stack(tuple(random_walk(candles).values()))
    form = ["%d", "%.2f", "%.2f", "%.2f", "%.2f", "%.6f"]
    np.savetxt(path, table, fmt=form, delimiter=",", header="time,open,high,low,close,volume", comments="")


@contextmanager
def database() -> Iterator[None]:
    """Django on an empty database, removed at the end."""
    from launcher.embedded import ensure_test_servers

    ensure_test_servers()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")
    import django

    django.setup()
    from django.db import connection

    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)


def measure(path: Path, candles: int) -> dict[str, Any]:
    from algo.selectors.candles import candles_range
    from algo.services.candle_import import candles_import
    from providers.types import Resolution

    now = START + timedelta(minutes=candles + 1)
    market = make_market(now)

    def run() -> Any:
        return candles_import(market, Resolution.M1, str(path), now=now)

    first, seconds = timed(run)
    again, again_seconds = timed(run)
    if (first.new, again.new) != (candles, 0):
        raise SystemExit(f"not every candle was stored once: {first.new} new, then {again.new}")
    count = min(candles, READ_BACK)
    end = START + timedelta(minutes=count)
    arrays, read_seconds = timed(lambda: candles_range(market, Resolution.M1, START, end))
    return {
        "import": {"candles": candles, "seconds": round(seconds, 2), "candles_per_second": round(candles / seconds)},
        "import_again": {"candles": candles, "seconds": round(again_seconds, 2)},
        "read_into_arrays": {"candles": len(arrays), "seconds": round(read_seconds, 3)},
    }


def make_market(now: datetime) -> Any:
    from algo.models import Market

    grids = {"tick_size": "0.01", "step_size": "0.000001", "maker_fee_rate": "0.001", "taker_fee_rate": "0.001"}
    return Market.objects.create(
        provider="nobitex",
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        pair="BTC/USDT",
        market_band="0.01",
        refreshed_at=now,
        **grids,
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


if __name__ == "__main__":
    main()
