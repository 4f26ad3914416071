"""A program that trades over the API, with the typed client made from its schema (see "A typed client" in docs/api.md):
log in for a token that ends in an hour, look at the open deals, close one of them exactly once, log out.

    python example.py http://127.0.0.1:8000 admin
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from getpass import getpass
from uuid import uuid4

import httpx
from algo_trade_client import AuthenticatedClient, Client
from algo_trade_client.api.auth import auth_login, auth_logout
from algo_trade_client.api.deals import deals_close, deals_list
from algo_trade_client.models import (
    Deal,
    DealAct,
    DealsListStatusItem,
    GivenToken,
    LoginRequest,
    Market,
    PaginatedDealList,
    Problem,
    ReasonRequest,
    ScopeEnum,
)

TRIES = 3


class Refused(Exception):
    """The API said no: the message is for people, `code` for programs."""

    def __init__(self, problem: Problem | None) -> None:
        super().__init__(problem.detail if problem else "an answer that the schema does not know")
        self.code = problem.code if problem else ""


def logged_in(address: str, username: str, password: str) -> AuthenticatedClient:
    """A client with a token of its own, which may trade for an hour."""
    asked = LoginRequest(
        username=username,
        password=password,
        scope=ScopeEnum.TRADE,
        expiry=datetime.now(UTC) + timedelta(hours=1),
        label="example.py",
    )
    given = auth_login.sync(client=Client(base_url=address), body=asked)
    if not isinstance(given, GivenToken):
        raise Refused(given)
    return AuthenticatedClient(base_url=address, token=given.token, prefix="Token")


def open_deals(client: AuthenticatedClient) -> list[Deal]:
    """The newest open deals that one may see."""
    page = deals_list.sync(client=client, status=[DealsListStatusItem.OPEN])
    if not isinstance(page, PaginatedDealList):
        raise Refused(page)
    return page.results


def close(client: AuthenticatedClient, deal: Deal, reason: str) -> DealAct:
    """Close a deal at the market. Asked again where the answer is lost; the key makes it one act."""
    key, body = str(uuid4()), ReasonRequest(reason=reason)
    for left in reversed(range(TRIES)):
        try:
            done = deals_close.sync(str(deal.id), client=client, body=body, idempotency_key=key)
        except httpx.TransportError:
            if not left:
                raise
            continue
        if isinstance(done, DealAct):
            return done
        raise Refused(done)
    raise AssertionError("not reached")


def in_words(deal: Deal) -> str:
    symbol = deal.market.symbol if isinstance(deal.market, Market) else "?"  # `fields` could have left it out
    return f"deal {deal.id}: {deal.side} {deal.entry_quantity} {symbol}, stop {deal.stop_price}"


def main() -> None:
    address, username = sys.argv[1:3]
    client = logged_in(address, username, getpass())
    try:
        for deal in open_deals(client):
            print(in_words(deal))
            if input("Close it? [y/N] ") == "y":
                print("closing" if close(client, deal, "by example.py").done else "it is being closed already")
    finally:
        auth_logout.sync_detailed(client=client)


if __name__ == "__main__":
    main()
