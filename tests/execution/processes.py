"""Our own processes against the test database and a paper exchange."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection

from algo.execution.ledger_rows import order_plan
from algo.models import Account, Deal, Market, Role
from algo.services.markets import markets_refresh
from providers.types import OrderType, Side
from providers.wallex.client import WallexClient
from tests.factories import make_account, make_config, make_deal
from tests.paper.world import CONTROL, KEY, ROOT, Server

GUARDIAN = ("manage.py", "run_guardian")


def servers_only(**more: str) -> dict[str, str]:
    """What a process needs to see the database and the Redis of this test."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    return os.environ | {
        "DATABASE_URL": url,
        "REDIS_URL": settings.REDIS_URL,
        "SECRET_KEY": settings.SECRET_KEY,
        "FIELD_ENCRYPTION_KEYS": ",".join(settings.FIELD_ENCRYPTION_KEYS),
        "DJANGO_SETTINGS_MODULE": "algo_trade.settings",
        **more,
    }


def environment(server: Server, **more: str) -> dict[str, str]:
    """The same, and the exchange of this test."""
    return servers_only() | {
        "EXCHANGE_ENVIRONMENT": "paper",
        "WALLEX_BASE_URL": f"{server.url}/wallex",
        "NOBITEX_BASE_URL": f"{server.url}/nobitex",
        "PAPER_URL": server.url,
        "PAPER_CONTROL_URL": server.control_url,
        "PAPER_CONTROL_TOKEN": CONTROL,
        **more,
    }


def planned(
    server: Server, symbol: str = "BTCUSDT", quantity: str = "0.01", account: Account | None = None, key: str = KEY
) -> Deal:
    """A deal at Wallex whose stop and target are 5 % away: nothing but the test moves the price that far."""
    client = WallexClient(f"{server.url}/wallex", api_key=key)
    markets_refresh(client, now=datetime.now(UTC))
    market = Market.objects.get(symbol=symbol, provider="wallex")
    account = account or make_account(api_key=key, environment="paper")
    price = client.last_price(symbol)
    deal = make_deal(
        make_config(account=account, market=market, data_market=market),
        rules={"stop_loss_percent": "5", "take_profit_percent": "5"},
        planned_quantity=Decimal(quantity),
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
        quantity=Decimal(quantity),
        price=None,
        stop_price=None,
        reason="test",
        now=datetime.now(UTC),
    )
    return deal


@contextmanager
def started(
    folder: Path, *words: str, env: dict[str, str], log_file: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`python words…` with its output in `log_file`, else in `folder`/log; killed at the end."""
    with (log_file or folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def said(folder: Path) -> str:
    return (folder / "log").read_text()


def wait_for(
    condition: Callable[[], object], seconds: float, what: str, *, folder: Path | None = None, pause: float = 0.1
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{said(folder)[-3000:] if folder else ''}"
        time.sleep(pause)


def restarted(server: Server) -> None:
    """The exchange dies and comes back at the same address, with what it had kept."""
    arguments = server.process.args
    server.kill()
    time.sleep(2)
    env = os.environ | {"PAPER_CONTROL_TOKEN": CONTROL}
    server.process = subprocess.Popen(arguments, cwd=ROOT, env=env, stderr=subprocess.PIPE)
    server._wait_until_up()


def seconds_to_stop(process: subprocess.Popen[bytes]) -> float:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    return time.monotonic() - began
