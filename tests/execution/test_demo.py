"""The commands behind ./run's demonstration."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from algo.management.commands import demo_status, seed_demo
from algo.models import Account, StrategyConfig
from providers.errors import Unavailable
from tests.factories import make_account, make_fill, make_market, make_order, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def paper(monkeypatch, settings):
    settings.EXCHANGE_ENVIRONMENT = "paper"
    settings.WALLEX_API_KEY, settings.NOBITEX_API_KEY = "7|paperWALLEXkey1", "ab" * 20
    monkeypatch.setattr(seed_demo, "markets_refresh", lambda provider, now: 0)
    for symbol in ("BTCUSDT", "ETHUSDT", "DOGEUSDT", "BTCIRT", "ETHIRT"):
        make_market(symbol, provider="nobitex")
        if symbol.endswith("USDT"):
            make_market(symbol, provider="wallex")


def seed() -> dict[str, Any]:
    out = StringIO()
    call_command("seed_demo", stdout=out)
    return json.loads(out.getvalue())


def test_the_demonstration_is_seeded_once_and_its_password_told_once(paper):
    first, second = seed(), seed()
    assert first["admin_password"] and first["api_token"]
    assert (second["admin_password"], second["api_token"]) == (None, None)
    assert first["strategies"] == second["strategies"]
    assert StrategyConfig.objects.filter(status="running").count() == 5
    assert set(Account.objects.values_list("name", flat=True)) == {"paper wallex", "paper nobitex"}
    assert get_user_model().objects.get(username="admin").check_password(first["admin_password"])


def test_a_failure_half_way_leaves_no_admin_whose_password_nobody_knows(paper, monkeypatch):
    def fails(self: Any, *args: Any) -> str:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(seed_demo.Command, "_strategy", fails)
    with pytest.raises(RuntimeError):
        seed()
    assert not get_user_model().objects.filter(username="admin").exists()


def test_strategies_are_checked_after_the_commit_and_a_check_that_breaks_off_keeps_no_password_back(paper, monkeypatch):
    inside = []

    def breaks_off(config: Any, now: Any) -> None:
        inside.append(bool(connection.savepoint_ids))
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(seed_demo, "strategy_check_current", breaks_off)
    answer = seed()
    assert inside == [False] * 5
    assert answer["admin_password"]
    assert len(answer["warnings"]) == 5
    assert answer["warnings"][0].endswith("could not be checked yet: server closed the connection")


def test_an_exchange_that_does_not_answer_is_a_warning(paper, monkeypatch):
    def down(provider: Any, now: Any) -> int:
        raise Unavailable("connection refused")

    monkeypatch.setattr(seed_demo, "markets_refresh", down)
    assert ["connection refused" in warning for warning in seed()["warnings"]] == [True, True]


def test_at_a_real_exchange_nothing_trades_by_itself(paper, settings):
    settings.EXCHANGE_ENVIRONMENT = "live"
    assert "strategies" not in seed()
    assert not StrategyConfig.objects.exists()


def test_the_status_compares_the_demo_accounts_only(monkeypatch):
    nothing = {"deposits": {}, "balances": {}, "orders": []}
    monkeypatch.setattr(demo_status.Command, "_truth", lambda self: {"venues": {"wallex": nothing}})
    owner = make_user()
    make_account(name="paper wallex", environment="paper", owner=owner)
    make_fill(make_order(status="FILLED", exchange_order_id="x1"))  # on a paper account with a wallet of its own
    out = StringIO()
    call_command("demo_status", "--json", stdout=out)
    status = json.loads(out.getvalue())
    assert (status["ledger_difference"], status["fills"]) == ("0", 1)


def test_without_a_paper_exchange_the_status_says_what_to_do(settings):
    settings.PAPER_URL = ""
    with pytest.raises(CommandError, match=r"Start \./run first"):
        call_command("demo_status")
