"""The other engines, in a process of their own: a command a line in, the seconds it took out. Started by `peers`."""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

STOP, TARGET, TRAIL, FEE, SLIPPAGE, SIZE, CASH = 0.003, 0.006, 0.003, 0.001, 0.0005, 0.4, 10_000.0


def from_signals(data: dict[str, Any], engine: str) -> int:
    """vectorbt: long entries at the next open, a trailing stop and a target. Its fastest way: arrays, one column."""
    return len(_portfolio(data, engine).orders.values)


def equity(data: dict[str, Any], engine: str) -> int:
    """vectorbt: the same, and what the account was worth at each candle."""
    return len(_portfolio(data, engine).value())


def _portfolio(data: dict[str, Any], engine: str) -> Any:
    import vectorbt as vbt

    return vbt.Portfolio.from_signals(
        data["close"],
        data["enters"],
        np.zeros_like(data["enters"]),
        price=data["open"],
        open=data["open"],
        high=data["high"],
        low=data["low"],
        sl_stop=STOP,
        sl_trail=True,
        tp_stop=TARGET,
        fees=FEE,
        slippage=SLIPPAGE,
        init_cash=CASH,
        size=SIZE,
        size_type="percent",
        engine=engine,
    )


def sweep(data: dict[str, Any], engine: str) -> int:
    """vectorbt: the same broadcast over a column for each parameter set, and the return of each."""
    import vectorbt as vbt

    stops, targets = data["stops"], data["targets"]
    wide = np.broadcast_to(data["close"][:, None], (data["close"].size, stops.size))
    columns = {name: data[name][:, None] for name in ("open", "high", "low")}
    portfolio = vbt.Portfolio.from_signals(
        wide,
        data["enters"][:, None],
        np.zeros_like(data["enters"])[:, None],
        price=columns["open"],
        **columns,
        sl_stop=stops[None, :],
        tp_stop=targets[None, :],
        fees=FEE,
        slippage=SLIPPAGE,
        init_cash=CASH,
        size=SIZE,
        size_type="percent",
        engine=engine,
    )
    return len(portfolio.orders.values)


def event_loop(data: dict[str, Any], engine: str) -> int:
    """backtesting.py: the same entries, stop, trailing stop and target in its `next`."""
    import pandas as pd
    from backtesting import Backtest, Strategy

    enters = data["enters"].astype(float)

    class Entries(Strategy):
        def init(self) -> None:
            self.enters = self.I(lambda: enters)

        def next(self) -> None:
            for trade in self.trades:
                trade.sl = max(trade.sl, self.data.High[-1] * (1 - TRAIL))
            if not self.position and self.enters[-1]:
                price = self.data.Close[-1]
                self.buy(size=SIZE, sl=price * (1 - STOP), tp=price * (1 + TARGET))

    index = pd.to_datetime(data["open_time"], unit="s")
    names = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}
    frame = pd.DataFrame({name: data[column] for name, column in names.items()}, index=index)
    test = Backtest(frame, Entries, cash=10_000_000, commission=FEE, spread=SLIPPAGE)
    return int(test.run()["# Trades"])


ENGINES: dict[str, Callable[[dict[str, Any], str], int]] = {
    "from_signals": from_signals,
    "equity": equity,
    "sweep": sweep,
    "event_loop": event_loop,
}


def main() -> None:
    warnings.simplefilter("ignore")
    out, sys.stdout = sys.stdout, sys.stderr  # progress bars and remarks of the peers stay off the answers
    files: dict[str, dict[str, Any]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        path = asked["file"]
        if path not in files:
            files[path] = dict(np.load(path))
        began = time.perf_counter()
        count = ENGINES[asked["do"]](files[path], asked["engine"])
        answer = {"seconds": time.perf_counter() - began, "count": count}
        answer["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
