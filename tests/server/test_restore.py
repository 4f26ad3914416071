"""The restore drill: the scripts of docker-compose.prod.yml, real clusters, a guardian and an exchange that went on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from django.db import connection

from algo.models import CloseReason, Deal, DealStatus, Fill, Order, Role, Ticket, TicketKind
from algo.selectors.audit import ledger_difference
from launcher.embedded import postgres_binary, throw_away_postgres
from providers.types import OrderStatus
from providers.wallex.client import WallexClient
from tests.execution.processes import GUARDIAN, environment, planned, said, started, wait_for
from tests.factories import make_account
from tests.paper.world import KEY, ROOT, Server, running

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

BACKUP, RESTORE = ROOT / "docker" / "backup.sh", ROOT / "docker" / "restore.sh"
START_SECONDS = 90


@contextmanager
def looking_at(url: str) -> Iterator[None]:
    """Django's models are those of another cluster meanwhile."""
    known = dict(connection.settings_dict)
    connection.close()
    parts = urlsplit(url)
    place = {"HOST": unquote(parts.hostname or ""), "NAME": parts.path[1:], "USER": parts.username, "PASSWORD": ""}
    connection.settings_dict.update(place)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(known)


def libpq(url: str, folder: Path) -> dict[str, str]:
    """The environment of the backup service, for this cluster."""
    parts = urlsplit(url)
    return os.environ | {
        "PATH": f"{Path(postgres_binary('pg_dump')).parent}:{os.environ['PATH']}",
        "PGHOST": unquote(parts.hostname or ""),
        "PGUSER": parts.username or "",
        "PGDATABASE": parts.path[1:],
        "BACKUP_DIR": str(folder),
        "BACKUP_KEEP": "2",
    }


def sh(script: Path, *words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(script), *words], env=env, capture_output=True, text=True, timeout=120, check=False
    )


def migrated(env: dict[str, str]) -> None:
    words = [sys.executable, "manage.py", "migrate", "--noinput", "-v", "0"]
    subprocess.run(words, cwd=ROOT, env=env, check=True, timeout=300)


class Drill:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = WallexClient(f"{server.url}/wallex", api_key=KEY)

    def truth(self, name: str) -> Any:
        return self.server.control("GET", f"/accounts/{name}").json()["venues"]["wallex"]

    def falls(self, symbol: str) -> None:
        """The price goes through the stop."""
        price = self.client.last_price(symbol)
        self.server.move_price(symbol.replace("USDT", "/USDT"), str((price * 93 / 100).quantize(price)))

    def resting_stops(self, name: str) -> list[Any]:
        return [
            order for order in self.truth(name)["orders"] if "STOP" in order["type"] and order["status"] in LIVE_STATES
        ]


LIVE_STATES = ("NEW", "INACTIVE", "OPEN")


def protected(deal: Deal) -> bool:
    deal.refresh_from_db()
    return deal.status == DealStatus.OPEN and deal.protected_at is not None


def closed(deal: Deal) -> bool:
    deal.refresh_from_db()
    return deal.status == DealStatus.CLOSED


@pytest.mark.long
def test_after_a_restore_the_guardian_finds_what_happened_since_and_the_books_agree(tmp_path):
    backups = tmp_path / "backups"
    backups.mkdir()
    with running(tmp_path, "--seed", "5", "--no-rate-limits") as server:
        drill = Drill(server)
        told = server.control(
            "POST", "/accounts", json={"name": "eve", "balances": {"wallex": {"USDT": "10000"}}}
        ).json()
        with throw_away_postgres() as lost:
            dump, kept, ended = _until_the_disk_is_gone(drill, lost, told["wallex_key"], backups, tmp_path)
        assert not Path(unquote(urlsplit(lost).hostname or "")).exists()  # the cluster is destroyed
        with throw_away_postgres() as fresh:
            env = libpq(fresh, backups)
            done = sh(RESTORE, str(dump), env=env)
            assert done.returncode == 0, done.stderr
            again = sh(RESTORE, str(dump), env=env)
            assert again.returncode == 1
            assert "is not empty. Nothing was changed." in again.stderr
            with looking_at(fresh):
                _the_platform_goes_on(drill, fresh, kept, ended, tmp_path)


def _until_the_disk_is_gone(
    drill: Drill, url: str, key_of_eve: str, backups: Path, tmp_path: Path
) -> tuple[Path, int, int]:
    """Two deals are in the backup, one of which ends after it; a third begins after it, on an account of its own."""
    server, folder = drill.server, tmp_path / "before"
    folder.mkdir()
    env = environment(server, DATABASE_URL=url)
    migrated(env)
    with looking_at(url), started(folder, *GUARDIAN, env=env) as guardian:
        kept = planned(server)
        ended = planned(server, "ETHUSDT", "0.1", kept.account)
        eve = make_account(name="eve", api_key=key_of_eve, environment="paper")
        for deal in (kept, ended):
            wait_for(lambda deal=deal: protected(deal), START_SECONDS, "open and protected", folder=folder)

        done = sh(BACKUP, "once", env=libpq(url, backups))
        assert done.returncode == 0, done.stderr
        dump = Path(done.stdout.strip())
        assert sh(BACKUP, "healthy", env=libpq(url, backups)).returncode == 0

        drill.falls("ETHUSDT")
        wait_for(lambda: closed(ended), START_SECONDS, "closed by its stop", folder=folder)
        later = planned(server, "DOGEUSDT", "500", eve, key_of_eve)
        wait_for(lambda: protected(later), START_SECONDS, "open and protected after the backup", folder=folder)
        guardian.kill()
        guardian.wait(10)
    return dump, kept.pk, ended.pk


