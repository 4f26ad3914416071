"""doctor finds what is broken, names it and says what to do: every set-up here is really broken, and one is whole."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis
import requests
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from algo.models import Account, Heartbeat
from algo.monitoring.doctor.finding import Finding, Level, as_json, as_text
from launcher.embedded import Valkey, wait_until
from launcher.processes import child_environment, free_port, spawn, stop
from tests.factories import make_account, make_config
from tests.monitoring.test_health import everybody_alive
from tests.paper.world import KEY, ROOT, Server, running
from tests.servers import Servers

# The servers of the tests forget everything on purpose: what doctor says of that is right.
OF_THE_TESTS = {"database durability", "redis persistence"}


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("paper"), "--no-rate-limits") as server:
        yield server


@pytest.fixture
def whole(db, settings, paper) -> Account:
    """An installation in which nothing is broken; its call budgets are full."""
    server = redis.Redis.from_url(settings.REDIS_URL)
    for key in server.scan_iter("algo:budget:*"):
        server.delete(key)
    settings.WALLEX_BASE_URL, settings.NOBITEX_BASE_URL = f"{paper.url}/wallex", f"{paper.url}/nobitex"
    everybody_alive(datetime.now(UTC))
    every, _ = IntervalSchedule.objects.get_or_create(every=5, period="seconds")
    for name, entry in settings.CELERY_BEAT_SCHEDULE.items():
        PeriodicTask.objects.create(name=name, task=entry["task"], interval=every)
    account = make_account(name="of the doctor", api_key=KEY)
    make_config(account=account)
    return account


def examined() -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and what is not well by the name of its check."""
    out, code = io.StringIO(), 0
    try:
        call_command("doctor", json=True, stdout=out)
    except SystemExit as exc:
        code = exc.code
    return code, told_in(out.getvalue())


def told_in(text: str) -> dict[str, dict[str, str]]:
    told = json.loads(text.splitlines()[-1])
    found = {each["check"]: each for each in told["findings"] if each["level"] != "ok"}
    assert all(each["advice"] for each in found.values() if each["level"] in ("broken", "warning"))
    assert told["ok"] is not any(each["level"] == "broken" for each in found.values())
    return {name: each for name, each in found.items() if name not in OF_THE_TESTS}


def test_a_whole_installation_is_clean(whole):
    assert examined() == (0, {})


def test_people_read_a_line_for_each_part_and_what_to_do(whole):
    Heartbeat.objects.filter(name="guardian").delete()
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", stdout=out)
    assert ended.value.code == 1
    lines = out.getvalue().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("broken"))
    assert lines[at].split(maxsplit=2)[1:] == ["guardian", "guardian has never given a sign of life."]
    assert lines[at + 1].strip().startswith("-> Start it now: python manage.py run_guardian.")
    assert "1 broken" in lines[-1]


# --- broken in the database -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["beat", "guardian", "worker:orders", "worker:notifications"])
def test_a_process_that_fell_silent_is_named(whole, name):
    Heartbeat.objects.filter(name=name).update(at=datetime.now(UTC) - timedelta(minutes=10))
    code, found = examined()
    assert (code, list(found)) == (1, [name])
    assert "has been silent for 60" in found[name]["found"]
    assert "Start" in found[name]["advice"]


def test_a_stream_without_a_connection_is_a_warning(whole):
    Heartbeat.objects.filter(name="stream:wallex").update(detail={"up": False})
    code, found = examined()
    assert (code, found["stream:wallex"]["level"]) == (0, "warning")


def test_a_schedule_that_somebody_switched_off_is_named(whole):
    PeriodicTask.objects.filter(name="sweep accounts").update(enabled=False)
    code, found = examined()
    assert (code, found["schedules"]["found"]) == (1, "Switched off: sweep accounts.")


def test_secrets_that_no_key_opens_are_counted(whole, settings):
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    code, found = examined()
    assert (code, list(found)) == (1, ["encryption keys"])
    assert f"1 of 1 stored secrets cannot be opened: account {whole.pk}" in found["encryption keys"]["found"]
    assert "rotate_keys" in found["encryption keys"]["advice"]


