"""What a role may see and do, and that the groups permit exactly that."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser, Group

from algo.models import Halt
from algo.selectors import visible
from algo.selectors.rights import Role, may_administer, may_see, may_trade, role_of, sees_all
from algo.services.audit import audit_record
from algo.services.roles import roles_ensure
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def people():
    """An account, its owner who trades, one who may look at it, one who trades elsewhere, an Admin, and nobody."""
    owner, looker = make.make_trader("owner"), make.make_user("looker", role=Role.VIEWER)
    account = make.make_account(owner=owner, name="main")
    account.viewers.add(looker)
    other = make.make_trader("other")
    make.make_account(owner=other)
    return SimpleNamespace(
        account=account, owner=owner, looker=looker, other=other, admin=make.make_user("a", role=Role.ADMIN)
    )


def test_the_highest_role_counts_and_a_superuser_is_an_admin():
    user = make.make_user(role=Role.VIEWER)
    assert role_of(user) is Role.VIEWER
    both = make.make_user(role=Role.VIEWER)
    both.groups.add(Group.objects.get(name="Trader"))
    assert role_of(both) is Role.TRADER
    assert role_of(make.make_user(is_superuser=True)) is Role.ADMIN
    assert role_of(make.make_user(is_staff=True)) is None
    assert role_of(make.make_user(role=Role.ADMIN, is_active=False)) is None
    assert role_of(AnonymousUser()) is None


def test_an_owner_who_trades_acts_and_who_looks_only_looks(people):
    seen = {name: may_see(getattr(people, name), people.account) for name in ("owner", "looker", "other", "admin")}
    assert seen == {"owner": True, "looker": True, "other": False, "admin": True}
    acts = {name: may_trade(getattr(people, name), people.account) for name in ("owner", "looker", "other", "admin")}
    assert acts == {"owner": True, "looker": False, "other": False, "admin": True}
    assert [sees_all(people.owner), may_administer(people.owner)] == [False, False]
    assert [sees_all(people.admin), may_administer(people.admin)] == [True, True]


def test_a_viewer_who_owns_an_account_sees_it_and_does_not_act(people):
    owner = make.make_user(role=Role.VIEWER)
    account = make.make_account(owner=owner)
    assert may_see(owner, account)
    assert not may_trade(owner, account)


def test_every_kind_of_row_is_seen_with_its_account(people):
    config = make.make_config(account=people.account)
    deal = make.make_deal(config=config)
    fill = make.make_fill(make.make_order(deal))
    rows = [
        people.account, config, deal, fill, fill.order,
        make.make_signal(config), make.make_decision(config), make.make_parity_report(config),
        make.make_order_event(fill.order), make.make_ticket(people.account), make.make_probe_order(people.account),
        make.make_backtest(config=config), Halt.objects.create(config=config),
        audit_record("deal.close", by=make.by(), subject=deal, at=NOW),
    ]  # fmt: skip
    for row in rows:
        assert visible.account_of(row) == people.account, row
        who = [visible.row_seen(getattr(people, name), row) for name in ("owner", "looker", "other", "admin")]
        assert who == [True, True, False, True], row


def test_what_belongs_to_no_account_is_seen_by_everybody_or_by_admins_alone(people):
    market, event = make.make_market(), make.make_outbox_event()
    assert visible.row_seen(people.other, market)
    assert not visible.row_seen(people.other, event)
    assert visible.row_seen(people.admin, event)


def test_a_row_is_seen_once_by_who_owns_and_looks_at_its_account(people):
    people.account.viewers.add(people.owner, people.other)
    make.make_deal(config=make.make_config(account=people.account))
    assert visible.deals_visible(people.owner).count() == 1


def test_the_groups_permit_what_the_roles_may_and_get_it_back():
    def permits(role: Role) -> set[str]:
        return set(Group.objects.get(name=role).permissions.values_list("codename", flat=True))

    viewer, trader, admin = (permits(role) for role in Role)
    assert "view_deal" in viewer
    assert all(name.startswith("view_") for name in viewer if not name.endswith("_notificationchannel"))
    assert "view_outboxevent" not in viewer
    assert {"change_strategyconfig", "add_backtestrun", "change_ticket"} <= trader - viewer
    assert not {"change_systemcontrol", "change_user", "change_group", "view_user", "view_outboxevent"} & trader
    assert {"change_systemcontrol", "change_user", "delete_authtoken", "change_periodictask"} <= admin
    Group.objects.get(name=Role.TRADER).permissions.clear()
    Group.objects.filter(name=Role.VIEWER).delete()
    roles_ensure()
    assert (permits(Role.VIEWER), permits(Role.TRADER)) == (viewer, trader)


def test_an_upgrade_makes_owners_of_accounts_traders_and_nobody_else():
    owner, staff = make.make_user("owner"), make.make_user("staff", is_staff=True)
    make.make_account(owner=owner)
    import_module("algo.migrations.0013_roles_and_audit").make_roles(apps, None)
    assert [role_of(each) for each in (owner, staff)] == [Role.TRADER, None]
