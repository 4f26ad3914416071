"""One paper exchange as a real process, and the platform's own clients over real sockets: every way to be let in."""

from __future__ import annotations

import itertools
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from providers.budgets import InProcessBudget, Limit
from providers.interface import ExchangeProvider
from providers.nobitex.auth import ApiKeyAuth
from providers.provider_factory import create_provider
from providers.types import MarketRules, OrderRef, OrderReport, OrderRequest, OrderType, Side
from tests.paper.world import Server, running

SYMBOL = "BTCUSDT"
WAYS_IN = ("wallex key", "nobitex token", "nobitex api key")
FREE = {"default": Limit(1_000_000, 1.0)}


def api_key(seed: bytes) -> str:
    """The one string a user enters for an Ed25519 key."""
    return urlsafe_b64encode(seed).decode()


@dataclass(slots=True)
class Wire:
    """A client of one exchange with one way to be let in, on a trader of its own, and the server behind it."""

    client: ExchangeProvider
    server: Server
    trader: str
    rules: MarketRules
    began: datetime

    @property
    def name(self) -> str:
        return self.client.name

    def price(self, factor: str | Decimal = "1") -> Decimal:
        """The last price times `factor`, on the tick grid."""
        last = self.client.last_price(SYMBOL)
        return self.rules.round_limit(last * Decimal(factor), Side.BUY)

    def request(self, side: Side, kind: OrderType, quantity: str, **prices: Decimal) -> OrderRequest:
        return OrderRequest(new_id(), SYMBOL, side, kind, Decimal(quantity), **prices)

    def resting(self, quantity: str = "0.001", factor: str = "0.8") -> OrderReport:
        """A LIMIT order far below the market."""
        asked = self.request(Side.BUY, OrderType.LIMIT, quantity, price=self.price(factor))
        return self.client.create_order(asked)

    def bought(self, quantity: str = "0.002") -> OrderReport:
        """A MARKET order, as the exchange shows it afterwards."""
        asked = self.request(Side.BUY, OrderType.MARKET, quantity, price=self.price())
        report = self.client.create_order(asked)
        return self.client.fetch_order(self.ref(report))

    def ref(self, report: OrderReport) -> OrderRef:
        return OrderRef(report.symbol, report.client_order_id, report.exchange_order_id, self.began)

    def fault(self, kind: str, method: str = "*", path: str = "*", **more: object) -> None:
        """The next matching request, or what `more` says."""
        rule = {"kind": kind, "venue": self.name, "method": method, "path": path, "account": self.trader, "times": 1}
        answer = self.server.control("POST", "/faults", json={**rule, **more})
        assert answer.status_code in (200, 201), answer.text

    def truth(self) -> dict:
        """What the exchange's own books say of this trader."""
        return self.server.control("GET", f"/accounts/{self.trader}").json()["venues"][self.name]


def new_id() -> str:
    return uuid4().hex[:24].upper()


@pytest.fixture(scope="package")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("contract"), "--seed", "4", "--no-rate-limits") as server:
        yield server


_numbers = itertools.count(1)


@pytest.fixture(params=WAYS_IN)
def wire(request: pytest.FixtureRequest, server: Server) -> Iterator[Wire]:
    """Each test has a trader of its own: 20,000 USDT, 1 BTC and 5 billion toman on the exchange it speaks to."""
    number = next(_numbers)
    name, trader = request.param.split()[0], f"trader{number}"
    seed = number.to_bytes(32, "big")
    keys = {"wallex_key": f"{number}|key{uuid4().hex}", "nobitex_token": uuid4().hex + "0" * 8}
    held = {"USDT": "20000", "BTC": "1", "IRT": "5000000000"}
    row = {"name": trader, **keys, "nobitex_api_key": ApiKeyAuth(api_key(seed)).public_key, "balances": {name: held}}
    opened = server.control("POST", "/accounts", json=row)
    assert opened.status_code in (200, 201), opened.text
    secret = {"wallex key": keys["wallex_key"], "nobitex token": keys["nobitex_token"]}.get(
        request.param, api_key(seed)
    )
    client = create_provider(name, base_url=f"{server.url}/{name}", api_key=secret, budget=InProcessBudget(FREE))
    rules = next(rule for rule in client.markets() if rule.symbol == SYMBOL)
    yield Wire(client, server, trader, rules, datetime.now(UTC) - timedelta(seconds=5))
    server.control("DELETE", "/faults")
