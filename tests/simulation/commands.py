"""What the command line does, and what it prints."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tests.simulation.mutants import applied, can_show, hunted, what
from tests.simulation.plan import Plan, plan_of
from tests.simulation.run import Result, Total, chunks, live, live_seed, new_books, percentile, shrink
from tests.simulation.setup import prepare_process

CHUNK = 10
ENOUGH = 1000  # worlds in which every kind of fault has to happen
CALM_P99 = 3.0  # seconds from an entry to its stop where nothing fails
LONGEST = 140  # characters of a violation in a table


def run_one(options: argparse.Namespace) -> int:
    """One world, readable."""
    with applied(options.mutant):
        plan = plan_of(options.seed)
        if options.shrink:
            plan = _shrunk(plan, options.ledger)
        print(f"seed {options.seed}: {plan.setting}")
        for event in plan.events:
            print(f"  {event}")
        result = live(plan, new_books(options.ledger), tell=None if options.shrink else print)
    print(f"trace {result.trace}")
    for violation in result.violations:
        print(f"VIOLATION {violation}")
    print("no violation" if not result.violations else f"{len(result.violations)} violations")
    return 1 if result.violations else 0


def _shrunk(plan: Plan, ledger: str) -> Plan:
    def fails(fewer: Plan) -> bool:
        return bool(live(fewer, new_books(ledger)).violations)

    if not fails(plan):
        print("This world does not fail: there is nothing to shrink.")
        return plan
    return shrink(plan, fails)


def run_many(options: argparse.Namespace) -> int:
    seeds = range(options.start, options.start + options.seeds)
    total = lived(seeds, options.jobs, options.ledger, options.mutant, tell=True)
    figures = figures_of(total, options.ledger)
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    for sentence in (shortcomings := _shortcomings(total) if options.seeds >= ENOUGH else []):
        print(sentence, file=sys.stderr)
    return 1 if total.violations or shortcomings else 0


def _shortcomings(total: Total) -> list[str]:
    """What only many worlds together can fail."""
    found = [f"blind: {kind} never happened" for kind in total.never_injected]
    if percentile(total.bare_calm, 0.99) > CALM_P99:
        found.append(f"L2: where nothing failed, p99 from entry to stop is above {CALM_P99:g} s")
    return found


def lived(seeds: Iterable[int], jobs: int, ledger: str, mutant: str | None = None, *, tell: bool = False) -> Total:
    """All of these worlds, on so many processes."""
    total, began = Total(), time.perf_counter()
    for result in _results(seeds, jobs, ledger, mutant):
        total.add(result)
        if tell and result.violations:
            _tell_failure(result, ledger)
        if tell and total.seeds % 200 == 0:
            rate = total.seeds / (time.perf_counter() - began) * 60
            print(f"{total.seeds} worlds, {rate:.0f} a minute, {len(total.violations)} failed", file=sys.stderr)
    total.wall = time.perf_counter() - began
    return total


def _tell_failure(result: Result, ledger: str) -> None:
    print(f"seed {result.seed}: {result.violations[0]}", file=sys.stderr)
    print(f"  replay: python -m tests.simulation --seed {result.seed} --ledger {ledger}", file=sys.stderr, flush=True)


def _results(seeds: Iterable[int], jobs: int, ledger: str, mutant: str | None) -> Iterator[Result]:
    if jobs <= 1:
        with applied(mutant):
            for seed in seeds:
                yield live_seed(seed, ledger)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, prepare_process, (ledger,)) as pool:
        work = ((part, ledger, mutant) for part in chunks(seeds, CHUNK))
        for results in pool.imap_unordered(_live_chunk, work):
            yield from results
        pool.close()
        pool.join()  # a process that ends by itself stops its server and removes what it kept


def _live_chunk(work: tuple[list[int], str, str | None]) -> list[Result]:
    seeds, ledger, mutant = work
    with applied(mutant):
        return [live_seed(seed, ledger) for seed in seeds]


def figures_of(total: Total, ledger: str) -> dict[str, Any]:
    return {
        "ledger": ledger,
        "seeds": total.seeds,
        "seconds": round(total.wall, 1),
        "seeds_per_minute": round(total.seeds / total.wall * 60) if total.wall else 0,
        "violations": {str(seed): sentences for seed, sentences in sorted(total.violations.items())},
        "exchange_calls": total.calls,
        **dict(sorted(total.sums.items())),
        "unprotected_seconds_reachable": _spread(total.bare_reachable),
        "unprotected_seconds_raw": _spread(total.bare_raw),
        "unprotected_seconds_fault_free": _spread(total.bare_calm),
        "faults": dict(sorted(total.faults.items())),
        "faults_never_injected": total.never_injected,
        "crash_points": dict(sorted(total.points.items())),
        "transitions": dict(sorted(total.transitions.items())),
        "transitions_never_seen": total.never_seen,
        "trace": total.trace,
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "intervals": len(values),
        "p50": round(percentile(values, 0.5), 3),
        "p99": round(percentile(values, 0.99), 3),
        "max": round(max(values, default=0.0), 3),
    }


# --- mutants --------------------------------------------------------------------------------------------------------


def run_mutants(options: argparse.Namespace) -> int:
    """Remove one rule at a time; each has to be noticed, alone or with what masks it. One that is named is hunted as
    it is named: `a`, or `a+b`."""
    names = [options.mutant] if options.mutant else hunted()
    rows = []
    for row in _hunts(names, options):
        rows.append(row)
        print(json.dumps(row, ensure_ascii=False), flush=True)
    rows.sort(key=lambda row: names.index(row["mutant"]))
    survivors = [row["mutant"] for row in rows if row["seeds"] is None]
    print(_table(rows))
    print(
        f"{len(rows) - len(survivors)} of {len(rows)} mutants caught" + (f"; alive: {survivors}" if survivors else "")
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    return 1 if survivors else 0


def _hunts(names: list[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each mutant by one process from the first to the last seed: none lives longer than it has to."""
    work = [(name, options.start, options.most, options.ledger) for name in names]
    if min(options.jobs, len(names)) <= 1:
        yield from map(_hunt, work)
        return
    with multiprocessing.get_context("spawn").Pool(options.jobs, prepare_process, (options.ledger,)) as pool:
        yield from pool.imap_unordered(_hunt, work)


