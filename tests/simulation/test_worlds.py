"""The seeded world itself: what it promises to whoever believes its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.books import MemoryBooks
from tests.simulation.mutants import applied
from tests.simulation.plan import ACTS, ALL_KINDS, PROFILES, Plan, plan_of
from tests.simulation.run import live, shrink

ROOT = Path(__file__).resolve().parents[2]


def simulate(folder: Path, *arguments: str, hash_seed: str = "0", expect: int = 0) -> dict[str, Any]:
    """The command, and the figures that it writes."""
    file = folder / f"figures{hash_seed}.json"
    command = [sys.executable, "-m", "tests.simulation", *arguments, "--json", str(file)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr[-3000:] + done.stdout[-3000:]
    return json.loads(file.read_text())


@pytest.mark.long
def test_the_same_seeds_make_the_same_trace_in_two_processes(tmp_path):
    ten = ("--seeds", "10", "--jobs", "1")
    first, second = (simulate(tmp_path, *ten, hash_seed=seed) for seed in ("1", "2"))
    assert first["trace"] == second["trace"]
    assert first["exchange_calls"] == second["exchange_calls"] > 500


def test_a_plan_is_a_function_of_its_seed():
    assert plan_of(17) == plan_of(17)
    assert plan_of(17) != plan_of(18)


def test_every_kind_of_fault_is_planned_within_a_thousand_seeds():
    planned = {event.kind for seed in range(1000) for event in plan_of(seed).events}
    assert planned == {*ALL_KINDS, *ACTS}
    assert {plan_of(seed).setting.profile for seed in range(10)} == set(PROFILES)


@pytest.mark.parametrize("seed", range(30, 40))  # one of every profile
def test_nothing_is_violated(seed):
    assert live(plan_of(seed), MemoryBooks()).violations == []


@pytest.mark.long
def test_a_failing_world_is_shrunk_to_what_makes_it_fail():
    with applied("timeout_is_rejection"):

        def fails(plan: Plan) -> bool:
            return bool(live(plan, MemoryBooks()).violations)

        failing = next(plan for plan in map(plan_of, range(500)) if len(plan.events) > 3 and fails(plan))
        least = shrink(failing, fails)
        assert fails(least)
        assert len(least.events) < len(failing.events)
        for left_out in range(len(least.events)):
            assert not fails(least.keeping(least.events[:left_out] + least.events[left_out + 1 :]))


@pytest.mark.long
def test_a_violation_is_an_exit_status_of_one(tmp_path):
    without = ("--mutant", "timeout_is_rejection")
    with applied(without[1]):
        seed = next(seed for seed in range(500) if live(plan_of(seed), MemoryBooks()).violations)
    figures = simulate(tmp_path, "--start", str(seed), "--seeds", "1", "--jobs", "1", *without, expect=1)
    assert list(figures["violations"]) == [str(seed)]


@pytest.mark.long
def test_a_thousand_worlds_hold_and_every_fault_happened(tmp_path):
    figures = simulate(tmp_path, "--seeds", "1000", "--jobs", "2")
    assert figures["violations"] == {}
    assert figures["faults_never_injected"] == []
    assert figures["unprotected_seconds_reachable"]["intervals"] > 1000


@pytest.mark.long
def test_twenty_worlds_hold_over_postgresql(tmp_path):
    figures = simulate(tmp_path, "--seeds", "20", "--jobs", "2", "--ledger", "orm")
    assert figures["violations"] == {}
