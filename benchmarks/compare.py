"""Has anything become dearer? `python -m benchmarks.compare RESULT.json` asks `benchmarks/baseline.json`.

What is compared never depends on how fast the machine is: of `benchmarks.live` the ratios to the bare steps that were
measured in the same run, and plain counts; of `benchmarks.backtest` the ratios to the others. Exit code 1 where a
figure is worse than the baseline by more than its margin, 2 where the two cannot be compared.

Of a run on a machine that others used (load average above 1 before it) only processor time and counts are compared and
kept: its seconds are its neighbours'.

A margin comes from runs, not from taste: `--write` takes several results, keeps the median of each figure, and allows
twice the largest distance of a run from that median, at least 10 %; from a single run, 25 %. Write a new baseline on a
machine that does nothing else, from five runs, and only when the change is meant.

    python -m benchmarks.live --json > run.json
    python -m benchmarks.compare run.json
    python -m benchmarks.compare --write run1.json run2.json run3.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).with_name("baseline.json")
LEAST_MARGIN, MARGIN_OF_ONE_RUN = 0.10, 0.25
COUNTS = ("x", "count")  # units that mean the same on every machine
PROCESSOR = "python"  # the bare step of figures that are processor time
BUSY = 1.0  # load average before a run
KEPT_OF_A_RUN = ("at", "commit", "machine", "versions", "load")


class CannotCompare(ValueError):
    """A file that is no result, or one that says too little."""


@dataclass(frozen=True, slots=True)
class Known:
    """One figure of the baseline. `margin` is the share by which it may be worse."""

    value: float
    margin: float
    more_is_better: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure now and then. `worse_by` is a share of the baseline: 0.2 is a fifth dearer, -0.2 a fifth cheaper."""

    name: str
    then: float | None
    now: float | None
    worse_by: float
    margin: float

    @property
    def is_worse(self) -> bool:
        return self.worse_by > self.margin

    @property
    def verdict(self) -> str:
        if self.then is None:
            return "new"
        if self.now is None:
            return "not measured"
        if self.is_worse:
            return "WORSE"
        return "better" if self.worse_by < -self.margin else "the same"


# --- what a result says -----------------------------------------------------------------------------------------------


def comparable(result: Mapping[str, Any]) -> dict[str, tuple[float, bool]]:
    """Each figure that means the same on every machine: its value, and whether more of it is better. Raises
    CannotCompare."""
    if "figures" in result:
        return _of_live(result)
    rows = [each for each in result.values() if isinstance(each, dict) and {"value", "at_least"} <= set(each)]
    if not rows or len(rows) != len(result):
        raise CannotCompare("this is neither a result of benchmarks.live --json nor of benchmarks.backtest --json")
    return {
        f"backtest.{name}": (float(row["value"]), bool(row["at_least"]))
        for name, row in result.items()
        if not name.endswith("_s")  # seconds are the machine's
    }


def _of_live(result: Mapping[str, Any]) -> dict[str, tuple[float, bool]]:
    if result.get("quick"):
        raise CannotCompare("this run was a --quick one: too small to compare")
    found = {}
    is_busy = result.get("load", 0.0) > BUSY
    for name, figure in result["figures"].items():
        if figure["ratio"] is not None and (not is_busy or figure["floor"] == PROCESSOR):
            found[name] = (float(figure["ratio"]), False)
        elif figure["unit"] in COUNTS:  # growth, requests, transactions
            found[name] = (float(figure["value"]), bool(figure["at_least"]))
    return found


# --- then and now -----------------------------------------------------------------------------------------------------


def compare(result: Mapping[str, Any], baseline: Mapping[str, Known]) -> list[Compared]:
    """Every figure of the result, and those of the baseline that it should have. Raises CannotCompare."""
    now = comparable(result)
    rooms = {name.partition(".")[0] for name in now}
    expected = [name for name in baseline if name.partition(".")[0] in rooms]
    return [
        _compared(name, baseline.get(name), now.get(name, (None, False))[0])
        for name in sorted({*now, *expected}, key=_as_read)
    ]


