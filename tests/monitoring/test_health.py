"""Is it ready? Answered in time and with a reason, whatever is down."""

from __future__ import annotations

import signal
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests
from django.conf import settings
from django.test import Client

from algo.models import Heartbeat
from algo.monitoring import health
from algo.selectors.health import belonging, candles_health
from launcher.processes import free_port, spawn, stop
from tests.factories import NOW, make_config
from tests.servers import Servers

LONGEST = 2.0  # seconds that a probe may wait for its answer


def everybody_alive(now: datetime, **details: dict) -> None:
    for name in belonging():
        Heartbeat.objects.update_or_create(name=name, defaults={"at": now, "detail": details.get(name, {"up": True})})


def parts() -> dict[str, health.Part]:
    return {part.name: part for part in health._look()}


@pytest.mark.django_db(transaction=True)
def test_a_whole_house_is_ready():
    everybody_alive(datetime.now(UTC))
    told = parts()
    assert [name for name, part in told.items() if not part.ok] == []
    assert list(told) == list(health.PARTS)
    assert told["database"].reason == "It answers."
    assert told["candles"].reason == "No running strategy waits for candles."


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("name", "part"), [("beat", "beat"), ("worker:orders", "workers"), ("guardian", "guardian")])
def test_a_silent_process_is_named_with_its_silence(name, part):
    everybody_alive(now := datetime.now(UTC))
    Heartbeat.objects.filter(name=name).update(at=now - timedelta(seconds=150))
    told = parts()
    assert [each for each, found in told.items() if not found.ok] == [part]
    assert told[part].reason.startswith(f"{name} has been silent for 15")


@pytest.mark.django_db(transaction=True)
def test_one_that_never_reported_is_told_apart():
    everybody_alive(datetime.now(UTC))
    Heartbeat.objects.filter(name="worker:backtests").delete()
    assert parts()["workers"].reason == "worker:backtests has never given a sign of life."


@pytest.mark.django_db(transaction=True)
def test_an_exchange_in_use_that_answers_nobody_is_not_reachable():
    make_config()  # candles of nobitex, orders at wallex
    now = datetime.now(UTC)
    long_ago = (now - timedelta(seconds=90)).isoformat()
    known = {"wallex": {"open": True, "answered_at": long_ago}, "nobitex": {"open": False, "answered_at": long_ago}}
    everybody_alive(now, guardian={"exchanges": known})
    part = parts()["exchanges"]
    assert (part.ok, part.reason) == (False, "wallex does not answer.")


@pytest.mark.django_db(transaction=True)
def test_an_exchange_that_nobody_uses_may_be_away():
    now = datetime.now(UTC)
    everybody_alive(now, guardian={"exchanges": {"wallex": {"open": True, "answered_at": None}}})
    assert parts()["exchanges"] == health.Part("exchanges", ok=True, reason="None is in use.")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("behind", "is_late"),
    # candles of a minute: the next one should close a minute later, and be fetched within another
    [(timedelta(minutes=1), False), (timedelta(minutes=3), False), (timedelta(minutes=3, seconds=1), True)],
)
def test_a_candle_is_late_once_a_further_one_should_be_there(behind, is_late):
    make_config(resolution="1", last_bar_at=NOW - behind)
    make_config(resolution="1", last_bar_at=NOW)
    [found] = candles_health(NOW)
    assert (found.strategies, found.is_late) == (2, is_late)
    assert found.age == max((behind - timedelta(minutes=1)).total_seconds(), 0)


@pytest.mark.django_db
def test_candles_of_a_replay_are_judged_by_the_clock_on_the_wall():
    make_config(resolution="1", last_bar_at=NOW - timedelta(minutes=31))
    [found] = candles_health(NOW, speed=60)  # half an hour of platform time: 30 s on the wall
    assert (found.age, found.is_late) == (30.0, False)


@pytest.mark.django_db(transaction=True)
def test_late_candles_are_not_ready():
    everybody_alive(now := datetime.now(UTC))
    make_config(resolution="60", last_bar_at=now - timedelta(hours=4))
    part = parts()["candles"]
    assert not part.ok
    assert part.reason == "The last closed candle is old (60: 10800 s ago)."


def test_live_asks_nobody_and_needs_no_database():
    answer = Client(headers={"host": "10.1.2.3:8000"}).get("/health/live")  # whatever the host
    assert (answer.status_code, answer.json()) == (200, {"status": "live"})
    assert answer.headers["Cache-Control"] == "no-store"


def test_probes_take_no_other_method():
    answer = Client().post("/health/ready")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_a_part_that_there_is_not_is_refused():
    answer = Client().get("/health/ready?only=database,moon")
    assert (answer.status_code, answer.json()["unknown"]) == (400, 1)


@pytest.fixture
def own(tmp_path):
    servers = Servers(tmp_path)
    for name in ("postgres", "valkey"):
        servers.start(name)
    yield servers
    servers.stop()


@pytest.mark.e2e
def test_real_servers_that_are_away_or_hang_are_told_in_time(own, tmp_path):
    port = free_port()
    log = tmp_path / "web.log"
    words = [sys.executable, "-m", "gunicorn", "algo_trade.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "4"]
    web = spawn([*words, "--worker-class", "gthread", "--no-control-socket"], log=log, env=own.env)
    cookie = {settings.SESSION_COOKIE_NAME: "of somebody who is signed in"}

    def asked(part: str) -> tuple[int, str]:
        time.sleep(health.REMEMBERED_SECONDS + 0.05)
        began = time.monotonic()
        answer = requests.get(f"http://127.0.0.1:{port}/health/ready", cookies=cookie, timeout=10)
        assert time.monotonic() - began < LONGEST
        return answer.status_code, answer.json()["checks"][part]["reason"]

    try:
        for _ in range(300):
            try:
                requests.get(f"http://127.0.0.1:{port}/health/live", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        assert asked("database") == (503, "It has not been migrated to this version: run manage.py migrate.")
        assert asked("redis") == (503, "It answers.")
        own.pause("valkey")
        assert asked("redis") == (503, "It takes the connection and does not answer.")
        own.go_on("valkey")
        own.pause("postgres")
        assert asked("database") == (503, "It takes the connection and does not answer.")
        assert asked("guardian") == (503, "Not known: the database does not tell.")
        assert asked("database") == (503, "It takes the connection and does not answer.")  # one thread waits, no more
        own.go_on("postgres")
        own.kill("postgres")
        own.kill("valkey")
        time.sleep(5)  # until the question that hung has failed
        assert asked("database") == (503, "It cannot be reached.")
        assert asked("redis") == (503, "It cannot be reached.")
        live = requests.get(f"http://127.0.0.1:{port}/health/live", cookies=cookie, timeout=2)
        assert live.status_code == 200
    finally:
        stop(web, signum=signal.SIGTERM, seconds=10)
    assert "Traceback" not in log.read_text()
