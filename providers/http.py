"""How a request reaches an exchange, and what may be concluded from what comes back.

The question behind every line is: *may the exchange have acted on it?* What was provably not sent is `Unavailable`; a
write that was sent and has no usable answer is `OutcomeUnknown`; the same on a read is `Unavailable` or `BadPayload`.
A write is one request on the wire, whatever happens. Reads are tried up to three times where they fail quickly; one
that hangs is not asked again, for others wait in the same loop. What carries a request is a transport (transport.py).
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from providers.breaker import Breaker, CircuitBreaker
from providers.budgets import Priority, RateBudget, current_priority, time_to_send
from providers.clock import HOST, HostTime
from providers.errors import (
    AuthFailed,
    BadPayload,
    CircuitOpen,
    OrderNotFound,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    Unavailable,
)
from providers.redaction import redact, register_secret
from providers.tally import CALL_BOUNDS, CALL_SECONDS, CALLS, TALLY
from providers.transport import (
    READ_TIMEOUT,
    TOTAL_TIMEOUT,
    NotSent,
    Reply,
    Request,
    RequestsTransport,
    Transport,
    TransportError,
)
from providers.wire import to_amount

logger = logging.getLogger("providers.http")

CLIENT_VERSION = "0.1.0"  # sent in the User-Agent; equal to the version in pyproject.toml
READ_ATTEMPTS = 3
READ_GIVES_UP_AFTER = 4.0  # no further attempt of a read begins later than this: who hangs is asked once, not thrice
RETRY_WAIT, LONGEST_RETRY_WAIT = 0.1, 0.5  # at most, before the second attempt; doubled before each further one

T = TypeVar("T")


# --- authentication -------------------------------------------------------------------------------------------------


class HeaderAuth(AuthBase):
    """One static header. A scheme that signs takes its place: it sees the final path, query and body bytes."""

    def __init__(self, header: str, secret: str, prefix: str = "") -> None:
        if not re.fullmatch(r"[!-~]+", secret):
            raise AuthFailed("the API key is empty or holds spaces or non-ASCII characters: copy it again")
        register_secret(secret)
        register_secret(secret.rpartition("|")[2])
        self._header, self._value = header, prefix + secret

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        r.headers[self._header] = self._value
        return r

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._header}: ***)"


# --- one request ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of an exchange. `write` means that calling it can change something there."""

    name: str
    method: str
    path: str
    budget: str = "default"
    write: bool = False
    private: bool = False
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON body and its status. `payload` is None for a 404 or 405 that is not JSON: no such address."""

    status: int
    payload: Any

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class HttpSession:
    """Calls to one exchange with one key. `auth` None means: public addresses only."""

    def __init__(
        self,
        provider: str,
        base_url: str,
        *,
        auth: AuthBase | None,
        budget: RateBudget,
        breaker: Breaker | None = None,
        headers: Mapping[str, str] | None = None,
        total_timeout: float = TOTAL_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        transport: Transport | None = None,
        host: HostTime = HOST,
    ) -> None:
        """`transport`, where one is handed in, takes the place of sockets to `base_url`; headers and timeouts are then
        its own affair. `host` is the time in which waiting is done."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{provider} base URL must look like https://host[/prefix], not {redact(base_url)!r}")
        self.provider = provider
        self.has_key = auth is not None
        self.host = host
        self._base_url = base_url.rstrip("/")
        self._auth, self._budget = auth, budget
        self._breaker = breaker or CircuitBreaker(provider, monotonic=host.monotonic)
        self.clock_difference: timedelta | None = None  # theirs minus ours, by the Date of the last answer
        self._transport = transport or RequestsTransport(
            self._base_url, headers=headers, total_timeout=total_timeout, read_timeout=read_timeout
        )

    def __repr__(self) -> str:
        return f"HttpSession({self.provider}, {redact(self._base_url)})"

    def ready(self, endpoint: Endpoint, calls: int = 1) -> bool:
        """Whether `calls` requests would go out now without waiting for a budget; with the priority that they would be
        made with. An exchange that does not answer is ready whenever it may be tried again: who only calls when told
        that he may would never find out that it is back."""
        priority = current_priority(endpoint.priority)
        may_try = self._breaker.would_admit(priority, is_read=not endpoint.write, caller=self._caller(endpoint))
        return may_try and self._budget.ready(endpoint.budget, priority, calls)

    def call(
        self,
        endpoint: Endpoint,
        interpret: Callable[[Answer], T],
        *,
        path: str | None = None,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        calls: int = 1,
    ) -> T:
        """Send, judge, and return what `interpret` makes of the answer. Only provider errors come out. `calls` is what
        the exchange counts this request as: a batch of orders counts as many."""

        def once() -> T:
            return self._once(endpoint, interpret, path or endpoint.path, params, body, calls)

        return once() if endpoint.write else self._until_answered(once)

    def _until_answered(self, once: Callable[[], T]) -> T:
        """A read, again where it fails quickly. `RateLimited` is not tried again: the budget waits by itself, and where
        the attempts were too many for it, why the first failed is the news."""
        began, first = self.host.monotonic(), None
        for attempt in range(READ_ATTEMPTS):
            try:
                return once()
            except Unavailable as exc:
                failure = exc
            if isinstance(failure, RateLimited):
                raise failure if first is None or isinstance(failure, CircuitOpen) else first
            first = first or failure
            if self.host.monotonic() - began >= READ_GIVES_UP_AFTER:
                break
            if attempt + 1 < READ_ATTEMPTS:
                self.host.sleep(self.host.jitter(min(RETRY_WAIT * 2**attempt, LONGEST_RETRY_WAIT)))
        raise failure

    def _once(
        self,
        endpoint: Endpoint,
        interpret: Callable[[Answer], T],
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        calls: int,
    ) -> T:
        started = self.host.monotonic()
        error: ProviderError
        try:
            if endpoint.private and not self.has_key:
                raise AuthFailed(f"{self.provider} {endpoint.name} needs an API key and none is set")
            priority = current_priority(endpoint.priority)
            self._breaker.admit(priority, is_read=not endpoint.write, caller=self._caller(endpoint))
            self._budget.acquire(endpoint.budget, priority, calls)
            self._check_in_time(endpoint, started)
            understood = self._understood(endpoint, interpret, self._exchange(endpoint, path, params, body))
            self._count(endpoint, "ok")
            return understood
        except ProviderError as exc:
            error = self._unusable(endpoint, exc) if isinstance(exc, BadPayload) else exc
        except (ValueError, ArithmeticError, RecursionError) as exc:  # what got past the schema, an absurd date say
            error = self._unusable(endpoint, exc)
        self._count(endpoint, _snake(type(error).__name__))
        self._log(endpoint, path, error, self.host.monotonic() - started)
        raise error  # outside the except: the library's exception, which may hold headers, is not chained

    def _check_in_time(self, endpoint: Endpoint, began: float) -> None:
        """The last look at the clock before a byte leaves."""
        allowed = time_to_send()
        if endpoint.write and allowed is not None and self.host.monotonic() - began > allowed:
            raise Unavailable(f"{self.provider} {endpoint.name}: it took too long to come to send it; nothing was sent")

    def _understood(self, endpoint: Endpoint, interpret: Callable[[Answer], T], answer: Answer) -> T:
        """What `interpret` makes of it. "Too often" may stand in a body with any status (contract: nobitex 2.1): then
        the budget must know as well."""
        try:
            return interpret(answer)
        except RateLimited as exc:
            self._budget.refused(endpoint.budget, exc.retry_after)
            raise

    def _caller(self, endpoint: Endpoint) -> tuple[object, bool]:
        """Who waits for whose failures at the breaker: of this session, writes for writes and reads for reads."""
        return self, endpoint.write

    def _exchange(
        self, endpoint: Endpoint, path: str, params: Mapping[str, Any] | None, body: Mapping[str, Any] | None
    ) -> Answer:
        """One request on the wire and its answer."""
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        auth = self._auth if endpoint.private else None
        sent = self.host.monotonic()
        try:
            reply = self._transport.send(Request(endpoint.method, path, params, content, auth))
        except TransportError as exc:
            failure = exc
        else:
            return self._judge(endpoint, reply)
        finally:
            TALLY.observe(CALL_SECONDS, self.host.monotonic() - sent, CALL_BOUNDS, exchange=self.provider)
        self._breaker.failed(self._caller(endpoint))
        raise self._broken(endpoint, failure)

    def _judge(self, endpoint: Endpoint, reply: Reply) -> Answer:
        """What the status alone says; business answers, good or bad, are the client's to read."""
        status = reply.status
        payload, problem = _decode(reply)
        if status == 408 or status >= 500 or (problem and (status == 403 or 200 <= status < 300)):
            self._breaker.failed(self._caller(endpoint))
        else:
            self._breaker.succeeded()
        self._observe(endpoint, reply)
        if status == 429:
            raise self._refused(endpoint, reply, payload)
        if status in (401, 403):
            raise self._denied(endpoint, status, problem)
        if status == 408 or status >= 500:
            raise self._unanswered(endpoint, f"HTTP {status}")
        if 300 <= status < 400:
            raise self._unusable(endpoint, f"HTTP {status}, a redirect, which is never followed: check the base URL")
        if problem and status not in (404, 405):
            raise self._unusable(endpoint, f"HTTP {status}, {problem}")
        return Answer(status, None if problem else payload)

    def _observe(self, endpoint: Endpoint, reply: Reply) -> None:
        with suppress(ValueError, TypeError, OverflowError):
            stated = _date(reply.headers.get("Date", ""))  # whole seconds, cut off
            self.clock_difference = stated + timedelta(seconds=0.5) - datetime.fromtimestamp(self.host.wall(), UTC)
        remaining = reply.headers.get("X-RateLimit-Remaining", "")
        if remaining.isascii() and remaining.isdigit() and len(remaining) < 9:
            self._budget.observed(endpoint.budget, int(remaining))

    # --- the errors, each saying what is safe ---

    def _refused(self, endpoint: Endpoint, reply: Reply, payload: Any) -> RateLimited:
        seconds = self._budget.refused(endpoint.budget, stated_wait(reply.headers, payload, self.host.wall()))
        text = f"{self._subject(endpoint)}: HTTP 429, called too often; nothing was done; wait {seconds:g} s"
        return RateLimited(text, retry_after=seconds)

    def _denied(self, endpoint: Endpoint, status: int, problem: str) -> ProviderError:
        """A 403 that is a page comes from what stands in front of the exchange, and says nothing about the key
        (contract: wallex 1.5, nobitex 1)."""
        if problem and status == 403:
            text = "HTTP 403 with a page instead of JSON (is this address blocked there?); nothing was done"
            return Unavailable(f"{self._subject(endpoint)}: {text}")
        if not endpoint.private:
            return Unavailable(f"{self._subject(endpoint)}: HTTP {status} on a public address; nothing was done")
        return AuthFailed(
            f"{self._subject(endpoint)}: HTTP {status}; the key is wrong, expired, lacks the permission or "
            "may not be used from this address; nothing was done; stop using it and check the account"
        )

    def _broken(self, endpoint: Endpoint, failure: TransportError) -> ProviderError:
        if isinstance(failure, NotSent):
            text = f"{self._subject(endpoint)}: could not connect, nothing was sent, safe to try again: {failure}"
            return Unavailable(redact(text)[:400])
        return self._unanswered(endpoint, str(failure))

    def _unanswered(self, endpoint: Endpoint, failure: str) -> ProviderError:
        text = redact(f"{self._subject(endpoint)}: {failure}")[:300]
        if endpoint.write:
            return OutcomeUnknown(f"{text}; the request was sent and may have been carried out: look it up")
        return Unavailable(f"{text}; safe to try again")

    def _unusable(self, endpoint: Endpoint, problem: object) -> ProviderError:
        text = redact(f"{self._subject(endpoint)}: unusable answer: {problem}")[:400]
        if endpoint.write:
            return OutcomeUnknown(f"{text}; the request may have been carried out: look it up")
        return BadPayload(text)

    def _count(self, endpoint: Endpoint, outcome: str) -> None:
        TALLY.add(CALLS, exchange=self.provider, endpoint=endpoint.name, outcome=outcome)

    def _subject(self, endpoint: Endpoint) -> str:
        return f"{self.provider} {endpoint.name}"

    def _log(self, endpoint: Endpoint, path: str, error: ProviderError, seconds: float) -> None:
        level = logging.DEBUG if isinstance(error, OrderNotFound) else logging.WARNING
        if not logger.isEnabledFor(level):
            return
        logger.log(
            level,
            "call failed provider=%s endpoint=%s method=%s path=%s outcome=%s ms=%d detail=%s",
            *(self.provider, endpoint.name, endpoint.method, redact(path), type(error).__name__, seconds * 1000),
            redact(str(error)),
        )