def _compared(name: str, known: Known | None, now: float | None) -> Compared:
    if known is None or now is None:
        return Compared(name, known.value if known else None, now, 0.0, known.margin if known else 0.0)
    return Compared(name, known.value, now, worse_by(known, now), known.margin)


def worse_by(known: Known, now: float) -> float:
    """The share by which `now` is worse: of what is a cost, how much dearer; of what is a gain, how much the baseline
    exceeds it. What was nothing and is something is infinitely worse."""
    then = known.value
    if known.more_is_better:
        then, now = now, then
    if then == 0:
        return 0.0 if now == 0 else math.inf
    return now / then - 1


def _as_read(name: str) -> tuple[object, ...]:
    """`decision.100` before `decision.1000`."""
    return tuple((part.isdigit(), int(part) if part.isdigit() else part) for part in name.split("."))


# --- the baseline -----------------------------------------------------------------------------------------------------


def written(results: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> dict[str, Any]:
    """A baseline of these runs; figures they do not have stay as they were `before`. Raises CannotCompare."""
    runs = [comparable(result) for result in results]
    names = sorted({name for run in runs for name in run}, key=_as_read)
    told = {name: _told(runs, name) for name in names}
    return {
        "of": [{key: result[key] for key in KEPT_OF_A_RUN if key in result} for result in results],
        "figures": {**before.get("figures", {}), **told},
    }


def _told(runs: Sequence[Mapping[str, tuple[float, bool]]], name: str) -> dict[str, Any]:
    values = [run[name][0] for run in runs if name in run]
    more_is_better = next(run[name][1] for run in runs if name in run)
    return {
        "value": statistics.median(values),
        "margin": margin(values),
        "more_is_better": more_is_better,
        "runs": len(values),
    }


def margin(values: Sequence[float]) -> float:
    """Twice the largest distance from the median, as a share of it and in whole percents, at least 10 %."""
    if len(values) < 2:
        return MARGIN_OF_ONE_RUN
    middle = statistics.median(values)
    if middle == 0:
        return LEAST_MARGIN
    farthest = max(abs(value - middle) for value in values) / abs(middle)
    return max(LEAST_MARGIN, math.ceil(round(200 * farthest, 6)) / 100)


def known(baseline: Mapping[str, Any]) -> dict[str, Known]:
    return {
        name: Known(row["value"], row["margin"], row["more_is_better"]) for name, row in baseline["figures"].items()
    }


# --- the command ------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULT.json", help="without one, from stdin")
    parser.add_argument("--write", action="store_true", help="keep these results as the new baseline")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help=f"default: benchmarks/{BASELINE.name}")
    asked = parser.parse_args(argv)
    try:
        results = [_read(path) for path in asked.results] or [json.load(sys.stdin)]
        if asked.write:
            return _write(results, asked.baseline)
        return max(_tell(compare(result, known(_read(asked.baseline)))) for result in results)
    except (CannotCompare, OSError, json.JSONDecodeError) as exc:
        sys.stderr.write(f"nothing was compared: {exc}\n")
        return 2


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise CannotCompare(f"{path} is no result")
    return found


def _write(results: Sequence[Mapping[str, Any]], path: Path) -> int:
    before = _read(path) if path.exists() else {}
    path.write_text(json.dumps(written(results, before), indent=1) + "\n")
    print(f"{path} holds {len(results)} runs now")
    return 0


def _tell(rows: Sequence[Compared]) -> int:
    print(f"{'figure':<44} {'baseline':>10} {'now':>10} {'worse by':>9} {'margin':>7}")
    for row in rows:
        change = f"{row.worse_by:+8.0%}" if row.then is not None and row.now is not None else ""
        then, now = (f"{value:10.4g}" if value is not None else f"{'':>10}" for value in (row.then, row.now))
        print(f"{row.name:<44} {then} {now} {change:>9} {row.margin:7.0%}  {row.verdict}")
    worse = [row.name for row in rows if row.is_worse]
    print(f"Worse beyond noise: {', '.join(worse)}" if worse else "Nothing is worse beyond noise.")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
