"""A signal from outside through real processes: web server, broker, Celery worker, guardian, PostgreSQL, the paper
exchange, and a sender that knows nothing but an address and a secret."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from algo.models import Deal, DealStatus, InboundAlert, InboundKey, Market, Order, Role, Signal
from algo.selectors.audit import ledger_difference
from algo.services.inbound import inbound_key_make, inbound_key_switch
from algo.services.markets import markets_refresh
from algo.standard_webhooks import ID, SIGNATURE, TIMESTAMP, signature
from algo.tasks import decide_signals, sweep_accounts
from launcher.processes import free_port
from providers.wallex.client import WallexClient
from tests import factories as make
from tests.execution.processes import GUARDIAN, environment, said, started, wait_for
from tests.factories import by
from tests.paper.world import KEY, Server, running
from tests.test_end_to_end import WORKER

pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
RULES = {
    "stop_loss_percent": "5",
    "take_profit_percent": "10",
    "largest_stop_loss_percent": "6",
    "max_position_size_percent": "5",
    "max_spread_percent": "5",
    "max_basis_percent": "5",
}
FORGED = "whsec_bm90IHRoZSBzZWNyZXQ="


def web_words(port: int) -> tuple[str, ...]:
    """As the launcher starts it."""
    place = ("--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "4", "--no-control-socket")
    return ("-m", "gunicorn", "algo_trade.wsgi", *place)


def keyed(server: Server) -> tuple[InboundKey, str]:
    """A running strategy that takes signals, the key of its address, and the secret, which is told once."""
    markets_refresh(WallexClient(f"{server.url}/wallex", api_key=KEY), now=datetime.now(UTC))
    market = Market.objects.get(provider="wallex", symbol="BTCUSDT")
    trader = make.make_trader("trader")
    account = make.make_account(owner=trader, api_key=KEY, environment="paper")
    config = make.make_config(
        strategy="ExternalSignals", account=account, market=market, data_market=market, parameters=RULES
    )
    key, secret = inbound_key_make(config, by=by(trader), at=datetime.now(UTC), label="a program")
    inbound_key_switch(key, is_on=True, by=by(trader), at=datetime.now(UTC))
    return key, secret


def signed(alert: str, secret: str, **fields: Any) -> dict[str, Any]:
    """A buy, body and headers, as a program sends it that signs."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    body = json.dumps({"id": alert, "time": now, "action": "buy", "market": "BTCUSDT", **fields}).encode()
    stamp = str(int(time.time()))
    mark = signature(body, event_id=alert, timestamp=stamp, secret=secret)
    headers = {"Content-Type": "application/json", ID: alert, TIMESTAMP: stamp, SIGNATURE: mark}
    return {"data": body, "headers": headers, "timeout": 30}


def books(server: Server) -> dict[str, Any]:
    """What the exchange itself has of the account, but for the hour."""
    told: dict[str, Any] = server.control("GET", "/accounts/demo").json()
    return {name: value for name, value in told.items() if name != "now"}


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).status_code < 500
    except requests.ConnectionError:
        return False


def test_a_signed_alert_becomes_a_protected_deal_and_a_wrongly_signed_one_changes_nothing(tmp_path: Path):
    port = free_port()
    with running(tmp_path, "--seed", "4", "--no-rate-limits") as server:
        key, secret = keyed(server)
        address = f"http://127.0.0.1:{port}/api/v1/inbound/{key.public_id}/"
        env = environment(server, INBOUND_SIGNALS="true")
        with (
            started(tmp_path, *web_words(port), env=env, log_file=tmp_path / "web"),
            started(tmp_path, *WORKER, env=env),
            started(tmp_path, *GUARDIAN, env=env, log_file=tmp_path / "guardian"),
        ):
            wait_for(lambda: " ready." in said(tmp_path), 120, "the worker is ready", folder=tmp_path)
            wait_for(lambda: answers(address), 120, "the web server answers", folder=tmp_path)
            before = books(server)

            forged = requests.post(address, **signed("alert-1", FORGED))
            assert (forged.status_code, forged.json()["code"]) == (404, "not_found")
            for task in (decide_signals, sweep_accounts):  # as beat does; what waited would be done now
                run = task.delay().id
                wait_for(lambda run=run: f"[{run}] succeeded" in said(tmp_path), 60, "the task ran", folder=tmp_path)
            assert not InboundAlert.objects.exists()
            assert not Signal.objects.exists()
            assert not Deal.objects.exists()
            assert books(server) == before

            signal_sent = signed("alert-1", secret, stop_loss_percent="4")  # its id is still free
            taken = requests.post(address, **signal_sent)
            assert taken.status_code == 202, taken.text
            protected = Deal.objects.filter(protected_at__isnull=False)
            wait_for(protected.exists, 60, "a protected deal", folder=tmp_path)
            again = requests.post(address, **signal_sent)  # as senders do that missed the answer
            deal = Deal.objects.get()
            (stop,) = Order.objects.filter(deal=deal, role=Role.STOP)
            resting = server.wallex("GET", "/v1/account/openOrders").json()
        alert = InboundAlert.objects.get()
        signal = Signal.objects.get()
        assert (signal.side, signal.denial_code, alert.signal, deal.signal) == ("BUY", "", signal, signal)
        assert (deal.status, deal.config, deal.rules["stop_loss_percent"]) == (DealStatus.OPEN, key.config, "4")
        held = deal.entry_quantity * Decimal("0.997")  # the fee of 0.3 % was taken in BTC, whose step is 1e-8
        assert (stop.status, stop.quantity) == ("OPEN", held.quantize(Decimal("1e-8"), ROUND_DOWN))
        assert stop.client_order_id in json.dumps(resting)
        truth = server.control("GET", "/accounts/demo").json()
        assert truth["conservation"] == "ok"
        assert ledger_difference(deal.account, truth["venues"]["wallex"]) == 0
        assert (again.status_code, again.json()["is_new"]) == (200, False)
    for log in ("log", "web", "guardian"):
        assert "Traceback" not in (tmp_path / log).read_text()
