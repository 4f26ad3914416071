"""Tokens that open Nobitex' private streams (contract: nobitex 7): what `auth/ws/token` gives and `connect` takes.

A JSON Web Token, signed with HS256 (the exchange's own are ES512; to a client they are opaque). Each account signs with
a secret of its own that outlives a restart, so a client need not notice one; new keys end the old tokens. Times are
wall time whatever the market's clock does: a token belongs to two machines, not to the market.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from providers.paper.engine import Account, digest

LIFETIME = 1200  # seconds (contract: nobitex 7)
_HEADER = {"alg": "HS256", "typ": "JWT"}
_FALLBACK = secrets.token_hex(32)  # signs for accounts without a Nobitex token


class TokenInvalid(Exception):
    """Not a token of this exchange, or its account has other keys now."""


class TokenExpired(Exception):
    """It was a good token once."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Whom a token lets in, and until when (unix seconds of wall time)."""

    account: Account
    expires_at: float


def auth_param(account: Account) -> str:
    """`websocketAuthParam` of the account's profile: names its private channels, the same for ever (nobitex 5.1)."""
    return digest(f"ws|{account.name}|{account.opened_at.isoformat()}")[:32]


def issue(account: Account, now: datetime, lifetime: float = LIFETIME) -> str:
    """A token for the account's private streams. `now` is wall time."""
    issued_at = int(now.timestamp())
    claims = {"sub": account.name, "iat": issued_at, "exp": issued_at + int(lifetime)}
    text = f"{_encoded(_HEADER)}.{_encoded(claims)}"
    return f"{text}.{_signature(account, text)}"


def verify(token: str, now: datetime, accounts: Mapping[str, Account]) -> Pass:
    """Whom the token lets in at `now` (wall time). Raises `TokenInvalid` or `TokenExpired`."""
    text, _, signature = token.rpartition(".")
    try:
        claims = json.loads(_decoded(text.partition(".")[2]))
        account = accounts[claims["sub"]]
        expires_at = float(claims["exp"])
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise TokenInvalid("this is not a token of this exchange") from exc
    if not hmac.compare_digest(_signature(account, text).encode(), signature.encode()):
        raise TokenInvalid("the signature is not ours")
    if now.timestamp() >= expires_at:
        raise TokenExpired("the token is too old; get a new one")
    return Pass(account, expires_at)


def _signature(account: Account, text: str) -> str:
    secret = hashlib.sha256(f"stream|{account.name}|{account.nobitex_token or _FALLBACK}".encode()).digest()
    return _base64(hmac.new(secret, text.encode(), hashlib.sha256).digest())


def _encoded(values: Mapping[str, object]) -> str:
    return _base64(json.dumps(values, separators=(",", ":")).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
