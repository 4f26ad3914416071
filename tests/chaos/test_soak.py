"""The soak: its gauges and verdicts one by one, and a minute of it over real processes and candles made here."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher import ROOT
from launcher.plan import Mode
from launcher.replay import read_recording
from launcher.session import test_environment as environment_of_tests
from tests.chaos import flat, gauges, soak
from tests.chaos.flat import MEGABYTE, Trend

LONGEST_SECONDS = 420
OF_THE_TESTS = {"DATABASE_URL", "REDIS_URL", "ALGO_TEST_SERVERS", "DJANGO_SETTINGS_MODULE", *environment_of_tests()}


# --- flat or not -----------------------------------------------------------------------------------------------------


def test_a_trend_compares_the_first_quarter_with_the_last_and_draws_a_line_through_all():
    # 41 readings, one a minute, from 100 on one more each: 100 … 110 in the first ten minutes, 130 … 140 in the last
    found = flat.trend([(60.0 * minute, 100.0 + minute) for minute in range(41)])
    assert found == Trend(first=105.0, last=135.0, per_hour=pytest.approx(60.0))
    assert found.growth == 30.0


def test_one_reading_out_of_line_moves_no_median():
    readings = [(60.0 * minute, 100.0) for minute in range(40)]
    readings[38] = (readings[38][0], 9000.0)
    assert flat.trend(readings).growth == 0


def test_of_few_readings_nothing_is_said():
    assert flat.trend([(float(at), 1.0) for at in range(7)]) is None


@pytest.mark.parametrize(
    ("first", "last", "grows"),
    [(100, 110, False), (100, 111, True), (400, 420, False), (400, 421, True), (100, 50, False)],
)
def test_memory_may_grow_by_five_per_cent_or_ten_megabytes(first, last, grows):
    assert flat.memory_grows(Trend(first * MEGABYTE, last * MEGABYTE, 0)) is grows


@pytest.mark.parametrize(
    ("first", "last", "grows"),
    [(0.1, 0.35, False), (0.1, 0.36, True), (2.0, 2.5, False), (2.0, 2.51, True), (2.0, 1.0, False)],
)
def test_what_takes_time_may_take_a_quarter_more_or_a_quarter_of_a_second(first, last, grows):
    assert flat.latency_grows(Trend(first, last, 0)) is grows


def test_a_spread_says_how_many_there_are_and_where_they_lie():
    told = flat.spread([float(number) for number in range(1, 101)])
    assert told == {"count": 100, "p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 100.0}
    assert flat.spread([]) == {"count": 0}


# --- processes -------------------------------------------------------------------------------------------------------


def test_every_service_of_a_replay_is_told_by_its_command_line(tmp_path, monkeypatch):
    from launcher.plan import make_plan

    for name in OF_THE_TESTS:
        monkeypatch.delenv(name, raising=False)
    plan = make_plan(Mode.REPLAY, recording=read_recording(recorded(tmp_path, 100)), speed=60, state_dir=tmp_path)
    lines = {each.name: " ".join(map(str, each.argv)) for each in plan.services if not each.once}
    assert {name: gauges.service_name(line) for name, line in lines.items()} == {name: name for name in lines}


def test_memory_is_what_belongs_to_a_process_alone_and_with_files():
    rollup = "5500-7ff ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:  300 kB\nPss_Dirty: 5 kB\nPss_Anon:  200 kB\n"
    assert gauges.memory_of(rollup) == (200 * 1024, 300 * 1024)


def test_a_child_is_counted_with_what_it_started():
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as child:
        deadline = time.monotonic() + 20
        name = Path(sys.executable).name
        while gauges.services_of(os.getpid()).get(name, gauges.Use()).processes < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        used = gauges.services_of(os.getpid())
        child.stdin.close()
    assert used[name].processes >= 2
    assert used[name].whole >= used[name].own > 0
    assert used["launcher"].processes == 1


# --- logs ------------------------------------------------------------------------------------------------------------

GOOD = "2026-11-30 14:00:00,123 INFO celery.app.trace Task algo.tasks.run_strategies[6f-1] succeeded in 0.0125s: 3\n"
WARNED = "2026-11-30 14:00:01,123 WARNING algo.tasks candles of BTC not read: try again in 1.3 s task_id=4f1c\n"
FAILED = (
    "2026-11-30 14:00:02,123 ERROR algo.advance account=a1 failed\n"
    "Traceback (most recent call last):\n"
    '  File "a.py", line 3, in f\n'
    "ValueError: no\n"
)


def read(folder: Path) -> gauges.Logs:
    found = gauges.Logs(folder)
    found.look(7.0, at_end=True)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-30 14:00:02,123 ERROR algo.advance account=a1 failed",
        "2026-11-30 14:00:02,123 CRITICAL celery.worker Unrecoverable error",
        "2026-11-30 14:00:02.123 UTC [77] ERROR:  deadlock detected",
        "2026-11-30 14:00:02.123 UTC [77] FATAL:  the database system is starting up",
        "[2026-11-30 14:00:02 +0000] [9] [ERROR] Exception in worker process",
        "[2026-11-30 14:00:02,000: ERROR/MainProcess] Task handler raised error",
        "[E 261130 14:00:02 web:1946] Uncaught exception",
        "Traceback (most recent call last):",
    ],
)
def test_errors_of_every_kind_of_log_are_serious(tmp_path, line):
    (tmp_path / "x.log").write_text(GOOD + line + "\n")
    assert [log for log, _ in read(tmp_path).serious] == ["x.log"]


@pytest.mark.parametrize("line", [GOOD, WARNED, "2026-11-30 14:00:00,123 INFO algo.tasks outcomes=error,entered\n"])
def test_what_is_no_error_is_not_serious(tmp_path, line):
    (tmp_path / "x.log").write_text(line)
    assert read(tmp_path).serious == []


def test_a_record_is_taken_whole_and_the_next_one_begins_anew(tmp_path):
    (tmp_path / "x.log").write_text(FAILED + GOOD)
    assert read(tmp_path).serious == [("x.log", FAILED.strip())]


def test_tasks_that_are_done_are_counted_with_their_seconds(tmp_path):
    (tmp_path / "x.log").write_text(GOOD + GOOD)
    assert dict(read(tmp_path).tasks) == {"run_strategies": [(7.0, 0.0125), (7.0, 0.0125)]}


def test_warnings_count_together_whatever_numbers_they_hold(tmp_path):
    (tmp_path / "x.log").write_text(WARNED + WARNED.replace("1.3", "0.7"))
    ((said, count),) = read(tmp_path).warnings.items()
    assert count == 2
    assert said.startswith("x.log: WARNING algo.tasks candles of BTC not read: try again in N s")


def test_a_log_that_grows_is_read_once_and_a_line_that_is_not_whole_waits(tmp_path):
    log = tmp_path / "x.log"
    found = gauges.Logs(tmp_path)
    log.write_text(GOOD + FAILED[:30])
    found.look(1.0)
    assert (found.lines, found.serious) == (1, [])
    with log.open("a") as file:
        file.write(FAILED[30:] + GOOD)
    found.look(2.0)
    assert found.serious == [("x.log", FAILED.strip())]
    found.look(3.0)
    assert found.lines == 6
    assert found.tasks["run_strategies"] == [(1.0, 0.0125), (2.0, 0.0125)]


def test_a_log_that_was_emptied_is_read_on_where_it_was_copied_to(tmp_path):
    log = tmp_path / "x.log"
    found = gauges.Logs(tmp_path)
    log.write_text(GOOD * 3)
    found.look(1.0)
    (tmp_path / "x.log.1").write_text(GOOD * 3 + FAILED)  # what was added between the look and the copy
    log.write_text(GOOD)
    found.look(2.0, at_end=True)
    assert len(found.tasks["run_strategies"]) == 4
    assert found.serious == [("x.log", FAILED.strip())]


def test_only_what_is_allowed_by_log_and_pattern_is_explained():
    allowed = (("x.log", "deadlock detected", "two who waited for each other"),)
    serious = [("x.log", "1 ERROR deadlock detected"), ("y.log", "1 ERROR deadlock detected"), ("x.log", FAILED)]
    wrong, explained = gauges.unexplained(serious, allowed)
    assert explained == {"two who waited for each other": 1}
    assert wrong == [
        "y.log: 1 ERROR deadlock detected",
        "x.log: 2026-11-30 14:00:02,123 ERROR algo.advance account=a1 failed … ValueError: no",
    ]


# --- the command -----------------------------------------------------------------------------------------------------


def recorded(folder: Path, minutes: int) -> Path:
    """Candles of a market that wanders by tenths of a per cent, the same every time."""
    rng, price = random.Random(7), 60_000.0
    path = folder / "made_BTCUSDT_1m.csv"
    with path.open("w") as file:
        file.write("time,open,high,low,close,volume\n")
        for minute in range(minutes):
            close = price * (1 + rng.gauss(0, 0.0012))
            high, low = max(price, close) * (1 + rng.random() / 2000), min(price, close) * (1 - rng.random() / 2000)
            volume = 20 * (1 + rng.random() * 3)
            cells = [f"{price:.2f}", f"{high:.2f}", f"{low:.2f}", f"{close:.2f}", f"{volume:.4f}"]
            file.write(f"{1_700_000_040 + 60 * minute},{','.join(cells)}\n")
            price = float(cells[3])
    return path


def test_a_recording_that_is_too_short_is_refused_before_anything_starts(tmp_path, capsys):
    # of 3000 candles 2499 minutes are left after the history: 41.7 minutes at speed 60
    assert soak.main([str(recorded(tmp_path, 3000)), "--minutes", "60"]) == 2
    assert "lasts 41.6 min at speed 60, and 68.0 min are needed. Nothing was started." in capsys.readouterr().err


def test_every_strategy_of_the_soak_has_parameters_of_its_own_that_its_schema_takes():
    from algo.strategies.schemas import BreakoutStrategySchema
    from tests.chaos.soak_world import parameters_of

    made = [BreakoutStrategySchema.model_validate(parameters_of(number)) for number in range(50)]
    assert len({each.model_dump_json() for each in made}) == 50


@pytest.mark.long
@pytest.mark.e2e
def test_a_minute_of_the_soak_trades_and_ends_without_an_error_in_any_log(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in OF_THE_TESTS}
    words = [
        "--minutes",
        "1",
        "--strategies",
        "12",
        "--accounts",
        "1",
        "--settle",
        "15",
        "--keep",
        str(tmp_path / "kept"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.soak", str(recorded(tmp_path, 3000)), *words],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    told = json.loads(done.stdout)
    assert told["violations"] == []
    assert told["running_at_the_end"] == 12
    assert told["fills"] >= 2
    assert told["deals"]["status"]["CLOSED"] >= 1
    assert set(told["processor_cores"]) >= {"worker", "worker-orders", "guardian", "web", "beat", "paper", "postgres"}
    assert told["latency_seconds"]["decision 1"]["count"] > 0
