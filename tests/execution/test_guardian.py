"""The guardian as a process of its own: PostgreSQL and the exchange are all it needs."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import OperationalError

from algo.execution.ledger_rows import order_plan
from algo.management.commands import run_guardian
from algo.models import Account, CloseReason, Deal, DealStatus, Heartbeat, Order, Role
from algo.selectors.audit import ledger_difference
from algo.services.markets import markets_refresh
from providers.types import OrderType, Side
from providers.wallex.client import WallexClient
from tests.execution.processes import environment, restarted, said, seconds_to_stop, started, wait_for
from tests.factories import make_account, make_config, make_deal
from tests.paper.world import KEY, ROOT, Server, running

DEAD_REDIS = "redis://127.0.0.1:1/0"
GUARDIAN = ("manage.py", "run_guardian")


@pytest.fixture
def server(tmp_path):
    with running(tmp_path, "--seed", "4", "--no-rate-limits") as server:
        yield server


def planned(server: Server) -> Deal:
    """A deal at Wallex whose stop and target are 5 % away: nothing but the test moves the price that far."""
    from algo.models import Market

    client = WallexClient(f"{server.url}/wallex", api_key=KEY)
    markets_refresh(client, now=datetime.now(UTC))
    market = Market.objects.get(symbol="BTCUSDT", provider="wallex")
    account = make_account(api_key=KEY, environment="paper")
    price = client.last_price("BTCUSDT")
    deal = make_deal(
        make_config(account=account, market=market, data_market=market),
        rules={"stop_loss_percent": "5", "take_profit_percent": "5"},
        planned_quantity=Decimal("0.01"),
        planned_price=price,
        initial_stop_price=price * Decimal("0.95"),
        stop_price=price * Decimal("0.95"),
        target_price=price * Decimal("1.05"),
        created_at=datetime.now(UTC),
    )
    order_plan(
        deal,
        role=Role.ENTRY,
        leg=1,
        side=Side.BUY,
        kind=OrderType.MARKET,
        quantity=Decimal("0.01"),
        price=None,
        stop_price=None,
        reason="test",
        now=datetime.now(UTC),
    )
    return deal


def test_it_loads_no_redis_client():
    """The Celery application is declared with the project; what could talk to a broker is never loaded."""
    code = (
        "import sys, django; django.setup()\n"
        "from algo.management.commands import run_guardian\n"
        "found = [name for name in sys.modules if name.split('.')[0] == 'redis' or name == 'kombu.transport.redis']\n"
        "sys.exit(f'imported: {found[:5]}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.django_db(transaction=True)
def test_without_redis_it_protects_a_deal_through_a_restart_of_the_exchange_and_stops_at_once(server, tmp_path):
    deal = planned(server)
    env = environment(server, REDIS_URL=DEAD_REDIS)

    def status(*statuses: str) -> bool:
        deal.refresh_from_db()
        return deal.status in statuses

    with started(tmp_path, *GUARDIAN, env=env) as guardian:
        wait_for(lambda: status("OPEN") and deal.protected_at, 20, "open and protected", folder=tmp_path)
        assert Order.objects.get(deal=deal, role=Role.STOP).status == "OPEN"
        wait_for(lambda: Heartbeat.objects.filter(name="guardian").exists(), 8, "heartbeat", folder=tmp_path)

        restarted(server)
        price = WallexClient(f"{server.url}/wallex", api_key=KEY).last_price("BTCUSDT")
        server.move_price("BTC/USDT", str((price * Decimal("0.93")).quantize(Decimal("0.01"))))
        wait_for(lambda: status("CLOSED"), 25, "closed by its stop", folder=tmp_path)
        assert deal.close_reason == CloseReason.STOP_LOSS
        truth = server.control("GET", "/accounts/demo").json()["venues"]["wallex"]
        assert ledger_difference(deal.account, truth) == 0
        assert guardian.poll() is None, said(tmp_path)
        assert seconds_to_stop(guardian) < 3
    assert "Traceback" not in said(tmp_path)


@pytest.mark.django_db(transaction=True)
def test_two_guardians_at_once_do_no_harm(server, tmp_path):
    deal = planned(server)
    env = environment(server, REDIS_URL=DEAD_REDIS)
    (tmp_path / "two").mkdir()
    with started(tmp_path, *GUARDIAN, env=env), started(tmp_path / "two", *GUARDIAN, env=env):

        def is_protected() -> bool:
            deal.refresh_from_db()
            return deal.status == DealStatus.OPEN and deal.protected_at is not None

        wait_for(is_protected, 20, "open and protected", folder=tmp_path)
        assert Order.objects.filter(deal=deal).count() == 2
        truth = server.control("GET", "/accounts/demo").json()["venues"]["wallex"]
        assert ledger_difference(deal.account, truth) == 0


# --- one pass ------------------------------------------------------------------------------------------------------


@pytest.fixture
def visited(monkeypatch) -> list[str]:
    """Names of the accounts that were looked after; an account called `broken` raises what a test puts into it."""
    names: list[str] = []
    monkeypatch.setattr(run_guardian, "account_provider", lambda account: None)
    monkeypatch.setattr(run_guardian, "look_after", lambda account, *args, **more: names.append(account.name))
    return names


@pytest.mark.django_db
@pytest.mark.parametrize("error", [ValueError("a defect"), LookupError("another")])
def test_one_accounts_trouble_does_not_keep_the_others_from_being_looked_after(visited, monkeypatch, error):
    for name in ("a", "broken", "c"):
        make_account(name=name)

    def advance(account: Account, *args: object, **more: object) -> None:
        if account.name == "broken":
            raise error
        visited.append(account.name)

    monkeypatch.setattr(run_guardian, "look_after", advance)
    run_guardian.Guardian().tick()
    assert visited == ["a", "c"]


@pytest.mark.django_db
def test_it_outlives_a_dead_database(monkeypatch, visited):
    def dead() -> None:
        raise OperationalError("server closed the connection")

    guardian = run_guardian.Guardian()
    monkeypatch.setattr(guardian, "_due", dead)
    monkeypatch.setattr(run_guardian, "close_old_connections", lambda: visited.append("closed"))
    guardian.tick()
    assert visited == ["closed"]


@pytest.mark.django_db
def test_the_first_pass_looks_at_every_account_and_reconciles_later_ones_only_at_what_is_due(visited, monkeypatch):
    reconciled: list[bool] = []
    monkeypatch.setattr(
        run_guardian, "look_after", lambda account, *args, reconcile_now, **more: reconciled.append(reconcile_now)
    )
    make_account(reconciled_at=run_guardian.CLOCK.now())
    make_account(state="stopped")
    guardian = run_guardian.Guardian()
    guardian.tick()
    guardian.tick()
    assert reconciled == [True]


@pytest.mark.django_db
def test_told_to_stop_it_leaves_the_rest_to_its_successor(visited):
    for name in ("a", "b"):
        make_account(name=name)
    guardian = run_guardian.Guardian()
    guardian._stopping.set()
    guardian.tick()
    assert visited == []