@lru_cache(maxsize=64)
def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _decode(reply: Reply) -> tuple[Any, str]:
    """(payload, "") or (None, what is wrong with the body). Numbers with a point become Decimal, never float. Half a
    surrogate pair, which JSON can escape and no log, database or answer can hold, becomes U+FFFD."""
    kind = reply.headers.get("Content-Type", "").lower()
    if kind and "json" not in kind:
        return None, f"the body is {redact(kind)[:40]}, not JSON"
    try:
        payload = _JSON.decode(reply.content.decode())
        return (_whole(payload) if _ESCAPED_SURROGATE.search(reply.content) else payload), ""
    except (ValueError, RecursionError):
        return None, "the body is not JSON"


def _whole(value: Any) -> Any:
    """The same value with every text encodable."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in value.items()}
    return value


def to_json_number(text: str) -> Any:
    """A JSON number as Decimal; one too large or too long to be an amount stays text, for the schema to refuse."""
    try:
        return to_amount(text)
    except ValueError:
        return text[:60]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_JSON = json.JSONDecoder(parse_float=to_json_number, parse_constant=_no_constant)


@lru_cache(maxsize=16)  # many answers come in one second
def _date(text: str) -> datetime:
    return parsedate_to_datetime(text)


def stated_wait(headers: Mapping[str, str], payload: Any, now: float | None = None) -> float | None:
    """Seconds the exchange asked us to wait: JSON `backOff` (contract: nobitex 2.1), Retry-After in seconds or as a
    date, X-RateLimit-Reset; None when it said nothing usable. `now` is the wall clock (unix seconds)."""
    now = time.time() if now is None else now
    stated = payload.get("backOff") if isinstance(payload, dict) else None
    for candidate in (stated, headers.get("Retry-After"), headers.get("X-RateLimit-Reset")):
        with suppress(ValueError):
            seconds = float(to_amount(candidate))
            return max(seconds - now if seconds > 1e9 else seconds, 0.0)
    with suppress(ValueError, TypeError, OverflowError):
        return max(parsedate_to_datetime(headers.get("Retry-After", "")).timestamp() - now, 0.0)
    return None
