from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.signals import pre_migrate

pytestmark = pytest.mark.django_db


def timeouts() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')")
        return list(cursor.fetchone())


def test_a_migration_may_pause_in_its_transaction_and_nothing_else_may():
    seen = []

    def look(**_: object) -> None:
        seen.append(timeouts())

    pre_migrate.connect(look)
    try:
        call_command("migrate", verbosity=0)
    finally:
        pre_migrate.disconnect(look)
    assert seen
    assert all(each == ["0", "4s"] for each in seen)
    assert timeouts() == ["10s", "4s"]