def _hunt(work: tuple[str, int, int, str]) -> dict[str, Any]:
    """The first world that fails without the rule and not with it. `seeds` is how many were lived up to that one: those
    that cannot show the rule are left out."""
    name, start, most, ledger = work
    began, tried, row = time.perf_counter(), 0, {"mutant": name, "what": what(name)}
    for seed in range(start, start + most):
        plan = plan_of(seed)
        if not can_show(name, plan):
            continue
        tried += 1
        with applied(name):
            violations = live(plan, new_books(ledger)).violations
        if violations and not live(plan, new_books(ledger)).violations:
            return row | {"seeds": tried, "seed": seed, "by": violations[0], "seconds": _since(began)}
    return row | {"seeds": None, "seed": None, "by": "", "tried": tried, "seconds": _since(began)}


def _table(rows: list[dict[str, Any]]) -> str:
    """For a document: which rule was missing, how many worlds it took, and what noticed first."""
    lines = ["| missing | rule | worlds | seed | noticed by |", "|---|---|---|---|---|"]
    for row in rows:
        names = " + ".join(f"`{name}`" for name in row["mutant"].split("+"))
        by = row["by"] if len(row["by"]) <= LONGEST else row["by"][:LONGEST] + "…"
        lines.append(f"| {names} | {row['what']} | {row['seeds'] or 'alive'} | {row['seed']} | {by} |")
    return "\n".join(lines)


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 1)
