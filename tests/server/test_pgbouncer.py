"""The web application through a real PgBouncer that shares sessions, by the script of docker-compose.prod.yml."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import requests
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from algo.execution.locks import account_lock
from launcher.embedded import NOBODY, as_unprivileged
from launcher.processes import free_port, spawn, stop
from tests.execution.processes import servers_only, started, wait_for
from tests.factories import make_account
from tests.paper.world import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

PASSWORD = "of0the0pool"
PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(
    PGBOUNCER is None,
    reason="PgBouncer is not installed here: nothing is known of the pool (apt-get install pgbouncer)",
)
POOLED_SESSIONS = 15 + 5  # docker/pgbouncer.sh: default and reserve


@contextmanager
def pool() -> Iterator[str]:
    """The address of a pool in front of the database of this test."""
    url = urlsplit(os.environ["DATABASE_URL"])
    folder, port = Path(tempfile.mkdtemp(prefix="algo-pool-")), free_port()
    (folder / "password").write_text(PASSWORD)
    if os.geteuid() == 0:  # it does not run as root
        for path in (folder, folder / "password"):
            os.chown(path, NOBODY, NOBODY)
    env = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin",
        "PGHOST": unquote(url.hostname or ""),
        "PGPORT": str(url.port or 5432),
        "PGUSER": url.username or "postgres",
        "PGDATABASE": connection.settings_dict["NAME"],
        "PGPASSWORD_FILE": str(folder / "password"),
        "POOL_ADDRESS": "127.0.0.1",
        "POOL_PORT": str(port),
        "CONF_DIR": str(folder),
    }
    words = as_unprivileged(["sh", str(ROOT / "docker" / "pgbouncer.sh")], death_signal="TERM", reachable=False)
    process = spawn(words, log=folder / "log", env=env)
    try:
        address = f"postgres://{env['PGUSER']}:{PASSWORD}@127.0.0.1:{port}/{env['PGDATABASE']}"
        wait_for(lambda: "process up" in (folder / "log").read_text(), 20, "the pool listens", folder=folder)
        yield address
    finally:
        stop(process, signum=signal.SIGINT, seconds=10)
        shutil.rmtree(folder, ignore_errors=True)


def python(code: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


BOUNDS = """
import json
from django.db import connection
with connection.cursor() as cursor:
    told = {}
    for name in ("lock_timeout", "idle_in_transaction_session_timeout", "TimeZone"):
        cursor.execute(f"SHOW {name}")
        told[name] = cursor.fetchone()[0]
print(json.dumps(told))
"""


@needs_pgbouncer
def test_a_shared_session_has_the_bounds_of_an_own_one():
    with pool() as url:
        shared = python(BOUNDS, servers_only(DATABASE_URL=url, DATABASE_POOLED="true"))
        assert shared.returncode == 0, shared.stderr
        own = python(BOUNDS, servers_only())
        assert json.loads(shared.stdout) == json.loads(own.stdout)
        assert json.loads(own.stdout)["lock_timeout"] == "4s"


@needs_pgbouncer
def test_who_sends_options_is_refused_and_not_ignored():
    with pool() as url:
        told = python(BOUNDS, servers_only(DATABASE_URL=url))
        assert told.returncode != 0
        assert "unsupported startup parameter: options" in told.stderr


@needs_pgbouncer
def test_the_web_application_answers_many_at_once_over_few_sessions(tmp_path):
    with pool() as url:
        port = free_port()
        env = servers_only(DATABASE_URL=url, DATABASE_POOLED="true", ALLOWED_HOSTS="127.0.0.1")
        words = ("-m", "gunicorn", "algo_trade.wsgi", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread")
        more = ("--workers", "2", "--threads", "16", "--no-control-socket")
        with started(tmp_path, *words, *more, env=env):
            address = f"http://127.0.0.1:{port}/admin/login/"
            wait_for(lambda: _answers(address), 90, "the web application answers", folder=tmp_path)
            with ThreadPoolExecutor(32) as askers:
                codes = set(askers.map(lambda _: _answers(f"http://127.0.0.1:{port}/api/v1/system/health"), range(96)))
            assert codes == {200}
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid()"
                )
                assert 0 < cursor.fetchone()[0] <= POOLED_SESSIONS


def _answers(address: str) -> int:
    try:
        return requests.get(address, timeout=30).status_code
    except requests.ConnectionError:
        return 0


def test_no_account_is_taken_through_shared_sessions(settings):
    account = make_account()
    settings.DATABASE_POOLED = True
    with (
        pytest.raises(ImproperlyConfigured, match="Give this process PostgreSQL's own address"),
        account_lock(account.pk),
    ):
        pass
