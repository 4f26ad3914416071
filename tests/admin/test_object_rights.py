"""What belongs to another trader is not there, on any page; who may only look changes nothing; Admins keep people."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from algo.admin.base import AdminsOnly, OwnRows
from algo.models import Account, AuditRecord, Deal, Door, Heartbeat, SystemControl
from algo.selectors.rights import Role
from algo.selectors.visible import OF_EVERYBODY
from algo.services.audit import PLATFORM, audit_record
from algo.services.control import kill_switch_set
from algo.services.tokens import token_give
from tests import factories as make
from tests.admin.pages import form_data, said, shown
from tests.factories import NOW

pytestmark = pytest.mark.django_db

MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
OURS = [model for model in MODELS if model._meta.app_label == "algo"]
PEOPLE = [model for model in MODELS if model._meta.app_label != "algo"]


def label(model):
    return model._meta.label_lower


def address(model, page, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def by_people():
    return AuditRecord.objects.exclude(door=Door.PLATFORM)


def signed_in(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def theirs(db):
    """One row of every kind that belongs to the account of somebody else: SECRET stands in each name."""
    account = make.make_account(name="SECRET account", owner=make.make_trader("SECRET-owner"))
    config = make.make_config(account=account, name="SECRET strategy")
    deal = make.make_open_deal(config, signal=make.make_signal(config))
    make.make_fill(make.make_order(deal))
    make.make_decision(config)
    make.make_ticket(account)
    make.make_outbox_event()
    make.make_probe_order(account)
    make.make_optimisation(name="SECRET search", requested_by=account.owner)
    make.make_backtest(config=config)
    make.make_parity_report(config)
    make.make_delivery(channel=make.make_channel(account.owner, name="SECRET channel"))
    external = make.make_config(
        account=account, name="SECRET external", strategy="ExternalSignals", market=make.make_market("ETHUSDT")
    )
    make.make_alert(make.make_inbound_key(external, label="SECRET sender"), alert_id="SECRET alert")
    SystemControl.load()
    Heartbeat.objects.create(name="guardian", at=NOW)
    AuthToken.objects.create(user=account.owner)
    audit_record("deal.close", by=PLATFORM, subject=deal, at=NOW, reason="SECRET reason")
    return config


@pytest.fixture
def trader(theirs):
    """Somebody who trades on an account of their own."""
    user = make.make_trader("trader", is_staff=True)
    make.make_config(account=make.make_account(owner=user, name="mine"), name="my strategy")
    return user


@pytest.mark.parametrize("model", OURS, ids=label)
def test_every_page_of_ours_holds_only_what_one_may_see(model):
    assert isinstance(admin.site._registry[model], OwnRows)


@pytest.mark.parametrize("model", PEOPLE, ids=label)
def test_every_other_page_is_for_admins(model, trader, theirs):
    assert isinstance(admin.site._registry[model], AdminsOnly)
    trader.user_permissions.set(admin.site._registry[model].model._meta.apps.get_model("auth.Permission").objects.all())
    client = signed_in(trader)
    assert client.get(address(model, "changelist")).status_code == 403
    assert client.get(address(model, "add")).status_code == 403


def test_filters_find_what_one_may_see_and_name_nothing_else(trader, theirs):
    """A filter asks for names while one types, and shows the name of what is chosen."""
    make.make_account(owner=trader, name="mine too")
    client, deals = signed_in(trader), {"app_label": "algo", "model_name": "deal"}
    found = client.get(reverse("admin:autocomplete"), deals | {"field_name": "account", "term": ""}).json()["results"]
    assert {each["text"].split(" ")[0] for each in found} == {"mine"}
    assert len(found) == 2
    assert (
        client.get(reverse("admin:autocomplete"), deals | {"field_name": "config", "term": "SEC"}).json()["results"]
        == []
    )
    own = Account.objects.get(name="mine too")
    listed = client.get(address(Deal, "changelist"), {"account__id__exact": own.pk}).content.decode()
    assert f'<option value="{own.pk}" selected>' in " ".join(listed.split()).replace('selected=""', "selected")
    assert "mine too" in listed
    chosen = client.get(address(Deal, "changelist"), {"account__id__exact": theirs.account.pk})
    assert "SECRET" not in chosen.content.decode()


@pytest.mark.parametrize("model", [model for model in OURS if model not in OF_EVERYBODY], ids=label)
def test_what_belongs_to_another_trader_is_not_there(model, trader, theirs):
    client, rows = signed_in(trader), model._default_manager.all()
    rows = rows.exclude(account__owner=trader) if model._meta.model_name == "strategyconfig" else rows
    row = (rows.exclude(owner=trader) if model is Account else rows).first()
    assert row is not None, "the test has no row of this kind"
    listed = client.get(address(model, "changelist"))
    if listed.status_code != 403:
        assert row not in listed.context["cl"].result_list
        assert "SECRET" not in listed.content.decode()  # nor in a filter
    for page in ("change", "history", "delete"):
        answer = client.get(address(model, page, quote(row.pk)))
        assert answer.status_code in (302, 403, 404), page
        assert "SECRET" not in answer.content.decode()
    selected = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    client.post(address(model, "changelist"), selected)
    assert model._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize(
    ("model", "page"), [("account", "kill-switch"), ("strategyconfig", "kill-switch"), ("ticket", "answer"),
                        ("backtestrun", "cancel")]
)  # fmt: skip
def test_what_is_not_there_is_not_acted_on(trader, theirs, model, page):
    kind = next(each for each in OURS if each._meta.model_name == model)
    row = kind.objects.exclude(name="mine").get() if kind is Account else kind.objects.order_by("pk").first()
    answer = signed_in(trader).post(f"/admin/algo/{model}/{row.pk}/{page}/", {"level": "flatten", "reason": "x"})
    assert answer.status_code == 404
    assert not by_people().exists()


def test_neither_the_front_page_nor_the_switches_tell_of_others(trader, theirs, admin_user):
    kill_switch_set("flatten", reason="SECRET reason", by=make.by(admin_user), target=theirs)
    client = signed_in(trader)
    for page in ("/admin/", address(SystemControl, "change", 1), "/admin/algo/backtestrun/start"):
        assert "SECRET" not in client.get(page, follow=True).content.decode()
    assert "Strategies running 1 of 1 Open deals 0" in shown(client.get("/admin/"))


def test_a_form_offers_only_accounts_one_may_act_on(trader, theirs):
    looked_at = make.make_account(name="only looked at")
    looked_at.viewers.add(trader)
    client = signed_in(trader)
    found = client.get(
        "/admin/autocomplete/",
        {"app_label": "algo", "model_name": "strategyconfig", "field_name": "account", "term": ""},
    )
    assert "SECRET" not in found.content.decode()
    page = client.get("/admin/algo/strategyconfig/add/")
    data = form_data(page) | {"name": "new", "market": theirs.market_id, "data_market": theirs.data_market_id}
    for account in (theirs.account, looked_at):
        answer = client.post("/admin/algo/strategyconfig/add/", data | {"account": account.pk})
        assert "account" in answer.context["adminform"].form.errors


@pytest.mark.parametrize("role", [Role.VIEWER, Role.TRADER])
def test_who_may_only_look_at_an_account_reads_and_changes_nothing(theirs, role):
    looker = make.make_user("looker", is_staff=True, role=role)
    theirs.account.viewers.add(looker)
    client = signed_in(looker)
    for model, row in ((Account, theirs.account), (type(theirs), theirs)):
        page = address(model, "change", row.pk)
        assert "SECRET" in shown(client.get(page))
        assert client.post(page, {"name": "x"}).status_code == 403
        for action in ("stop", "pause", "activate", "start", "pause_ordering"):
            client.post(address(model, "changelist"), {"action": action, "_selected_action": [row.pk]})
    theirs.refresh_from_db()
    assert (theirs.status, theirs.ordering_enabled, theirs.account.state) == ("running", True, "active")
    assert not by_people().exists()


def test_who_adds_an_account_owns_it_and_an_admin_says_who_looks(trader):
    client = signed_in(trader)
    data = form_data(client.get("/admin/algo/account/add/"))
    assert "owner" not in data
    typed = {"name": "new", "provider": "wallex", "api_key": "CANARY-own-key-9z9z", "owner": 1, "viewers": [1]}
    client.post("/admin/algo/account/add/", data | typed)
    account = Account.objects.get(name="new")
    assert (account.owner, account.viewers.count()) == (trader, 0)
    record = by_people().get()
    assert (record.act, record.username, record.account, record.door) == ("account.create", "trader", account, "admin")


def test_a_new_key_is_recorded_without_the_key(trader):
    account = Account.objects.get(name="mine")
    client, page = signed_in(trader), f"/admin/algo/account/{account.pk}/change/"
    client.post(page, form_data(client.get(page)) | {"api_key": "CANARY-very-secret-9z9z"})
    record = by_people().get()
    assert (record.act, record.details["key"]) == ("account.key", "…9z9z")
    assert "CANARY" not in str(record.details)


@pytest.fixture
def chief(db):
    """An Admin who is no superuser."""
    return make.make_user("chief", is_staff=True, role=Role.ADMIN)


def test_an_admin_gives_roles_and_it_is_recorded(chief):
    user, client = make.make_user("sara"), signed_in(chief)
    page = address(User, "change", user.pk)
    data = form_data(client.get(page)) | {"groups": [Group.objects.get(name="Trader").pk]}
    data |= {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "is_superuser": "on"}
    answer = client.post(page, data, follow=True)
    assert any("was changed" in each for each in said(answer)), answer.context["adminform"].form.errors
    user.refresh_from_db()
    assert (list(user.groups.values_list("name", flat=True)), user.is_superuser) == (["Trader"], False)
    record = by_people().get()
    assert (record.act, record.username, record.subject_name) == ("user.change", "chief", "sara")
    assert record.details["roles"] == ["Trader"]


def test_an_admin_neither_becomes_nor_removes_a_superuser(chief, admin_user):
    client = signed_in(chief)
    assert client.post(address(User, "change", admin_user.pk), {"username": "x"}).status_code == 403
    assert client.get(f"/admin/auth/user/{admin_user.pk}/password/").status_code == 403
    assert client.post(address(User, "delete", admin_user.pk), {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [admin_user.pk], "post": "yes"}
    client.post(address(User, "changelist"), selected)
    assert User.objects.filter(username="admin", is_superuser=True).exists()


def test_the_roles_of_the_platform_are_not_edited(browser):
    role = Group.objects.get(name="Viewer")
    assert browser.post(address(Group, "change", role.pk), {"name": "x"}).status_code == 403
    assert browser.post(address(Group, "delete", role.pk), {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [role.pk], "post": "yes"}
    browser.post(address(Group, "changelist"), selected)
    assert Group.objects.filter(name="Viewer").exists()


def test_the_page_of_tokens_tells_what_each_may_do_and_never_the_token(browser, trader):
    words = {"by": make.by(trader), "now": timezone.now(), "at": NOW}
    grant, text = token_give(trader, scope="read", label="wall screen", **words)
    token_give(trader, label="order bot", **words)
    everything = shown(browser.get(address(AuthToken, "changelist")))
    assert "trader Read and trade order bot" in everything
    page = shown(browser.get(address(AuthToken, "changelist"), {"grant__scope__exact": "read"}))
    assert "trader Read wall screen" in page
    assert "order bot" not in page
    one = shown(browser.get(address(AuthToken, "change", quote(grant.token_id))))
    assert "wall screen" in one
    assert text not in one


def test_a_revoked_token_is_recorded(browser, trader):
    token = AuthToken.objects.create(user=trader)[0]
    browser.post(address(AuthToken, "delete", quote(token.pk)), {"post": "yes"})
    assert not AuthToken.objects.filter(user=trader).exists()
    record = by_people().get()
    assert (record.act, record.username, record.subject_name) == ("token.revoke", "admin", "trader")
    assert token.digest not in str(record.details)