def _the_platform_goes_on(drill: Drill, url: str, kept_id: int, ended_id: int, tmp_path: Path) -> None:
    kept, ended = Deal.objects.get(pk=kept_id), Deal.objects.get(pk=ended_id)
    assert [kept.status, ended.status] == [DealStatus.OPEN, DealStatus.OPEN]  # so says the backup
    assert Deal.objects.count() == 2
    unprotected = kept.unprotected_seconds
    folder = tmp_path / "after"
    folder.mkdir()
    env = environment(drill.server, DATABASE_URL=url)
    migrated(env)
    alive = tmp_path / "alive"
    with started(folder, *GUARDIAN, "--alive-file", str(alive), env=env):
        wait_for(lambda: closed(ended), START_SECONDS, "it finds the stop that executed", folder=folder)
        assert ended.close_reason == CloseReason.STOP_LOSS
        wait_for(lambda: Ticket.objects.filter(account__name="eve").exists(), START_SECONDS, "a ticket", folder=folder)
        assert protected(kept)
        assert kept.unprotected_seconds == unprotected
        assert len(drill.resting_stops("demo")) == 1
        (stop,) = Order.objects.filter(deal=kept, role=Role.STOP)
        assert stop.status == OrderStatus.OPEN
        assert ledger_difference(kept.account, drill.truth("demo")) == 0
        assert Fill.objects.filter(order__deal=ended).count() >= 2

        # what began after the backup is nobody's here: it is left alone under its stop, and a person is asked
        kinds = set(Ticket.objects.filter(account__name="eve").values_list("kind", flat=True))
        assert TicketKind.UNKNOWN_ORDER in kinds
        assert len(drill.resting_stops("eve")) == 1
        assert not Ticket.objects.exclude(account__name="eve").exists()

        # and the one that goes on is looked after as before
        drill.falls("BTCUSDT")
        wait_for(lambda: closed(kept), START_SECONDS, "closed by its stop", folder=folder)
        assert ledger_difference(kept.account, drill.truth("demo")) == 0
        assert time.time() - alive.stat().st_mtime < 30  # what the container's health check looks at
    assert "Traceback" not in said(folder)


# --- the script itself ------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path) -> dict[str, str]:
    """The environment of the backup service, for the database of this test."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    env = libpq(url, tmp_path)
    parts = urlsplit(url)
    if parts.password:
        (tmp_path / "password").write_text(unquote(parts.password))
        env["PGPASSWORD_FILE"] = str(tmp_path / "password")
    return env | ({"PGPORT": str(parts.port)} if parts.port else {})


def dumps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".dump")


def test_the_newest_backups_are_kept_and_only_its_owner_reads_one(here, tmp_path):
    old = [f"algo_trade-2026010{day}T000000Z.dump" for day in (1, 2, 3)]
    for name in old:
        (tmp_path / name).touch()
    (tmp_path / ".algo_trade-20260104T000000Z.dump.draft").touch()
    done = sh(BACKUP, "once", env=here)
    assert done.returncode == 0, done.stderr
    made = Path(done.stdout.strip())
    assert dumps(tmp_path) == [old[2], made.name]
    assert oct(made.stat().st_mode)[-3:] == "600"
    assert not list(tmp_path.glob(".*.draft"))


def test_a_backup_that_fails_leaves_those_that_are_there_and_no_half_one(here, tmp_path):
    (tmp_path / "algo_trade-20260101T000000Z.dump").touch()
    done = sh(BACKUP, "once", env=here | {"PGDATABASE": "no_such_database"})
    assert done.returncode != 0
    assert dumps(tmp_path) == ["algo_trade-20260101T000000Z.dump"]


def test_a_missing_or_old_backup_is_not_healthy(here, tmp_path):
    assert sh(BACKUP, "healthy", env=here).returncode == 1
    old = tmp_path / "algo_trade-20260101T000000Z.dump"
    old.touch()
    assert sh(BACKUP, "healthy", env=here).returncode == 0
    os.utime(old, (time.time() - 3 * 86400,) * 2)
    assert sh(BACKUP, "healthy", env=here).returncode == 1


def test_the_service_makes_one_at_its_start_and_ends_at_once_when_it_is_told(here, tmp_path):
    service = subprocess.Popen(["sh", str(BACKUP), "every"], env=here, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout is not None
        assert service.stdout.readline().startswith(f"backup: {tmp_path}/algo_trade-")
        service.terminate()
        assert service.wait(10) == 0
    finally:
        service.kill()
        service.wait(10)


def test_a_file_that_is_not_there_changes_nothing(here, tmp_path):
    done = sh(RESTORE, str(tmp_path / "none.dump"), env=here)
    assert (done.returncode, "Nothing was changed." in done.stderr) == (1, True)
