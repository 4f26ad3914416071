"""`./run --check` as a user types it: every process real, from nothing to a protected, closed deal."""

from __future__ import annotations

import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from launcher import session

ROOT = Path(__file__).resolve().parents[1]
# What the test session put into the environment; the platform must start from what a user has.
OF_THE_TESTS = {"DATABASE_URL", "REDIS_URL", "ALGO_TEST_SERVERS", "DJANGO_SETTINGS_MODULE", *session.test_environment()}


@pytest.mark.long
@pytest.mark.e2e
def test_the_check_opens_a_protected_deal_closes_one_and_leaves_no_process_behind():
    env = {name: value for name, value in os.environ.items() if name not in OF_THE_TESTS}
    result = subprocess.run(
        [str(ROOT / "run"), "--check"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=450, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    proof = json.loads(result.stdout)
    assert proof["deals_opened"] >= 1
    assert proof["closed_protected"] >= 1
    assert proof["fills"] >= 2
    assert Decimal(proof["ledger_difference"]) == 0
    assert Decimal(proof["unprotected_seconds"]) < 10 * proof["deals_opened"]
    assert not (ROOT / ".run" / "session.env").exists()