def test_a_key_that_has_ended_is_broken_and_one_that_ends_soon_a_warning(whole):
    Account.objects.filter(pk=whole.pk).update(key_expires_at=datetime.now(UTC) - timedelta(hours=1))
    code, found = examined()
    assert (code, found["account of the doctor"]["found"].startswith("Its key ended at")) == (1, True)
    Account.objects.filter(pk=whole.pk).update(key_expires_at=datetime.now(UTC) + timedelta(days=3))
    code, found = examined()
    assert (code, found["account of the doctor"]["level"]) == (0, "warning")


def test_a_stopped_account_is_named_with_its_reason(whole):
    Account.objects.filter(pk=whole.pk).update(state="stopped", state_reason="HTTP 401")
    code, found = examined()
    assert (code, found["account of the doctor"]["found"]) == (1, "It is stopped: HTTP 401")


def test_an_account_without_any_key_is_broken(whole, settings):
    settings.WALLEX_API_KEY = ""
    Account.objects.filter(pk=whole.pk).update(api_key_sealed="")
    code, found = examined()
    assert (code, found["account of the doctor"]["found"]) == (1, "It has no key.")


def test_an_account_that_nothing_but_the_guardian_protects_is_a_warning(whole):
    nothing = {"oco": False, "stop_market": False, "stop_limit": False}
    Account.objects.filter(pk=whole.pk).update(capabilities=nothing)
    code, found = examined()
    assert (code, found["account of the doctor"]["level"]) == (0, "warning")
    assert "probe_account" in found["account of the doctor"]["advice"]


def test_a_database_of_a_newer_version_is_told(whole):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('algo', '9999_future', now())")
    try:
        code, found = examined()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM django_migrations WHERE name = '9999_future'")
    assert (code, list(found)) == (1, ["migrations"])
    assert "9999_future is not known here" in found["migrations"]["found"]


def test_trading_days_that_are_kept_in_another_zone_are_a_warning(whole, settings):
    settings.TRADING_DAY_TIME_ZONE = "Asia/Tokyo"
    code, found = examined()
    assert (code, found["trading days"]["advice"]) == (0, "Run: python manage.py rebuild_performance")


# --- broken around it -------------------------------------------------------------------------------------------------


def test_an_exchange_that_does_not_answer_is_named_with_its_address(whole, settings):
    settings.WALLEX_BASE_URL = f"http://127.0.0.1:{free_port()}/wallex"
    code, found = examined()
    assert (code, list(found)) == (1, ["exchange wallex"])
    assert settings.WALLEX_BASE_URL in found["exchange wallex"]["found"]
    assert "WALLEX_BASE_URL" in found["exchange wallex"]["advice"]


