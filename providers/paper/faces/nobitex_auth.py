"""Who asks, and whether they may: Nobitex' token and Ed25519 keys, and what happens to those who ignore limits.

Contract: nobitex 2.1, 3 and 11. Signatures and blocks live in wall time, whatever the market's clock does.
"""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.requests import Request

from providers.paper.engine import Account, Exchange, digest
from providers.paper.faces.common import Limit, RateLimiter, client_ip
from providers.paper.faces.nobitex_params import Failure
from providers.paper.keys import NOBITEX, NOBITEX_TOKEN, ApiKey, public_bytes

READ, TRADE = "READ", "TRADE"  # TRADE does not imply READ (nobitex 3.2)
_TOKEN = re.compile(r"Token ([0-9a-f]{40})")
_NO_CREDENTIALS = "اطلاعات برای اعتبارسنجی ارسال نشده است."
_UNKNOWN_TOKEN = "توکن غیر مجاز"  # noqa: S105 - a sentence
_BAD_KEY = "کلید API نامعتبر است"
_BAD_SIGNATURE = "امضای درخواست نامعتبر است"
_STALE = "زمان درخواست معتبر نیست"
_FORBIDDEN = "شما مجاز به انجام این عملیات نیستید."


class NotAuthenticated(Exception):
    """Auth errors have a shape of their own: `{"detail": …}` (nobitex 2)."""

    def __init__(self, detail: str, status: int = 401) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(slots=True)
class _Blocks:
    """Until when (monotonic seconds) an address or an account is shut out, and how close others are to it."""

    accounts: dict[str, float]
    refusals: dict[str, int]  # 429s in a row, by account
    failures: dict[str, tuple[float, int]]  # window's beginning and failed logins in it, by address


class Doorman:
    """Authenticates requests, counts them, and shuts out who does not listen."""

    def __init__(
        self,
        exchange: Exchange,
        limiter: RateLimiter,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exchange = exchange
        self._limiter = limiter
        self._wall = wall
        self._monotonic = monotonic
        self._blocks = _Blocks({}, {}, {})

    def _switch(self, name: str) -> float:
        return float(self._exchange.venues["nobitex"].profile.switch(name))

    # -- limits --------------------------------------------------------------------------------------------------

    def count(self, limit: Limit | None, what: str, who: str, *, is_account: bool = False) -> None:
        """Count one request. Raises `Failure` (429) when there were too many."""
        if limit is None:
            return
        verdict = self._limiter.hit(limit, "nobitex", what, who)
        if not verdict.allowed:
            if is_account:
                self._note_refusal(who)
            raise too_many(verdict.back_off, verdict.count)

    def note_success(self, account: str) -> None:
        """A request within its limit ends a row of refusals."""
        self._blocks.refusals.pop(account, None)

    def _note_refusal(self, account: str) -> None:
        refusals = self._blocks.refusals.get(account, 0) + 1
        self._blocks.refusals[account] = refusals
        most = int(self._switch("token_block_after"))
        if most and refusals >= most:
            self._blocks.accounts[account] = self._monotonic() + self._switch("token_block_seconds")
            self._blocks.refusals.pop(account)

    def check_account(self, account: str) -> None:
        """Raises `Failure` while the account is blocked on all addresses."""
        left = self._blocks.accounts.get(account, 0.0) - self._monotonic()
        if left > 0 and self._limiter.enabled:
            raise too_many(int(left) + 1, 0)

    def check_address(self, request: Request) -> None:
        """Raises `Failure` while the sender's address is blocked for its failed logins."""
        began, failures = self._blocks.failures.get(client_ip(request), (0.0, 0))
        left = began + self._switch("failed_auth_seconds") - self._monotonic()
        if failures > self._switch("failed_auth_limit") and left > 0 and self._limiter.enabled:
            raise too_many(int(left) + 1, 0)

    def _note_failure(self, request: Request) -> None:
        now = self._monotonic()
        began, failures = self._blocks.failures.get(client_ip(request), (now, 0))
        if now - began >= self._switch("failed_auth_seconds"):
            began, failures = now, 0
        self._blocks.failures[client_ip(request)] = (began, failures + 1)

    # -- who -----------------------------------------------------------------------------------------------------

    def account_of(self, request: Request, raw_body: bytes, permission: str | None, now: datetime) -> Account:
        """The account that asks. `permission` is what an API key needs; with None only a token will do.

        Raises `NotAuthenticated`.
        """
        if "nobitex-key" in request.headers:
            return self._by_key(request, raw_body, permission, now)
        header = request.headers.get("authorization")
        if not header:
            raise NotAuthenticated(_NO_CREDENTIALS)
        match = _TOKEN.fullmatch(header)
        account = self._exchange.account_for_nobitex(match[1]) if match else None
        if match is None or account is None or not self._token_lives(match[1], now):
            self._note_failure(request)
            raise NotAuthenticated(_UNKNOWN_TOKEN)
        return account

    def _token_lives(self, token: str, now: datetime) -> bool:
        lifetime = self._switch("token_lifetime_seconds")
        given = self._exchange.keys.get(NOBITEX_TOKEN, digest(token))
        return not lifetime or given is None or now < given.created_at + timedelta(seconds=lifetime)

    def _by_key(self, request: Request, raw_body: bytes, permission: str | None, now: datetime) -> Account:
        key = self._exchange.keys.get(NOBITEX, request.headers["nobitex-key"])
        if key is None or not key.is_live(now):
            self._note_failure(request)
            raise NotAuthenticated(_BAD_KEY)
        self._check_signature(request, raw_body, key)
        if permission is None or permission not in key.permissions or not key.may_come_from(client_ip(request)):
            raise NotAuthenticated(_FORBIDDEN, 403)
        return self._exchange.accounts[key.account]

    def _check_signature(self, request: Request, raw_body: bytes, key: ApiKey) -> None:
        stamp = request.headers.get("nobitex-timestamp", "")
        is_number = stamp.isascii() and stamp.isdigit() and len(stamp) <= 12
        if not is_number or abs(int(stamp) - self._wall()) > self._switch("signature_window_seconds"):
            self._note_failure(request)
            raise NotAuthenticated(_STALE)
        message = signed_message(stamp, request, raw_body)
        try:
            signature = urlsafe_b64decode(request.headers.get("nobitex-signature", ""))
            Ed25519PublicKey.from_public_bytes(public_bytes(key.id)).verify(signature, message)
        except (InvalidSignature, ValueError) as exc:
            self._note_failure(request)
            raise NotAuthenticated(_BAD_SIGNATURE) from exc


def signed_message(stamp: str, request: Request, raw_body: bytes) -> bytes:
    """Timestamp, method, path with query and body, each as it came over the wire (nobitex 3.2)."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return stamp.encode() + request.method.encode() + path + (b"?" + query if query else b"") + raw_body


def too_many(seconds: int, limit: int) -> Failure:
    """The answer of 2.1."""
    text = f"تعداد درخواست بیش از حد مجاز است. لطفا {seconds} ثانیه صبر کنید."
    return Failure("TooManyRequests", text, 429, backOff=seconds, limit=limit)
