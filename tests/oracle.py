"""Play the cases of a neutral backtest file through the kernel and print what differs.

`.venv/bin/python -m tests.oracle FILE --fill-model freqtrade` compares with `expected`; `--fill-model conservative`
fills gaps at the open and compares with `expected_gap_aware` where the file has it. The cases trail within a candle and
take targets net of fees in both: the file varies the gap rule alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from algo.backtest.engine import play as run_kernel
from algo.backtest.kernel import NO_BOOKS, Account, ExitReason, Orders, Prices, Rules, prepared

TOLERANCE = 2e-8  # the file rounds to eight decimals
REASONS = {
    ExitReason.STOP_LOSS: "stop_loss",
    ExitReason.TAKE_PROFIT: "roi",
    ExitReason.TRAILING_STOP: "trailing_stop_loss",
    ExitReason.SIGNAL: "exit_signal",
    ExitReason.END_OF_DATA: "force_exit",
}


def play(case: dict[str, Any], *, gap_at_open: bool) -> list[dict[str, Any]]:
    """The deals of one case."""
    columns = np.array(case["candles"], dtype=np.float64).T.copy()
    opens, highs, lows, closes, _, enter, leave = columns
    enters, leaves = enter > 0, leave > 0
    times = np.arange(opens.size, dtype=np.int64) * case["timeframe_minutes"] * 60
    exits = leaves & ~enters if case["use_exit_signal"] else np.zeros(opens.size, dtype=np.bool_)
    side = (enters & ~leaves).astype(np.int8)
    market = prepared(times, np.zeros(1, dtype=np.int64), Prices(opens, highs, lows, closes), NO_BOOKS)
    orders = Orders(side, np.ones(opens.size), -exits.astype(np.int8))
    played = run_kernel(market, orders, Account(1e9, 0.0), _rules(case, gap_at_open))
    return [_deal(row) for row in played.deals]


def mismatches(cases: list[dict[str, Any]], *, gap_at_open: bool) -> list[str]:
    """One line for each case whose deals are not the expected ones."""
    key = "expected_gap_aware" if gap_at_open else "expected"
    lines = []
    for case in cases:
        if key in case:
            got = play(case, gap_at_open=gap_at_open)
            if not _equal(got, case[key]):
                lines.append(f"{case['id']}: expected {case[key]}, got {got}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="tests.oracle", description="Compare the backtest kernel with an oracle file."
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--fill-model", choices=("freqtrade", "conservative"), default="freqtrade")
    options = parser.parse_args(arguments)
    gap_at_open = options.fill_model == "conservative"
    cases = json.loads(options.file.read_text(encoding="utf-8"))["cases"]
    compared = [case for case in cases if not gap_at_open or "expected_gap_aware" in case]
    lines = mismatches(compared, gap_at_open=gap_at_open)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(f"{len(lines)} of {len(compared)} cases differ\n")
    return 1 if lines else 0


def _rules(case: dict[str, Any], gap_at_open: bool) -> Rules:
    trailing = case["trailing"]
    return Rules(
        stop=case["stop_loss_pct"],
        target=_or_nan(case["take_profit_pct"]),
        trailing=trailing["enabled"],
        trail_distance=case["stop_loss_pct"],
        trail_positive_distance=_or_nan(trailing["positive_distance_pct"]),
        trail_offset=float(trailing["offset_pct"]),
        trail_only_offset=trailing["only_offset_is_reached"],
        entry_fee=float(case["fee"]),
        exit_fee=float(case["fee"]),
        target_fee=float(case["fee"]),
        candle_seconds=case["timeframe_minutes"] * 60,
        freqtrade=True,
        gap_at_open=gap_at_open,
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _deal(row: np.ndarray) -> dict[str, Any]:
    return {
        "open_tick": int(row[1]),
        "close_tick": int(row[2]),
        "exit_reason": REASONS[ExitReason(int(row[3]))],
        "open_rate": float(row[4]),
        "close_rate": float(row[5]),
        "profit_ratio": float(row[10]),
    }


def _equal(got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Every value the file gives; numbers within the digits it keeps."""
    return len(got) == len(expected) and all(
        abs(one[key] - value) <= TOLERANCE if isinstance(value, float) else one[key] == value
        for one, wanted in zip(got, expected, strict=True)
        for key, value in wanted.items()
    )


if __name__ == "__main__":
    sys.exit(main())
