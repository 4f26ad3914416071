"""Nobitex' account calls: profile, wallets and their transactions, stream tokens, API keys (contract: nobitex 3, 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from starlette.requests import Request

from providers.paper.engine import Account, Exchange
from providers.paper.faces import nobitex_params as params
from providers.paper.faces import nobitex_tokens
from providers.paper.faces import nobitex_wire as wire
from providers.paper.faces.common import plain
from providers.paper.keys import NOBITEX, ApiKey, addresses_of, new_pair, permissions_of, time_of
from providers.paper.ledger import EXACT, Entry, trader
from providers.types import ZERO, Balance

_LONGEST_HISTORY = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request. `now` is the market's time, `wall` that of the world."""

    request: Request
    account: Account
    now: datetime
    wall: datetime
    body: dict[str, Any]

    @property
    def query(self) -> Any:
        return self.request.query_params


@dataclass(frozen=True, slots=True)
class Movement:
    """One change of one wallet."""

    id: int
    kind: str  # buy, sell, deposit
    asset: str
    amount: Decimal  # signed, after the fee
    fee: Decimal
    balance: Decimal  # after it
    at: datetime
    description: str


class AccountCalls:
    """What an account can be asked. Each method answers one address."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._venue = exchange.venues["nobitex"]

    # -- the person ----------------------------------------------------------------------------------------------

    def profile(self, call: Call) -> Any:
        fees = {}
        for name, quote in (("fee", "IRT"), ("feeUsdt", "USDT")):
            rates = [m.taker_fee_rate for m in self._venue.profile.markets.values() if m.quote == quote]
            fees[name] = plain((rates[0] if rates else ZERO) * 100)
        options = {**fees, "isManualFee": False, "tfa": False, "socialLoginEnabled": False}
        person = {"firstName": "Paper", "email": f"{call.account.name}@paper.invalid", "username": call.account.name}
        verified = {"verifications": {"email": True, "mobile": True, "identity": True}, "pendingVerifications": {}}
        row = {**person, **verified, "bankCards": [], "bankAccounts": [], "options": options, "withdrawEligible": True}
        trades = [t for t in self._venue.trades(call.account.name) if t.executed_at > call.now - timedelta(days=30)]
        return {
            "status": "ok",
            "profile": self._style.dressed(row),
            "tradeStats": {"monthTradesTotal": str(self._rials(trades)), "monthTradesCount": len(trades)},
            "websocketAuthParam": nobitex_tokens.auth_param(call.account),
        }

    def _rials(self, trades: Any) -> Decimal:
        return sum((trade.total * self._rial_price(trade.pair.split("/")[1]) for trade in trades), ZERO)

    def limitations(self, call: Call) -> Any:
        """A figure of everything; nothing is limited on paper (5.3)."""
        features = ("crypto_trade", "rial_trade", "coin_deposit", "rial_deposit", "coin_withdrawal", "rial_withdrawal")
        limits = ("withdrawRialDaily", "withdrawCoinDaily", "withdrawTotalDaily", "withdrawTotalMonthly")
        return {
            "status": "ok",
            "limitations": {
                "userLevel": "level2",
                "features": dict.fromkeys(features, False),
                "limits": {name: {"used": "0", "limit": "3000000000"} for name in limits},
            },
        }

    def stream_token(self, call: Call) -> Any:
        lifetime = float(self._venue.profile.switch("stream_token_seconds"))
        return {"token": nobitex_tokens.issue(call.account, call.wall, lifetime), "status": "ok"}

    def logout(self, call: Call) -> Any:
        """The token dies (3.1)."""
        self._exchange.log_out(call.account)
        return {"detail": "Successfully logged out.", "message": "Successfully logged out."}

    # -- wallets -------------------------------------------------------------------------------------------------

    def wallets(self, call: Call) -> Any:
        if call.query.get("type", "spot") != "spot":
            return {"status": "ok", "wallets": []}
        rows = [
            self._style.dressed(
                wire.wallet_row(wire.wallet_number(call.account.number, asset), balance, self._rial_price(asset))
            )
            for asset, balance in self._held(call).items()
        ]
        return {"status": "ok", "wallets": rows}

    def short_wallets(self, call: Call) -> Any:
        wanted = [code for code in call.query.get("currencies", "").lower().split(",") if code]
        held = {} if call.query.get("type", "spot") != "spot" else self._held(call)
        style = self._style
        rows = {
            wire.code_of(asset).upper(): wire.short_wallet(
                wire.wallet_number(call.account.number, asset), balance, style
            )
            for asset, balance in held.items()
            if not wanted or wire.code_of(asset) in wanted
        }
        return {"status": "ok", "wallets": rows}

    def _held(self, call: Call) -> dict[str, Balance]:
        """A wallet exists once its coin was deposited or an order placed in its market (5.2)."""
        held = self._venue.balances(call.account.name)
        names = {asset for order in self._venue.orders(call.account.name) for asset in order.pair.split("/")}
        if not self._venue.profile.switch("wallets_only_after_use"):
            names = set(self._venue.profile.assets)
        return held | {name: Balance(name, ZERO, ZERO) for name in sorted(names - set(held))}

    def wallet_balance(self, call: Call) -> Any:
        asset = params.asset_of(call.body.get("currency"))
        return {"balance": wire.money(self._venue.balance(call.account.name, asset).total, asset), "status": "ok"}

    def _rial_price(self, asset: str) -> Decimal:
        if asset == "IRT":
            return Decimal(wire.RIALS)
        return self._venue.last.get(f"{asset}/IRT", ZERO) * wire.RIALS

    # -- transactions --------------------------------------------------------------------------------------------

    def wallet_transactions(self, call: Call) -> Any:
        number = params.int_of(call.query.get("wallet"), "wallet", -1)
        assets = [a for a in wire.NAMES if wire.wallet_number(call.account.number, a) == number]
        if not assets:
            raise params.Failure("NotFound", "No Wallet matches the given query.", 404)
        return self._page(call, [m for m in self._movements(call) if m.asset == assets[0]], is_history=False)

    def transactions_history(self, call: Call) -> Any:
        """Times from < to, at most 90 days apart (5.3)."""
        since, until = (params.time_of(call.query.get(name), name) for name in ("from", "to"))
        if since and until and not timedelta(0) < until - since <= _LONGEST_HISTORY:
            raise params.Failure("ParseError", "from must be before to, at most 90 days apart", 400)
        code, kind = call.query.get("currency"), call.query.get("tp")
        asset = params.asset_of(code) if code else None
        floor = params.int_of(call.query.get("from_id"), "from_id", 0)
        chosen = [
            each
            for each in self._movements(call)
            if (asset is None or each.asset == asset)
            and (not kind or each.kind == kind)
            and (since is None or each.at >= since)
            and (until is None or each.at <= until)
            and each.id >= floor
        ]
        return self._page(call, chosen, is_history=True)

    def _page(self, call: Call, chosen: list[Movement], *, is_history: bool) -> Any:
        rows = [_movement_row(each, is_history=is_history) for each in reversed(chosen)]
        page, has_next = params.page_of(rows, call.query, default=50)
        return {"status": "ok", "transactions": [self._style.dressed(row) for row in page], "hasNext": has_next}

    def _movements(self, call: Call) -> list[Movement]:
        """Oldest first, balances running."""
        balances: dict[str, Decimal] = {}
        found: list[Movement] = []
        for entry in self._exchange.entries("nobitex", call.account.name):
            for change in _changes(entry, trader(call.account.name)):
                balances[change.asset] = EXACT.add(balances.get(change.asset, ZERO), change.amount)
                found.append(replace(change, balance=balances[change.asset]))
        return found

    # -- API keys ------------------------------------------------------------------------------------------------

    def create_key(self, call: Call) -> Any:
        """The private key is told here, once (3.2)."""
        if not call.request.headers.get("x-totp", "").isdigit():
            raise params.Failure("MissingOTP", "X-TOTP is needed", 400)
        body, (public, private) = call.body, new_pair()
        if not isinstance(body.get("name"), str) or not body["name"]:
            raise params.Failure("ParseError", "Missing string value: name", 400)
        try:
            key = ApiKey(
                NOBITEX, public, call.account.name, permissions_of(str(body.get("permissions") or "")),
                call.wall, call.wall, body["name"], str(body.get("description") or ""),
                addresses_of(body.get("ipAddressesWhitelist") or []), time_of(body.get("expirationDate")),
            )  # fmt: skip
        except ValueError as exc:
            raise params.Failure("ParseError", str(exc), 400) from exc
        return {"status": "ok", "key": wire.key_row(self._exchange.keys.put(key)), "privateKey": private}

    def list_keys(self, call: Call) -> Any:
        keys = self._exchange.keys.of(NOBITEX, call.account.name)
        return {"status": "ok", "keys": [wire.key_row(key) for key in keys]}

    def update_key(self, call: Call) -> Any:
        """Name, description and addresses; never what it may do or how long (3.2)."""
        key, body = self._key(call), call.body
        try:
            addresses = addresses_of(body.get("ipAddressesWhitelist", list(key.addresses)))
        except ValueError as exc:
            raise params.Failure("ParseError", str(exc), 400) from exc
        changed = replace(
            key,
            name=str(body.get("name", key.name)),
            description=str(body.get("description", key.description)),
            addresses=addresses,
            updated_at=call.wall,
        )
        return {"status": "ok", "key": wire.key_row(self._exchange.keys.put(changed))}

    def delete_key(self, call: Call) -> Any:
        self._exchange.keys.remove(self._key(call))
        return {"status": "ok"}

    def _key(self, call: Call) -> ApiKey:
        key = self._exchange.keys.get(NOBITEX, call.request.path_params["public_key"])
        if key is None or key.account != call.account.name:
            raise params.Failure("NotFound", "No APIKey matches the given query.", 404)
        return key

    @property
    def _style(self) -> wire.Style:
        return wire.Style.of(self._venue.profile)


def _changes(entry: Entry, owner: str) -> Iterator[Movement]:
    """What one booking did to the owner's wallets: of a trade, what came less its fee, and what went."""
    own = [posting for posting in entry.postings if posting.account == owner]
    is_trade = entry.kind == "trade"
    fee = own.pop() if is_trade else None  # the last of a trade's own postings (Trade.postings)
    kind = entry.kind if not is_trade else "buy" if own[0].amount > 0 else "sell"
    for index, posting in enumerate(own):
        taken = -fee.amount if fee is not None and posting.amount > 0 else ZERO
        amount = EXACT.subtract(posting.amount, taken)
        yield Movement(entry.id * 10 + index, kind, posting.asset, amount, taken, ZERO, entry.at, f"paper {kind}")


def _movement_row(movement: Movement, *, is_history: bool) -> dict[str, Any]:
    row = {
        "id": movement.id,
        "currency": wire.code_of(movement.asset),
        "amount": wire.money(movement.amount, movement.asset),
        "created_at": wire.iso(movement.at),
        "description": movement.description,
        "calculatedFee": wire.money(movement.fee, movement.asset),
    }
    if is_history:
        row |= {"balance": wire.money(movement.balance, movement.asset), "tp": movement.kind, "type": movement.kind}
    return row
