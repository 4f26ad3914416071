"""The account at Nobitex: wallets, movements, limits, the key in use (contract: nobitex 5)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from providers.http import Answer, Endpoint
from providers.nobitex import mapping
from providers.nobitex.answers import said_ok
from providers.nobitex.endpoints import (
    HISTORY,
    LIMITATIONS,
    PROFILE,
    TRANSACTIONS,
    WALLET_BALANCE,
    WALLETS,
    WALLETS_LIST,
    WS_TOKEN,
)
from providers.nobitex.results import Limitations, Page, Transaction, Wallet
from providers.nobitex.schemas import (
    LimitationsSchema,
    ListedWalletSchema,
    ProfileSchema,
    StreamNameSchema,
    StreamTokenSchema,
    TransactionSchema,
    WalletBalanceSchema,
    WalletSchema,
)
from providers.nobitex.session import NobitexSession, has_next
from providers.redaction import register_secret
from providers.types import Balance, KeyDetails
from providers.wire import as_list, as_mapping, parse

ALL_SCOPES = frozenset({"read", "trade", "withdraw"})
LONGEST_HISTORY = timedelta(days=90)
_TRANSACTIONS_PER_PAGE = 100


class AccountData(NobitexSession):
    """What a key may read about its account. Of margin wallets, nothing."""

    _key_is_token: bool

    def balances(self) -> dict[str, Balance]:
        """A wallet exists after a first order or deposit only: what is not there is zero (contract: 5.2)."""

        def read(answer: Answer) -> list[Balance]:
            wallets = as_mapping(said_ok(answer).get("wallets"), "wallets")
            return [mapping.to_balance(code, parse(WalletSchema, wallet)) for code, wallet in wallets.items()]

        found = self._http.call(WALLETS, read, params={"type": "spot"})
        return {balance.asset: balance for balance in found if balance.total or balance.locked}

    def wallets(self) -> list[Wallet]:
        """Every spot wallet with its id, empty ones too. The exchange says that this call may fail under load: for
        amounts, `balances` is the better one."""

        def read(answer: Answer) -> list[Wallet]:
            rows = as_list(said_ok(answer).get("wallets"), "wallets")
            return [mapping.to_wallet(parse(ListedWalletSchema, row)) for row in rows]

        return self._http.call(WALLETS_LIST, read, params={"type": "spot"})

    def wallet_balance(self, asset: str) -> Decimal:
        """One number for one asset. Whether it includes what is locked, the documents do not say (contract: 5.2):
        never size an order by it; `balances` tells both."""

        def read(answer: Answer) -> Decimal:
            balance = parse(WalletBalanceSchema, said_ok(answer)).balance
            return mapping.from_wire_amount(mapping.wire_code(asset), balance)

        return self._http.call(WALLET_BALANCE, read, body={"currency": mapping.wire_code(asset)})

    def fee_rates(self) -> dict[str, Decimal]:
        """Fractions by quote, IRT and USDT; makers and takers alike, for the wire does not tell them apart."""
        return mapping.fee_rates(self._fees())

    def limitations(self) -> Limitations:
        """Level and daily limits of the account. The sense of its booleans is not documented: show, do not decide."""

        def read(answer: Answer) -> Limitations:
            return mapping.to_limitations(parse(LimitationsSchema, said_ok(answer).get("limitations")))

        return self._http.call(LIMITATIONS, read)

    def wallet_transactions(self, wallet_id: int, *, page: int = 1) -> Page[Transaction]:
        """A page of the movements of one wallet; its id is that of `wallets`. See `every_row` for all pages."""
        return self._transactions(TRANSACTIONS, {"wallet": wallet_id}, page)

    def transaction_history(
        self,
        *,
        asset: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        from_id: int | None = None,
        page: int = 1,
    ) -> Page[Transaction]:
        """A page of the movements of all wallets, each with its kind and the balance after it. Sixty calls an hour.

        Raises ValueError for a range that the exchange refuses: reversed, or longer than 90 days."""
        if since and until and not timedelta(0) < until - since <= LONGEST_HISTORY:
            raise ValueError("a history begins before it ends and spans at most 90 days")
        asked = {
            "currency": mapping.wire_code(asset) if asset else None,
            "tp": kind,
            "from": _iso(since),
            "to": _iso(until),
            "from_id": from_id,
        }
        return self._transactions(HISTORY, {name: value for name, value in asked.items() if value is not None}, page)

    def key_details(self) -> KeyDetails:
        """A token has all rights of the account (contract: 3.1) and does not tell when it ends. The rights of an API
        key are not told to the key itself. Asks the profile, so that a dead key raises `AuthFailed`."""
        self._http.call(PROFILE, lambda answer: parse(ProfileSchema, said_ok(answer).get("profile")))
        return KeyDetails(scopes=ALL_SCOPES if self._key_is_token else None)

    def ws_token(self) -> str:
        """A secret for the private streams, good for 20 minutes. On `AuthFailed` stop asking (contract: 7)."""
        token = self._http.call(WS_TOKEN, lambda answer: parse(StreamTokenSchema, said_ok(answer)).token)
        register_secret(token)
        return token

    def websocket_auth_param(self) -> str:
        """The user's part of the private channel names: constant, and a secret (contract: 5.1)."""
        name = self._http.call(PROFILE, lambda answer: parse(StreamNameSchema, said_ok(answer)).websocketAuthParam)
        register_secret(name)
        return name

    def _transactions(self, endpoint: Endpoint, params: Mapping[str, Any], page: int) -> Page[Transaction]:
        def read(answer: Answer) -> Page[Transaction]:
            rows = as_list(said_ok(answer).get("transactions"), "transactions")
            found = tuple(mapping.to_transaction(parse(TransactionSchema, row)) for row in rows)
            return Page(found, has_next(answer, len(found), _TRANSACTIONS_PER_PAGE))

        return self._http.call(endpoint, read, params={**params, "page": page, "pageSize": _TRANSACTIONS_PER_PAGE})


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
