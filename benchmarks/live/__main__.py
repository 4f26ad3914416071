"""`python -m benchmarks.live --json`: how the live platform fares against the paper exchange, over real sockets.

Starts PostgreSQL, Valkey, the paper exchange with 50 markets, and for each part the workers, the guardian and the
streams it needs, all as processes of their own. Every figure is the median of at least five rounds; beside it stands
what the bare steps cost on the same machine in the same run. Exit code 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import platform as this_machine
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.live import floors as bare
from benchmarks.live.measure import Figure, Options, Skipped
from benchmarks.live.platform import Platform, end_with_the_terminal, running_platform
from launcher import ROOT

logger = logging.getLogger("benchmarks.live")

PARTS = ("decision", "reaction", "protection", "guardian", "reconcile", "scaling")
BUSY = 1.0  # load average before the run from which on others take part in its seconds
LIBRARIES = ("django", "celery", "redis", "psycopg2-binary", "numpy", "numba")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; progress goes to stderr")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, comma separated (default: {','.join(PARTS)})")
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of small loads: for trying out, not to believe"
    )
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep there what the processes said")
    asked = parser.parse_args(argv)
    parts = asked.only.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    end_with_the_terminal()
    with contextlib.redirect_stdout(sys.stderr):  # of what is told on the way
        report = measure(parts, Options(quick=asked.quick), asked.logs)
    print(json.dumps(report, indent=1) if asked.json else table(report))
    return 1 if report["missed"] or report["failed"] else 0


def measure(parts: Sequence[str], options: Options, logs: Path | None = None) -> dict[str, Any]:
    """Run the parts one after the other; everything that is told of them."""
    figures: list[Figure] = []
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    began, load = time.monotonic(), os.getloadavg()[0]
    with running_platform(logs) as platform:
        floors = bare.Floors()
        floors.measure(platform, options)
        for name in parts:
            note(f"{name} …")
            try:
                figures += _run(name, platform, floors, options)
            except Skipped as why:
                skipped[name] = str(why)
                note(f"{name} was left out: {why}")
            except Exception as exc:  # what the other parts found is worth keeping
                logger.exception("%s failed", name)
                failed[name] = f"{type(exc).__name__}: {exc}"
            floors.measure(platform, options)  # a machine's pace changes while it works
        machine = about(platform)
    seconds = floors.seconds
    return {
        **machine,
        "quick": options.quick,
        "load": load,
        "seconds": round(time.monotonic() - began, 1),
        "floors": {
            name: {"what": bare.WHAT[name], "seconds": seconds[name], "rounds": floors.rounds[name]} for name in seconds
        },
        "figures": {figure.name: figure.told(seconds) for figure in figures},
        "skipped": skipped,
        "failed": failed,
        "missed": [figure.name for figure in figures if not figure.holds],
    }


def _run(name: str, platform: Platform, floors: bare.Floors, options: Options) -> list[Figure]:
    part = importlib.import_module(f"benchmarks.live.{name}")
    platform.fresh()
    found: list[Figure] = part.run(platform, floors, options)
    for figure in found:
        note(f"  {line(figure.told(floors.seconds), figure.name)}")
    return found


def note(text: str) -> None:
    """Progress, beside the result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


# --- what is told -----------------------------------------------------------------------------------------------------


def about(platform: Platform) -> dict[str, Any]:
    with platform.database() as connection:
        postgres = f"{connection.server_version // 10000}.{connection.server_version % 10000}"
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {"processor": processor(), "cores": cores(), "system": this_machine.platform()},
        "versions": {"python": this_machine.python_version(), "postgresql": postgres}
        | {name: version(name) for name in LIBRARIES},
    }


def processor() -> str:
    """Its name, as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return this_machine.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else this_machine.machine()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str:
    """The commit that is checked out, `+` where files differ from it; empty outside of a repository."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def table(report: dict[str, Any]) -> str:
    machine = report["machine"]
    lines = [f"{machine['processor']}, {machine['cores']} cores; commit {report['commit']}; {report['seconds']:.0f} s"]
    if report["quick"]:
        lines.append("A quick run: too small to believe.")
    if report["load"] > BUSY:
        lines.append(f"Others used this machine (load {report['load']:.1f}): seconds say little, processor time does.")
    lines += ["", "Bare steps:"]
    lines += [
        f"  {name:<10} {floor['seconds'] * 1e3:9.3f} ms  {floor['what']}" for name, floor in report["floors"].items()
    ]
    lines += ["", "Figures:"]
    lines += [f"  {line(figure, name)}" for name, figure in report["figures"].items()]
    lines += [f"  {name}: left out: {why}" for name, why in report["skipped"].items()]
    lines += [f"  {name}: FAILED: {why}" for name, why in report["failed"].items()]
    lines += ["", f"Missed: {', '.join(report['missed'])}" if report["missed"] else "No target is missed."]
    return "\n".join(lines)


def line(figure: dict[str, Any], name: str) -> str:
    words = [f"{name:<44} {_number(figure['value']):>10} {figure['unit']:<6}"]
    if figure["p50"] is not None:
        words.append(f"p50 {_number(figure['p50'])} p99 {_number(figure['p99'])}")
    if figure["ratio"] is not None:
        words.append(f"{_number(figure['ratio'])} x {figure['floor']}")
    if figure["target"] is not None:
        limit = "at least" if figure["at_least"] else "at most"
        words.append(f"({limit} {_number(figure['target'])}){'' if figure['holds'] else ' MISSED'}")
    return "  ".join([*words, figure["what"]])


def _number(value: float) -> str:
    """Four digits that count."""
    if value and abs(value) < 1000:
        return f"{value:.4g}"
    return f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
