"""PostgreSQL and Valkey out of their wheels, really started as the user who runs the tests."""

import fcntl
import os
import shutil
import signal
import socket
import stat
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from launcher.console import LauncherError
from launcher.embedded import PostgreSQL, Valkey, sweep_test_homes, throw_away_servers, wait_until
from launcher.processes import child_environment, spawn, stop

POSTGRES_SECONDS = 10


@pytest.fixture
def no_servers_of_the_session(monkeypatch):
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("REDIS_URL")


def working_at(place: Path) -> list[psutil.Process]:
    """The processes started from there: both servers make their data directory their working directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(place):
                found.append(process)
        except psutil.Error:
            continue  # gone meanwhile, or another user's
    return found


def socket_directory(url: str) -> Path:
    return Path(unquote(urlsplit(url).netloc.rpartition("@")[2]))


def connect(url: str):
    return psycopg2.connect(host=str(socket_directory(url)), user="postgres", dbname="algo_trade")


@pytest.mark.e2e
@pytest.mark.usefixtures("no_servers_of_the_session")
def test_throw_away_servers_work_listen_on_loopback_only_and_leave_nothing_behind():
    with throw_away_servers() as urls:
        with connect(urls["DATABASE_URL"]) as connection, connection.cursor() as cursor:
            cursor.execute("show listen_addresses")
            assert cursor.fetchone() == ("",)
        connection.close()
        client = redis.Redis.from_url(urls["REDIS_URL"])
        assert client.ping()
        settings = client.config_get("*")
        assert (settings["maxmemory-policy"], settings["bind"]) == ("noeviction", "127.0.0.1")
        client.close()
        sockets = socket_directory(urls["DATABASE_URL"])
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        home = sockets.parent.parent
        servers = working_at(home)
        assert len(servers) >= 2
        for server in servers:
            assert {c.laddr.ip for c in server.net_connections("inet") if c.status == "LISTEN"} <= {"127.0.0.1"}
    psutil.wait_procs(servers, timeout=5)
    assert working_at(home) == []
    assert not home.exists()


def test_what_a_killed_test_session_left_is_swept_away_and_a_running_ones_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, running, starting = (tmp_path / f"algo-test-{name}" for name in ("killed", "running", "starting"))
    for home in (killed, running, starting):
        home.mkdir()
    (killed / "lock").touch()
    with (running / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep_test_homes()
    assert sorted(tmp_path.iterdir()) == [running, starting]


@pytest.mark.e2e
def test_a_stranger_without_the_password_gets_nothing_from_valkey(tmp_path):
    valkey = Valkey(tmp_path / "valkey", password="hidden")
    valkey.prepare()
    assert stat.S_IMODE((valkey.home / "valkey.conf").stat().st_mode) == 0o600
    server = spawn(valkey.command(), log=tmp_path / "log", env=child_environment())
    try:
        wait_until(valkey.ready, server, name="Valkey", log=tmp_path / "log")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=valkey.port, retry=Retry(NoBackoff(), 0)).ping()
        assert not Valkey(tmp_path / "valkey", password="wrong", port=valkey.port).ready()
    finally:
        assert stop(server, signum=signal.SIGTERM, seconds=5)
    assert not valkey.ready()


@pytest.mark.e2e
def test_postgresql_keeps_its_data_over_a_kill_and_a_stale_lock_file(server_home):
    postgres = PostgreSQL(server_home)
    log = server_home.parent / "log"
    server = start(postgres, log)
    with connect(postgres.url) as connection, connection.cursor() as cursor:
        cursor.execute("create table deal (id int); insert into deal values (7)")
    connection.close()
    server.send_signal(signal.SIGKILL)
    server.wait()
    assert (postgres.data / "postmaster.pid").exists()
    server = start(postgres, log)
    try:
        with connect(postgres.url) as connection, connection.cursor() as cursor:
            cursor.execute("select id from deal")
            assert cursor.fetchall() == [(7,)]
        connection.close()
    finally:
        assert stop(server, signum=signal.SIGINT, seconds=POSTGRES_SECONDS)


@pytest.mark.e2e
def test_an_interrupted_initialisation_is_made_again(server_home):
    postgres = PostgreSQL(server_home)
    postgres.place()
    draft = server_home / "data.new"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("16")
    server = start(postgres, server_home.parent / "log")
    assert stop(server, signum=signal.SIGINT, seconds=POSTGRES_SECONDS)
    assert not draft.exists()


@pytest.fixture
def server_home(short_place):
    return short_place / "pg"


@pytest.fixture
def short_place():
    """A directory the server's user may walk into; tmp_path lies under a 0700 one."""
    place = Path(tempfile.mkdtemp(prefix="algo-test-"))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place)


def start(postgres: PostgreSQL, log: Path):
    postgres.place()
    postgres.prepare(log)
    server = spawn(postgres.command(), log=log, env=child_environment(), death_signal=signal.SIGINT)
    wait_until(postgres.ready, server, name="PostgreSQL", log=log)
    return server


def test_a_long_path_moves_the_sockets_to_a_short_one_and_takes_them_away_again(tmp_path):
    postgres = PostgreSQL(tmp_path / ("long" * 30) / "pg")
    postgres.place()
    sockets = postgres.sockets
    assert len(str(sockets)) < 80
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert socket_directory(postgres.url) == sockets
    postgres.forget()
    assert not sockets.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_database_of_another_user_is_refused_with_a_sentence(tmp_path):
    home = tmp_path / "pg"
    home.mkdir()
    os.chown(home, 4321, 4321)
    with pytest.raises(LauncherError, match="belongs to another user"):
        PostgreSQL(home).place()


def test_a_server_named_in_the_environment_is_not_started_a_second_time(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://elsewhere/db")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    with throw_away_servers() as urls:
        assert urls == {}


def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path):
    log = tmp_path / "log"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        valkey = Valkey(tmp_path / "valkey", password="x", port=taken.getsockname()[1])
        valkey.prepare()
        server = spawn(valkey.command(), log=log, env=child_environment())
        with pytest.raises(LauncherError, match=r"(?s)Valkey did not start.*already in use"):
            wait_until(lambda: False, server, name="Valkey", log=log)
