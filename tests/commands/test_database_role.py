"""The platform works under a role that can neither change its tables nor what the audit log says."""

from __future__ import annotations

import io
from collections.abc import Iterator

import psycopg2
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import ProgrammingError, connection

from algo import exchanges, tasks
from algo.models import AuditRecord, OrderEvent
from algo.services.audit import PLATFORM, audit_record
from algo.services.optuna_studies import open_study, study_delete
from algo_trade.celery import app
from providers.clock import AnchoredClock
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)
ROLE = "algo_app_of_tests"


def make_role(role: str = ROLE) -> str:
    out = io.StringIO()
    call_command("database_role", role=role, stdout=out)
    return out.getvalue()


def test_a_password_may_come_from_a_file_and_one_that_cannot_be_read_changes_nothing(owner, monkeypatch, tmp_path):
    file = tmp_path / "password"
    monkeypatch.delenv("APP_ROLE_PASSWORD")
    monkeypatch.setenv("APP_ROLE_PASSWORD_FILE", str(file))
    with pytest.raises(CommandError, match="cannot be read: No such file or directory"):
        make_role()
    file.write_text("another password of the tests\n")
    assert ROLE in make_role()


def as_user(name: str | None) -> None:
    connection.close()
    connection.settings_dict["USER"] = name


@pytest.fixture
def owner(monkeypatch) -> Iterator[str]:
    """Who owns the tables. Afterwards the role is gone."""
    monkeypatch.setenv("APP_ROLE_PASSWORD", "a password for the tests")
    name = connection.settings_dict["USER"]
    yield name
    as_user(name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE])
        if cursor.fetchone():
            cursor.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


@pytest.fixture
def app_role(owner) -> str:
    make_role()
    as_user(ROLE)
    return ROLE


def refused(statement: str) -> str:
    with pytest.raises(ProgrammingError) as error, connection.cursor() as cursor:
        cursor.execute(statement)
    assert isinstance(error.value.__cause__, psycopg2.errors.InsufficientPrivilege), error.value
    return str(error.value)


def test_it_is_no_superuser_and_makes_nothing(app_role):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles "
            "WHERE rolname = current_user"
        )
        assert cursor.fetchone() == (ROLE, False, False, False, False, False)
    for statement in (
        "CREATE TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE TABLE optuna.mine (id int)",
        "DROP TABLE algo_deal CASCADE",
        "ALTER TABLE algo_order ADD COLUMN mine int",
        "ALTER TABLE algo_auditrecord DISABLE TRIGGER ALL",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE mine",
        "TRUNCATE algo_fill",
        "SET session_replication_role = replica",
        "COPY algo_account TO PROGRAM 'cat'",
        "SELECT pg_read_file('PG_VERSION')",
        "DELETE FROM django_migrations",
    ):
        refused(statement)


def test_it_writes_the_audit_log_and_changes_nothing_in_it(app_role):
    audit_record("kill_switch.turn", by=PLATFORM, subject=None, at=NOW)
    for statement in (
        "UPDATE algo_auditrecord SET reason = 'somebody else'",
        "DELETE FROM algo_auditrecord",
        "SET algo.may_erase_history = on; TRUNCATE algo_auditrecord",
    ):
        assert "permission denied for table algo_auditrecord" in refused(statement)
    assert AuditRecord.objects.count() == 1


def test_every_task_of_beat_works_under_it(app_role, settings, monkeypatch):
    monkeypatch.setattr(exchanges, "CLOCK", AnchoredClock())
    deal = make.make_closed_deal(make.make_config(status="stopped"))  # no exchange is to be asked
    make.make_order_event(make.make_order(deal))
    make.make_channel(make.make_trader(), target="https://example.org/x", secret="s")
    assert OrderEvent.objects.count() == 1
    names = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert len(names) >= 12
    app.conf.task_always_eager = True
    try:
        for name in sorted(names - {"algo.tasks.worker_alive"}):
            app.tasks[name].run()
    finally:
        app.conf.task_always_eager = False
    tasks.worker_alive("orders")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == (ROLE,)


def test_a_search_for_parameters_works_under_it_without_making_tables(app_role):
    with open_study("of the tests", directions=["maximize"], seed=1) as study:
        study.tell(study.ask(), 1.0)
    study_delete("of the tests")


def test_a_table_that_the_owner_makes_later_is_readable(app_role, owner):
    as_user(owner)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE later (id int)")
    try:
        as_user(ROLE)
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO later VALUES (1)")
    finally:
        as_user(owner)
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE later")


def test_it_is_safe_to_repeat_and_without_a_password_keeps_the_one_it_has(owner, monkeypatch):
    make_role()
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [ROLE])
        (before,) = cursor.fetchone()
        monkeypatch.delenv("APP_ROLE_PASSWORD")
        assert "no more: name it in DATABASE_URL" in make_role()
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [ROLE])
        assert cursor.fetchone() == (before,)
    assert before.startswith("SCRAM-SHA-256$")


def test_what_cannot_be_is_refused_with_what_to_do(owner, monkeypatch):
    with pytest.raises(CommandError, match="owns the tables: give the platform a role of another name"):
        make_role(owner)
    monkeypatch.delenv("APP_ROLE_PASSWORD")
    with pytest.raises(CommandError, match="set APP_ROLE_PASSWORD"):
        make_role()
