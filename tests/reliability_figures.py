"""Put the figures of the proofs into docs/reliability.md, so that nobody copies a number by hand.

python -m tests.simulation --seeds 100000 --jobs 2 --json sim.json
python -m tests.simulation --mutants --jobs 2 --json mutants.json
python -m tests.chaos --minutes 5 --seed 1 > chaos.json
python -m tests.reliability_figures --simulation sim.json --mutants mutants.json --chaos chaos.json
python -m tests.fault_matrix --figures sim.json --chaos chaos.json --write docs/reliability.md
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
LONGEST = 110  # characters of what noticed a mutant


def simulation(figures: Mapping[str, Any], command: str) -> str:
    """One table of what so many worlds had to show."""
    reachable, raw = figures["unprotected_seconds_reachable"], figures["unprotected_seconds_raw"]
    free = figures["unprotected_seconds_fault_free"]
    rows = [
        ("worlds", f"{figures['seeds']:,}, {figures['seeds_per_minute']:,} a minute on two cores"),
        ("violations", f"**{len(figures['violations'])}**"),
        ("deals, orders, fills", " · ".join(f"{figures[name]:,}" for name in ("deals", "orders", "fills"))),
        ("calls to the exchange", f"{figures['exchange_calls']:,}"),
        ("faults injected", f"{sum(figures['faults'].values()):,} of {len(figures['faults'])} kinds, none of them 0"),
        ("points at which a process may die", f"{len(figures['crash_points'])}, passed "
         f"{sum(figures['crash_points'].values()):,} times"),
        ("unknown outcomes, adopted orders", f"{figures['unknown']:,} · {figures['adopted']:,}"),
        ("locks taken from silent holders, tickets", f"{figures['evictions']:,} · {figures['tickets']:,}"),
        ("unprotected, while all answered", _spread(reachable)),
        ("unprotected, by the clock on the wall", _spread(raw)),
        ("entry to stop, where nothing failed", _spread(free)),
    ]  # fmt: skip
    lines = [f"`{command}`", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    never = ", ".join(figures["transitions_never_seen"])
    return "\n".join([*lines, "", f"Changes that the tables allow and no world made: {never or 'none'}."])


def _spread(values: Mapping[str, Any]) -> str:
    return f"p50 {values['p50']} s, p99 {values['p99']} s, most {values['max']} s, over {values['intervals']:,}"


def mutants(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| missing | what is gone | worlds | noticed by |", "|---|---|---|---|"]
    for row in rows:
        name = "<br>+ ".join(f"`{each}`" for each in row["mutant"].split("+"))
        by = re.sub(r" \(at [0-9.]+\)$", "", row["by"])[:LONGEST]
        lines.append(f"| {name} | {row['what']} | {row['seeds'] or '**alive**'} | {by} |")
    caught = sum(row["seeds"] is not None for row in rows)
    return "\n".join([*lines, "", f"{caught} of {len(rows)} caught."])


def chaos(figures: Mapping[str, Any]) -> str:
    """What one run had to show: plain figures, those that are counted by kind with their sum, and seconds."""
    lines = ["| | |", "|---|---|"]
    for name, value in figures.items():
        told = _counts(value) if isinstance(value, Mapping) else value if isinstance(value, int | float | str) else ""
        if told != "":
            lines.append(f"| {name.replace('_', ' ')} | {told} |")
    for kind, spread in figures["unprotected_seconds"].items():
        lines.append(f"| unprotected, {kind.replace('_', ' ')} | p99 {spread['p99']} s, most {spread['max']} s |")
    return "\n".join([*lines, f"| violations | **{len(figures['violations'])}** |"])


def _counts(by_kind: Mapping[str, Any]) -> str:
    """`8 (worker 5, beat 3)`; nothing where they are no counts."""
    if not by_kind or not all(isinstance(count, int) for count in by_kind.values()):
        return ""
    parts = ", ".join(f"{kind} {count}" for kind, count in by_kind.items())
    return f"{sum(by_kind.values())} ({parts})"


def with_section(text: str, name: str, made: str) -> str:
    """The document with this between the markers of that name."""
    marked = re.compile(rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"the document has no markers for {name}")
    return marked.sub(lambda found: f"{found[1]}{made}\n{found[2]}", text, count=1)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability_figures", description="Write down the figures.")
    parser.add_argument("--simulation", type=Path, metavar="FILE")
    parser.add_argument("--command", default="", help="which made the figures of the worlds")
    parser.add_argument("--mutants", type=Path, metavar="FILE")
    parser.add_argument("--chaos", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    text = DOCUMENT.read_text()
    if options.simulation:
        figures = json.loads(options.simulation.read_text())
        told = options.command or f".venv/bin/python -m tests.simulation --seeds {figures['seeds']} --jobs 2"
        text = with_section(text, "simulation", simulation(figures, told))
    if options.mutants:
        text = with_section(text, "mutants", mutants(json.loads(options.mutants.read_text())))
    if options.chaos:
        text = with_section(text, "chaos", chaos(json.loads(options.chaos.read_text())))
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