@contextmanager
def in_another_time(url: str, behind: timedelta) -> Iterator[str]:
    """A server that answers what the one at `url` does, with a clock that is set wrong."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = requests.get(f"{url}{self.path}", timeout=10)
            self.send_response_only(answer.status_code)
            self.send_header("Date", format_datetime(datetime.now(UTC) - behind, usegmt=True))
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_clock_that_is_wrong_is_told_in_seconds(whole, settings, paper):
    with in_another_time(f"{paper.url}/wallex", timedelta(seconds=30)) as url:
        settings.WALLEX_BASE_URL = url
        code, found = examined()
    assert (code, list(found)) == (1, ["clock of wallex"])
    assert found["clock of wallex"]["found"].startswith(("Wallex's clock is 29.", "Wallex's clock is 30."))
    assert "NTP" in found["clock of wallex"]["advice"]


def test_a_full_disk_is_broken(whole, settings):
    settings.BASE_DIR = Path("/proc")  # a file system without any room
    code, found = examined()
    assert (code, found["disk"]["found"]) == (1, "0 MiB are free at /proc.")


def test_pages_without_their_files_are_broken(whole, settings):
    settings.STATICFILES_FINDERS = []
    code, found = examined()
    assert (code, list(found)) == (1, ["static files"])
    assert "algo/admin.css" in found["static files"]["found"]


@pytest.fixture
def valkey(tmp_path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey", password="hidden-from-everybody")
    server.prepare()
    log = tmp_path / "valkey.log"
    process = spawn(server.command(), log=log, env=child_environment())
    wait_until(server.ready, process, name="Valkey", log=log)
    yield server
    stop(process, signum=15, seconds=5)


def test_a_redis_that_throws_tasks_away_is_broken(whole, settings, valkey):
    settings.REDIS_URL = valkey.url
    redis.Redis.from_url(valkey.url).config_set("maxmemory-policy", "allkeys-lru")
    code, found = examined()
    assert (code, list(found)) == (1, ["redis eviction"])
    assert "allkeys-lru" in found["redis eviction"]["found"]
    assert "noeviction" in found["redis eviction"]["advice"]


def test_a_redis_that_refuses_the_password_is_told_without_it(whole, settings, valkey):
    settings.REDIS_URL = valkey.url.replace("hidden-from-everybody", "guessed-password")
    code, found = examined()
    assert (code, list(found)) == (1, ["redis"])
    assert "REDIS_URL" in found["redis"]["advice"]
    assert "guessed-password" not in str(found)


def test_a_redis_that_is_away_is_broken_and_the_rest_is_looked_at(whole, settings):
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    code, found = examined()
    assert (code, list(found)) == (1, ["redis"])


# --- broken before anything could be asked ----------------------------------------------------------------------------


def examined_alone(changes: dict[str, str | None]) -> tuple[int, dict[str, dict[str, str]]]:
    """doctor as a process of its own, as a person starts it."""
    env = {name: value for name, value in (dict(os.environ) | changes).items() if value is not None} | {"ENV_FILE": ""}
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, told_in(done.stdout)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"SECRET_KEY": None}, "SECRET_KEY is not set"),
        ({"FIELD_ENCRYPTION_KEYS": "short"}, "FIELD_ENCRYPTION_KEYS"),
        ({"DATABASE_URL": "sqlite:///db.sqlite3"}, "PostgreSQL"),
        ({"DJANGO_SETTINGS_MODULE": "algo_trade.no_settings"}, "algo_trade.no_settings cannot be loaded"),
    ],
)
def test_settings_that_refuse_to_load_are_a_finding(changes, named):
    env = {"DATABASE_URL": "postgres://127.0.0.1/nobody"} | changes
    code, found = examined_alone(env)
    assert (code, list(found)) == (1, ["settings"])
    assert named in found["settings"]["found"]


@pytest.mark.e2e
def test_a_database_that_is_fresh_hangs_or_is_away_is_told_and_the_rest_is_looked_at(tmp_path):
    servers = Servers(tmp_path)
    servers.start("postgres")
    url = {"DATABASE_URL": servers.postgres.url}
    try:
        code, found = examined_alone(url)
        assert (code, found["migrations"]["level"]) == (1, "broken")
        assert found["migrations"]["advice"] == "Run: python manage.py migrate"
        assert found["processes"]["level"] == "unknown"  # its table is not there yet
        servers.pause("postgres")
        code, found = examined_alone(url)
        assert (code, found["database"]["level"]) == (1, "broken")
        assert "does not answer" in found["database"]["found"] or "timeout" in found["database"]["found"]
        assert found["accounts"]["level"] == "unknown"
        servers.go_on("postgres")
        servers.kill("postgres")
        code, found = examined_alone(url)
        assert (code, found["database"]["level"]) == (1, "broken")
        assert "DATABASE_URL" in found["database"]["advice"]
    finally:
        servers.stop()


def test_no_password_of_an_address_is_repeated():
    port = free_port()
    code, found = examined_alone({"DATABASE_URL": f"postgres://trader:planted-secret@127.0.0.1:{port}/algo"})
    assert code == 1
    assert f"127.0.0.1:{port}/algo" in found["database"]["found"]
    assert "planted-secret" not in str(found)


# --- how it is told ---------------------------------------------------------------------------------------------------


def test_a_check_that_fails_itself_keeps_no_other_from_being_made(whole, monkeypatch):
    from algo.monitoring.doctor import examine as module

    def fail():
        raise RuntimeError("of the check")

    found = module.examine([module.Check("first", fail), *module.CHECKS[:1]])
    levels = {each.check: each.level for each in found}
    assert levels == {"database": Level.OK, "first": Level.BROKEN, "settings": Level.OK}


def test_no_secret_is_told():
    finding = Finding("x", Level.BROKEN, "api_key=planted-secret", "token: planted-secret")
    assert "planted-secret" not in as_text([finding])
    assert "planted-secret" not in json.dumps(as_json([finding]))
