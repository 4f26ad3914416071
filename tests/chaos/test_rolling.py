"""The rolling update of the real processes, under open deals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from launcher import ROOT
from tests.chaos.rolling import NAMES, OPEN_DEALS, TWINS, order_of_update
from tests.chaos.test_chaos import OF_THE_TESTS

LONGEST_SECONDS = 1200


def test_every_process_is_replaced_and_of_a_pair_the_second_one_first():
    order = order_of_update()
    assert sorted(order) == sorted([*NAMES, *(f"{name}-2" for name in TWINS)])
    assert all(order.index(f"{name}-2") == order.index(name) - 1 for name in TWINS)


@pytest.mark.long
@pytest.mark.e2e
def test_a_rolling_update_under_open_deals_breaks_no_invariant(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in OF_THE_TESTS} | {"TMPDIR": str(tmp_path)}
    tmp_path.chmod(0o755)
    words = [sys.executable, "-m", "tests.chaos.rolling", "--seed", "1"]
    done = subprocess.run(
        words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-3000:]}"
    told = json.loads(done.stdout)
    assert told["violations"] == []
    assert list(told["replaced"]) == order_of_update()
    assert told["open_at_start"] >= OPEN_DEALS
    assert sum(each["open_deals"] > 0 for each in told["replaced"].values()) >= len(told["replaced"]) - 2
    assert all(told["replaced"][name]["ended_after"] < 10 for name in ("guardian", "guardian-2"))
    assert told["ended_by_themselves"] == {}
    assert told["fills"] >= told["deals"]["CLOSED"] >= OPEN_DEALS
    assert not list(tmp_path.glob("algo-chaos-*"))
