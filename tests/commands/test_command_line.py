"""From the shell: exit codes, clean streams, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from django.db import connection

from tests.commands.conftest import ROOT

ROWS = "".join(f"{1_700_000_040 + 60 * i},100,103,99,{100 + i % 3},1\n" for i in range(400))


@pytest.fixture
def manage(django_db_setup, django_db_blocker):
    """`manage.py` as a process of its own, on the test database."""
    with django_db_blocker.unblock():
        name = connection.settings_dict["NAME"]
    url = os.environ["DATABASE_URL"].rpartition("/")[0] + f"/{name}"

    def _manage(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "DATABASE_URL": url, **environment}
        argv = [sys.executable, "manage.py", *words]
        return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)

    return _manage


def test_json_is_the_only_thing_on_stdout(manage, tmp_path):
    path = tmp_path / "candles.csv"
    path.write_text("time,open,high,low,close,volume\n" + ROWS)
    done = manage("backtest_strategy", "--csv", str(path), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["candles"] == 400 - 328


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["backtest_strategy", "--strategy", "Nope", "--symbol", "BTCUSDT"], "no strategy 'Nope'"),
        (["backtest_strategy", "--colour", "red"], "Unrecognized arguments: --colour red"),
        (["fetch_ohlcv"], "required: --symbol"),
        (["refresh_markets", "--provider", "binance"], "invalid choice: 'binance'"),
    ],
)
def test_a_wrong_input_ends_with_one_line_on_stderr_and_exit_code_1(manage, words, says):
    done = manage(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unreachable_exchange_ends_with_one_line(manage):
    done = manage("backtest_strategy", "--symbol", "BTCUSDT", NOBITEX_BASE_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "NOBITEX_BASE_URL is http://127.0.0.1:9" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_database_that_is_down_ends_with_one_line(manage):
    done = manage("fetch_ohlcv", "--symbol", "BTCUSDT", DATABASE_URL="postgres://nobody@127.0.0.1:9/none")
    assert done.returncode == 1
    assert "The database cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
