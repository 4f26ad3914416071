"""The audit log stays as it was written, and outlives what it names."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction

from algo.models import AuditRecord, Door
from algo.services.audit import PLATFORM, SHELL, Actor, audit_record
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def refused(statement: str) -> str:
    with pytest.raises(IntegrityError) as error, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    return str(error.value)


def test_what_it_says_cannot_be_changed_removed_or_emptied():
    audit_record("kill_switch.turn", by=PLATFORM, subject=None, at=NOW)
    for statement in (
        "UPDATE algo_auditrecord SET reason = 'it was somebody else'",
        "DELETE FROM algo_auditrecord",
        "SET LOCAL algo.may_erase_history = off; TRUNCATE algo_auditrecord",
    ):
        assert "what the audit log says stays" in refused(statement)
    assert AuditRecord.objects.get().reason == ""


def test_a_record_tells_who_did_what_to_what_of_which_account():
    trader, account = make.make_trader("sara"), make.make_account(name="main")
    config = make.make_config(account=account, name="demo")
    audit_record(
        "strategy.start", by=Actor(trader, Door.API), subject=config, at=NOW, reason="new rules", details={"from": NOW}
    )
    record = AuditRecord.objects.get()
    assert (record.username, record.user, record.door, record.act) == ("sara", trader, "api", "strategy.start")
    assert (record.subject_kind, record.subject_id, record.subject_name) == ("strategyconfig", str(config.pk), "demo")
    assert (record.account, record.reason, record.at) == (account, "new rules", NOW)
    assert record.details == {"from": "2026-11-02T10:00:00Z"}


def test_it_outlives_the_user_and_the_account_it_names():
    trader = make.make_trader("sara")
    account = make.make_account(name="gone", owner=make.make_trader())
    audit_record("account.pause", by=make.by(trader), subject=account, at=NOW)
    account.delete()
    trader.delete()
    record = AuditRecord.objects.select_related("user", "account").get()
    assert (record.username, record.subject_name) == ("sara", "gone")
    assert (record.user, record.account) == (None, None)


def test_nobody_acts_through_a_page_without_a_name():
    assert (SHELL.name, PLATFORM.name) == ("the shell", "the platform")
    with pytest.raises(ValueError, match="name the user"):
        Actor(None, Door.API)
