"""The auditor's door, `/paper`: the whole truth of an account, whatever faults make the exchange tell."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from providers.paper.core import Venue
from providers.paper.engine import Exchange, Rights
from providers.paper.faces.common import JSON, Handler, amount, json_body
from providers.paper.keys import addresses_of, new_pair, permissions_of, public_bytes, time_of
from providers.paper.orders import Order, Trade


class Door:
    """Routes under `/paper` of the exchange's own port: reads only. All but health need the header x-paper-control."""

    def __init__(self, exchange: Exchange, token: str | None) -> None:
        self._exchange = exchange
        self._token = token

    def routes(self) -> list[Route]:
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/accounts/{name}", self.guarded(self.account), methods=["GET"]),
        ]

    def guarded(self, handler: Callable[[Request, dict[str, Any]], Any]) -> Handler:
        async def endpoint(request: Request) -> JSON:
            given = request.headers.get("x-paper-control", "")
            if not self._token or not hmac.compare_digest(given.encode(), self._token.encode()):
                return JSON({"error": "send the header x-paper-control with the value of PAPER_CONTROL_TOKEN"}, 401)
            try:
                body = await json_body(request) if request.method == "POST" else {}
                return JSON(handler(request, body))
            except LookupError as exc:
                return JSON({"error": str(exc.args[0]) if exc.args else "not found"}, 404)
            except ValueError as exc:  # FeedError is one
                return JSON({"error": str(exc)}, 400)

        return endpoint

    async def health(self, request: Request) -> JSON:
        ends_at = self._exchange.feed.ends_at
        return JSON(
            {
                "status": "ok",
                "now": self._exchange.advance().isoformat(),
                "feed": self._exchange.feed.name,
                "replay_ends_at": datetime.fromtimestamp(ends_at, UTC).isoformat() if ends_at is not None else None,
            }
        )

    def account(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        """Everything about one account, in platform units (toman), amounts as strings."""
        account = self._exchange.accounts.get(request.path_params["name"])
        if account is None:
            raise LookupError(f"there is no account {request.path_params['name']}")
        now = self._exchange.advance()
        venues = {name: venue_truth(venue, account.name) for name, venue in self._exchange.venues.items()}
        return {
            "name": account.name,
            "opened_at": account.opened_at.isoformat(),
            "now": now.isoformat(),
            "venues": venues,
            "conservation": self._exchange.conservation(),
        }


def open_account(exchange: Exchange, row: dict[str, Any], *, with_new_pair: bool = False) -> dict[str, Any]:
    """Open one account as an accounts file or `POST /paper/accounts` describes it. Raises `ValueError`.

    Keys that are not given are made and told in the answer, once; a Nobitex API key only `with_new_pair`.
    """
    wallex_key = str(row.get("wallex_key") or f"{secrets.randbelow(90_000) + 10_000}|{secrets.token_hex(20)}")
    nobitex_token = str(row.get("nobitex_token") or secrets.token_hex(20))
    balances = row.get("balances") or {}
    if not isinstance(balances, dict) or not all(isinstance(held, dict) for held in balances.values()):
        raise ValueError("balances must be an object of exchanges, each an object of assets")
    parsed = {
        str(venue): {_asset(exchange, asset): amount(value) or Decimal(0) for asset, value in held.items()}
        for venue, held in balances.items()
    }
    name = str(row.get("name", ""))
    rights, told = _rights(row, with_new_pair=with_new_pair)
    exchange.open_account(
        name, wallex_key=wallex_key, nobitex_token=nobitex_token, balances=parsed, rights=rights
    )  # fmt: skip
    return {"name": name, "wallex_key": wallex_key, "nobitex_token": nobitex_token, **told}


def _rights(row: dict[str, Any], *, with_new_pair: bool) -> tuple[Rights, dict[str, str]]:
    """(what the keys may do, the API key to be told now and never again). Raises `ValueError`."""
    public, told = row.get("nobitex_api_key"), {}
    if public is not None:
        public_bytes(str(public))
    elif with_new_pair:
        public, private = new_pair()
        told = {"nobitex_api_key": public, "nobitex_private_key": private}
    rights = Rights(
        wallex_scopes=permissions_of(str(row.get("wallex_scopes") or "READ,TRADE")),
        wallex_addresses=addresses_of(row.get("wallex_key_addresses") or []),
        wallex_expires_at=time_of(row.get("wallex_key_expires_at")),
        nobitex_api_key=None if public is None else str(public),
        nobitex_permissions=permissions_of(str(row.get("nobitex_permissions") or "READ,TRADE")),
        nobitex_addresses=addresses_of(row.get("nobitex_key_addresses") or []),
        nobitex_expires_at=time_of(row.get("nobitex_key_expires_at")),
    )
    return rights, told


def _asset(exchange: Exchange, name: str) -> str:
    upper = str(name).upper()
    known = {"TMN"}.union(*(venue.profile.assets for venue in exchange.venues.values()))
    if upper not in known:
        raise ValueError(f"{name} is not an asset of the paper exchange (amounts of toman are IRT)")
    return "IRT" if upper == "TMN" else upper


def venue_truth(venue: Venue, account: str, *, with_orders: bool = True) -> dict[str, Any]:
    money = {
        "deposits": {asset: str(value) for asset, value in venue.deposits(account).items()},
        "balances": {
            asset: {"total": str(balance.total), "locked": str(balance.locked)}
            for asset, balance in venue.balances(account).items()
        },
    }
    if not with_orders:
        return money
    return money | {
        "orders": [order_truth(venue, order) for order in venue.records.of(account)],
        "trades": [trade_truth(venue, trade) for trade in venue.records.trades(account)],
    }


def order_truth(venue: Venue, order: Order) -> dict[str, Any]:
    def text(value: Decimal | None) -> str | None:
        return None if value is None else str(value)

    def time(value: datetime | None) -> str | None:
        return None if value is None else value.isoformat()

    # Wallex knows orders by their client id alone.
    exchange_id = order.client_id if venue.profile.client_ids_unique_forever else str(order.id)
    return {
        "id": order.id,
        "client_order_id": order.client_id,
        "exchange_order_id": exchange_id,
        "venue": venue.profile.name,
        "pair": order.pair,
        "symbol": order.pair,
        "side": order.side.value,
        "type": order.type.value,
        "status": order.state.value,
        "quantity": text(order.quantity),
        "filled_quantity": text(order.filled),
        "average_price": text(order.average_price),
        "fee": text(order.fee),
        "fee_asset": order.fee_asset,
        "price": text(order.price),
        "stop_price": text(order.stop_price),
        "pair_order_id": order.pair_id,
        "reason": order.reason,
        "created_at": time(order.created_at),
        "updated_at": time(order.updated_at),
        "triggered_at": time(order.triggered_at),
        "closed_at": time(order.closed_at),
    }


def trade_truth(venue: Venue, trade: Trade) -> dict[str, Any]:
    return {
        "id": trade.id,
        "order_id": trade.order_id,
        "venue": venue.profile.name,
        "pair": trade.pair,
        "side": trade.side.value,
        "price": str(trade.price),
        "quantity": str(trade.quantity),
        "fee": str(trade.fee),
        "fee_asset": trade.fee_asset,
        "is_maker": trade.is_maker,
        "executed_at": trade.executed_at.isoformat(),
    }
