from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from algo.execution.alerts import alerts_decide
from algo.models import InboundAlert, InboundKey
from algo.services.inbound import inbound_key_make, inbound_key_switch
from algo.standard_webhooks import signature
from providers.clock import clock_from_env
from providers.types import Balance, BookLevel, Capabilities, OrderBook
from tests import factories as make
from tests.factories import WALLEX_LIKE, by

CLOCK = clock_from_env()


class Venue:
    """Where orders go: a book around 50,000 and a full purse."""

    name = "wallex"
    price = Decimal(50_000)

    def __init__(self) -> None:
        self.wallet = {"USDT": Decimal(10_000), "BTC": Decimal(1)}
        self.old = timedelta()

    def order_book(self, symbol: str) -> OrderBook:
        bid, ask = (BookLevel(self.price + side, Decimal(100)) for side in (-1, 1))
        return OrderBook(symbol, (bid,), (ask,), CLOCK.now() - self.old, self.price)

    def balances(self) -> dict[str, Balance]:
        return {asset: Balance(asset, amount, Decimal(0)) for asset, amount in self.wallet.items()}

    def capabilities(self) -> Capabilities:
        return WALLEX_LIKE


@pytest.fixture(autouse=True)
def _taken(settings: Any) -> Iterator[None]:
    settings.INBOUND_SIGNALS = True
    cache.clear()
    yield


@pytest.fixture
def trader(db: Any) -> Any:
    return make.make_trader("trader")


@pytest.fixture
def config(trader: Any) -> Any:
    """A running strategy that takes signals; its own stop is 1 %, its target 3 %."""
    parameters = {"stop_loss_percent": "1", "take_profit_percent": "3", "trade_cooldown_minutes": 0}
    account = make.make_account(owner=trader)
    return make.make_config(strategy="ExternalSignals", parameters=parameters, account=account, allowed_sides="BOTH")


class Sender:
    """Who has the key: TradingView, unless told to sign."""

    def __init__(self, config: Any, trader: Any) -> None:
        self.config, self.trader = config, trader
        self.key, self.secret = inbound_key_make(config, by=by(trader), at=CLOCK.now(), label="TradingView")
        inbound_key_switch(self.key, is_on=True, by=by(trader), at=CLOCK.now())
        self.client, self.number = APIClient(), 0

    def body(self, **fields: Any) -> dict[str, Any]:
        self.number += 1
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        told = {"id": f"ema-{self.number}", "time": now, "action": "buy", "market": "BTCUSDT", "secret": self.secret}
        return {name: value for name, value in (told | fields).items() if value is not None}

    def post(self, body: Any, **headers: Any) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        address = f"/api/v1/inbound/{self.key.public_id}/"
        return self.client.post(address, raw, content_type="application/json; charset=utf-8", headers=headers)

    def send(self, **fields: Any) -> Any:
        return self.post(self.body(**fields))

    def signed(self, *, secret: str = "", at: float | None = None, event_id: str = "", **fields: Any) -> Any:
        body = self.body(secret=None, **fields)
        raw, stamp = json.dumps(body).encode(), str(int(at or time.time()))
        name = event_id or body["id"]
        mark = signature(raw, event_id=name, timestamp=stamp, secret=secret or self.secret)
        return self.post(raw, **{"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": mark})


@pytest.fixture
def sender(config: Any, trader: Any) -> Sender:
    return Sender(config, trader)


@pytest.fixture
def venue() -> Venue:
    return Venue()


@pytest.fixture
def worker(venue: Venue) -> Any:
    """Decides about what waits; `hints` are the accounts it wants looked after."""
    hints: list[int] = []

    def run() -> int:
        return alerts_decide(
            book_provider=lambda name: venue,  # type: ignore[arg-type,return-value]
            account_provider=lambda account: venue,  # type: ignore[arg-type,return-value]
            clock=CLOCK,
            on_planned=hints.append,
        )

    return SimpleNamespace(run=run, hints=hints)


def alert() -> InboundAlert:
    return InboundAlert.objects.select_related("signal").get()


def stored_keys() -> list[InboundKey]:
    return list(InboundKey.objects.order_by("pk"))
