"""The bounded form of the proof in tests/streams.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.paper.world import ROOT

OWN_SERVERS = ("ALGO_TEST_SERVERS", "DATABASE_URL", "REDIS_URL")  # it takes servers of its own, not this session's


@pytest.mark.long
@pytest.mark.e2e
def test_no_minute_is_lost_doubled_or_different_while_every_connection_is_cut():
    env = {name: value for name, value in os.environ.items() if name not in OWN_SERVERS}
    words = [sys.executable, "-m", "tests.streams", "--minutes", "2", "--symbols", "20", "--disconnects", "3"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, (done.stderr[-3000:], done.stdout[-3000:])
    report = json.loads(done.stdout)
    assert report["closed_minutes"] >= 1
    assert len(report["markets"]) == 40
    assert report["connections_cut"] >= 3 * 2
    assert min(report["reconnects"].values()) >= 3
    for age in report["book_age_seconds"].values():
        assert age["p99"] < 10
