"""`probe_account`: reads by default, asks twice before real money, and says loudly what it could not clean up."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management.base import CommandError

from algo import exchanges
from algo.execution import probe
from algo.execution.probe import OrdersProbed, Tried
from algo.models import Account, AuditRecord, ProbeOrder
from providers.clock import AnchoredClock
from providers.types import OrderType
from tests.execution.bench import NoBudget
from tests.factories import make_account

KEYS = {"wallex": "wallex_key", "nobitex": "nobitex_token"}
PROVIDERS = pytest.mark.parametrize("provider", ["wallex", "nobitex"])


@pytest.fixture
def account(db, paper_exchange, monkeypatch):
    """Makes an account of the paper exchange that was never probed."""
    monkeypatch.setattr(exchanges, "CLOCK", AnchoredClock())
    monkeypatch.setattr(probe, "PAUSE", 0.01)
    # the real limits would have every test wait for the one before it
    monkeypatch.setattr(exchanges, "share_budgets", lambda budget_of: None)
    monkeypatch.setattr(exchanges, "_budget_of", lambda name, url, limits: NoBudget())
    monkeypatch.setattr(exchanges, "_budgets", {})
    monkeypatch.setattr(exchanges, "_clients", {})

    def make(provider: str = "wallex", **fields: Any) -> Account:
        key = {"api_key": paper_exchange[KEYS[provider]]}
        return make_account(name="main", provider=provider, **({**key, "capabilities": {}} | fields))

    return make


@PROVIDERS
def test_it_reads_and_changes_nothing(run, account, provider):
    row = account(provider)
    text = " ".join(run("probe_account", "main").split())
    for words in (
        "balance USDT",
        "fees in USDT",
        "protection",
        "as documented, not probed",
        "Not known: whether stops",
    ):
        assert words in text
    assert row.api_key() not in text
    assert not ProbeOrder.objects.exists()
    row.refresh_from_db()
    assert (row.capabilities, row.capabilities_probed_at) == ({}, None)


@PROVIDERS
def test_json_is_for_machines(run, account, provider):
    account(provider)
    found = json.loads(run("probe_account", "main", "--json"))
    assert found["balances"]["USDT"] == {"total": "1000", "locked": "0"}
    assert abs(found["clock_difference_seconds"]) < 5
    assert found["protection_mode"] == ("NATIVE_OCO" if provider == "nobitex" else "LOCKING_STOPS")
    assert (found["errors"], found["orders"], found["capabilities_probed_at"]) == ([], None, None)


@PROVIDERS
def test_orders_finds_out_and_stores_what_it_found(run, account, provider):
    row = account(provider)
    found = json.loads(run("probe_account", "main", "--orders", "--symbol", "btcusdt", "--json"))
    assert [each["works"] for each in found["orders"]["tried"]] == [True, True]
    assert found["orders"]["left_at_the_exchange"] == []
    assert [text for text in found["unknown"] if "stop" in text] == [
        "whether a stop that is reached triggers: no probe can show that"
    ]
    assert found["balances"]["USDT"]["locked"] == "0"
    row.refresh_from_db()
    assert row.capabilities["stop_market"] is True
    assert row.capabilities_probed_at is not None
    assert list(ProbeOrder.objects.values_list("outcome", flat=True)) == ["removed", "removed"]
    assert "[probed]" in run("probe_account", "main")
    records = AuditRecord.objects.values_list("act", "door", "account")
    assert list(records) == [("account.probe_orders", "shell", row.pk)]  # the look that orders nothing leaves none


def test_real_money_wants_to_be_meant(run, account, settings):
    settings.EXCHANGE_ENVIRONMENT = "live"
    account(environment="live")
    with pytest.raises(CommandError, match="--yes-real-money"):
        run("probe_account", "main", "--orders")
    assert not ProbeOrder.objects.exists()


def test_the_key_of_another_environment_is_sent_nowhere(run, account):
    account(environment="live")
    with pytest.raises(CommandError, match="its key was not sent anywhere"):
        run("probe_account", "main")


def test_an_unknown_name_is_told_the_known_ones(run, account):
    account()
    with pytest.raises(CommandError, match="Known are: main"):
        run("probe_account", "nobody")


@PROVIDERS
def test_a_wrong_key_stops_the_account_and_says_what_to_do(run, account, provider):
    row = account(provider, api_key="98765|" + "z" * 40 if provider == "wallex" else "z" * 40)
    with pytest.raises(CommandError, match="Make a new key"):
        run("probe_account", "main")
    row.refresh_from_db()
    assert row.state == "stopped"


def test_a_clock_far_off_is_an_error_and_no_orders_are_tried(run, account, monkeypatch):
    row = account()
    client = exchanges.account_provider(row)
    far = property(lambda self: timedelta(seconds=31))
    monkeypatch.setattr(type(client), "clock_difference", far)
    with pytest.raises(CommandError, match="31 s behind the exchange's"):
        run("probe_account", "main", "--orders")
    assert not ProbeOrder.objects.exists()


def test_what_is_left_at_the_exchange_is_an_error(run, account, monkeypatch, capsys):
    account()
    sentence = "Cancel P1X in the exchange's panel."
    tried = (Tried(OrderType.STOP_MARKET, left=sentence),)
    probed = OrdersProbed("BTCUSDT", tried, None, (sentence,))
    monkeypatch.setattr("algo.management.commands.probe_account.account_probe_orders", lambda *args, **kwargs: probed)
    with pytest.raises(CommandError, match="Cancel P1X"):
        run("probe_account", "main", "--orders")
