"""The paper exchange in process and on virtual time: no sockets, no threads, no event loop, no waiting.

A request is carried in two steps, so that a world decides when each happens: `begin` when it reaches the exchange's
door, `process` at the one moment the exchange acts on it. What the fault plan does to time is told, not slept. The same
inputs give the same bytes.

    exchange = SimExchange(clock)
    trader = exchange.open_account("ann", {"wallex": {"USDT": "10000"}})
    client = trader.client("wallex", transport=InstantTransport(exchange, "wallex"), clock=clock, ...)
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlencode

import numpy as np
from starlette.datastructures import QueryParams
from starlette.requests import Request as FaceRequest
from starlette.responses import Response
from starlette.routing import Route

from providers.clock import Clock, HostTime
from providers.nobitex.client import NobitexClient
from providers.paper.engine import Exchange, to_ms
from providers.paper.faces.common import JSON, RateLimiter
from providers.paper.faces.control import venue_truth
from providers.paper.faces.injector import Call, FaultInjector
from providers.paper.faces.nobitex import NobitexFace
from providers.paper.faces.wallex import WallexFace
from providers.paper.faces.wire_faults import Answer, whole_answer
from providers.paper.faults import FaultRule
from providers.paper.feeds.base import Bars, Bools, Ints, PairSpec, Ticks, bars_from_ticks
from providers.paper.ledger import Entry
from providers.paper.orders import Book
from providers.paper.profiles import VenueProfile, venue_profiles
from providers.paper.store import MemoryStore
from providers.transport import Lost, NotSent, Reply, Request
from providers.types import BookLevel
from providers.wallex.client import WallexClient

__all__ = [
    "Arrival",
    "InstantTransport",
    "Liquidity",
    "Lost",
    "NotSent",
    "Outcome",
    "SimExchange",
    "SimFeed",
    "Trader",
    "VirtualTime",
]

START = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
PAIRS = ("BTC/USDT", "BTC/IRT", "USDT/IRT")
VENUES = ("wallex", "nobitex")
BASE_URL = "http://exchange.invalid"
_ADDRESS = ("127.0.0.1", 1)
_NO_TICKS = Ticks.joined([])


class VirtualTime:
    """The platform's clock and the host's time in one, moved by hand; whoever sleeps moves it."""

    speed = 1.0

    def __init__(self, start: datetime = START) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def step(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def host(self) -> HostTime:
        """This time, for clients: without chance."""
        return HostTime(monotonic=self.monotonic, wall=self.monotonic, sleep=self.step, jitter=lambda most: most / 2)

    def monotonic(self) -> float:
        """Unix seconds here, for nobody sets this clock back."""
        return self._now.timestamp()


# --- prices ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Liquidity:
    """The shape of a book: `spread` between the best prices and `step` between levels are shares of the price;
    `quantity` (base) stands on the best level and `growth` times as much on each next one."""

    spread: Decimal = Decimal("0.0004")
    step: Decimal = Decimal("0.004")
    levels: int = 6
    quantity: Decimal = Decimal(2)
    growth: Decimal = Decimal(1)


_USUAL = Liquidity()


class SimFeed:
    """Prices that the world sets, each a trade at its moment. The books are a function of price and liquidity; what was
    taken from one comes back with the next price, and with every `refresh` seconds."""

    name = "simulated"
    ends_at = None

    def __init__(self, pairs: tuple[str, ...], venues: tuple[str, ...], *, refresh: float = 1.0) -> None:
        self.specs: Mapping[str, PairSpec] = {
            pair: PairSpec(pair, Decimal("0.01") if pair.endswith("USDT") else Decimal(1), Decimal("0.00000001"), 0)
            for pair in pairs
        }
        self.trade_lots = 10**7  # base of each trade, in units of the lot
        self._refresh_ms = int(refresh * 1000)
        self._default = venues[0]
        self._asked_until = 0  # what was lived through can have no more trades
        self._times: dict[tuple[str, str], list[int]] = {(v, p): [] for v in venues for p in pairs}
        self._prices: dict[tuple[str, str], list[int]] = {(v, p): [] for v in venues for p in pairs}
        self._shapes: dict[tuple[str, str], _Shape] = {key: _Shape(_USUAL, self.specs[key[1]]) for key in self._times}

    def push(self, pair: str, price: Decimal, at_ms: int, venue: str | None = None) -> None:
        """A trade at `price`, at `venue` or everywhere; after the last one, and after what was asked about already: of
        the same millisecond, a millisecond later."""
        ticks = max(int(price / self.specs[pair].tick), 1)
        for key, times in self._times.items():
            if key[1] == pair and venue in (None, key[0]):
                times.append(max(at_ms, self._asked_until + 1, times[-1] + 1 if times else at_ms))
                self._prices[key].append(ticks)

    def shape(self, pair: str, liquidity: Liquidity, venue: str | None = None) -> None:
        """From now on the book looks like this."""
        for key in self._times:
            if key[1] == pair and venue in (None, key[0]):
                self._shapes[key] = _Shape(liquidity, self.specs[pair])

    def price(self, venue: str, pair: str) -> Decimal:
        """Of the last trade laid down, also of one to come."""
        return self.specs[pair].price(self._prices[venue, pair][-1])

    # -- providers.paper.feeds.base.Feed ------------------------------------------------------------------------------

    def is_still(self, after_ms: int, until_ms: int) -> bool:
        return False

    def ticks(self, venue: str, pair: str, after_ms: int, until_ms: int) -> Ticks:
        times = self._times[venue or self._default, pair]
        self._asked_until = max(self._asked_until, until_ms)
        if not times or times[-1] <= after_ms:
            return _NO_TICKS
        first, last = bisect_right(times, after_ms), bisect_right(times, until_ms)
        return self._rows(venue, pair, first, last) if first < last else _NO_TICKS

    def last_tick(self, venue: str, pair: str, now_ms: int) -> Ticks:
        last = bisect_right(self._times[venue or self._default, pair], now_ms)
        return self._rows(venue, pair, last - 1, last) if last else _NO_TICKS

    def bars(self, venue: str, pair: str, start_s: int, end_s: int, now_ms: int) -> Bars:
        return bars_from_ticks(self.ticks(venue, pair, start_s * 1000 - 1, min(end_s * 1000 - 1, now_ms)), 60)

    def complete_until(self, venue: str, pair: str, now_ms: int) -> int:
        return now_ms // 1000

    def book(self, venue: str, pair: str, now_ms: int) -> Book:
        times = self._times[venue, pair]
        last = max(bisect_right(times, now_ms) - 1, 0)
        bids, asks = self._shapes[venue, pair].sides(self._prices[venue, pair][last])
        return Book(bids, asks, version=max(times[last], now_ms - now_ms % self._refresh_ms))

    def nudge(self, pair: str, price: Decimal, now_ms: int) -> None:
        self.push(pair, price, now_ms + 1)

    def close(self) -> None:
        """Nothing to close."""

    def _rows(self, venue: str, pair: str, first: int, last: int) -> Ticks:
        key, count = (venue or self._default, pair), last - first
        return Ticks(
            np.array(self._times[key][first:last], np.int64),
            np.array(self._prices[key][first:last], np.int64),
            *(_one_trade(self.trade_lots) if count == 1 else _trades(self.trade_lots, count)),
        )


class _Shape:
    """The books of one pair at any price, each made once."""

    def __init__(self, liquidity: Liquidity, spec: PairSpec) -> None:
        self._spec = spec
        self._made: dict[int, tuple[tuple[BookLevel, ...], tuple[BookLevel, ...]]] = {}
        away = (liquidity.spread / 2 + liquidity.step * number for number in range(liquidity.levels))
        quantities = (liquidity.quantity * liquidity.growth**number for number in range(liquidity.levels))
        # Of each level: its distance as a share of the price, in whole numbers, and what stands on it.
        self._levels = [
            (*share.as_integer_ratio(), quantity.quantize(spec.lot, ROUND_DOWN))
            for share, quantity in zip(away, quantities, strict=True)
        ]

    def sides(self, ticks: int) -> tuple[tuple[BookLevel, ...], tuple[BookLevel, ...]]:
        """Bids and asks where the price is so many ticks."""
        made = self._made.get(ticks)
        if made is None:
            made = self._made[ticks] = self._side(ticks, -1), self._side(ticks, 1)
        return made

    def _side(self, ticks: int, sign: int) -> tuple[BookLevel, ...]:
        levels, before = [], ticks
        for share, of, quantity in self._levels:
            away = ticks * share // of
            at = max(ticks + away, before + 1) if sign > 0 else min(ticks - away, before - 1)
            if at < 1:
                break
            levels.append(BookLevel(self._spec.price(at), quantity))
            before = at
        return tuple(levels)


def _trades(lots: int, count: int) -> tuple[Ints, Bools]:
    """The volumes of so many trades alike, and who bought."""
    return np.array([lots] * count, np.int64), np.array([True] * count, np.bool_)


@lru_cache
def _one_trade(lots: int) -> tuple[Ints, Bools]:
    return _trades(lots, 1)


# --- the exchange ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Arrival:
    """A request that reached the exchange. In `delay` (virtual seconds) the connection closes if it `is_dropped`, with
    nothing done there; else it is processed: call `process` then."""

    venue: str
    request: Request
    delay: float
    is_dropped: bool
    faults: tuple[str, ...]  # the kinds that hit it
    call: Call
    scope: dict[str, Any]
    instead: Answer | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the exchange did with a request. In `delay` (virtual seconds) the last byte of `reply` is there, or the
    connection closes without an answer where it is None."""

    reply: Reply | None
    delay: float


class _FaceRequest(FaceRequest):
    """A request whose body and query are there already."""

    def __init__(self, scope: dict[str, Any], content: bytes) -> None:
        super().__init__(scope)
        self._content = content
        self._query = QueryParams(scope["query"])

    @property
    def query_params(self) -> QueryParams:
        return self._query

    async def body(self) -> bytes:
        return self._content


class _Headers(dict[str, str]):
    """In lower case, looked up in any."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class _Outgoing:
    """What an `AuthBase` signs: the part of a prepared request that it looks at."""

    __slots__ = ("body", "headers", "method", "path_url")

    def __init__(self, request: Request, path_url: str) -> None:
        self.method, self.body, self.path_url = request.method, request.body, path_url
        self.headers = {} if request.body is None else {"Content-Type": "application/json"}


class SimExchange:
    """Both venues (or those named) with real matching, real ledgers and the real wire faces."""

    def __init__(
        self,
        clock: Clock,
        *,
        pairs: tuple[str, ...] = PAIRS,
        venues: tuple[str, ...] = VENUES,
        switches: Mapping[str, Mapping[str, object]] | None = None,
        prices: Mapping[str, Decimal] | None = None,
        rate_limits: bool = False,
    ) -> None:
        """`switches` by venue, as profiles.py names them; every pair stands at 100 unless `prices` says otherwise."""

        def unix() -> float:
            return clock.now().timestamp()

        self.clock = clock
        self.feed = SimFeed(pairs, venues)
        for pair in pairs:
            self.feed.push(pair, (prices or {}).get(pair, Decimal(100)), to_ms(clock.now()))
        self.store = MemoryStore()
        profiles = _profiles(pairs, venues, _lean(switches or {}, rate_limits))
        self.exchange = Exchange(self.feed, clock, self.store, profiles)
        self.faults = self.exchange.faults
        self._injector = FaultInjector(self.exchange, wall=unix)
        limiter = RateLimiter(enabled=rate_limits, monotonic=unix)
        self._routes: dict[str, _Routes] = {}
        if "wallex" in venues:
            self._routes["wallex"] = _Routes(WallexFace(self.exchange, limiter).routes())
        if "nobitex" in venues:
            self._routes["nobitex"] = _Routes(NobitexFace(self.exchange, limiter, wall=unix).routes())

    # -- the world's hands -------------------------------------------------------------------------------------------

    def set_price(self, pair: str, price: Decimal, *, venue: str | None = None, at: datetime | None = None) -> None:
        """A trade at `price`, now or `at` a later moment; in order. The exchange lives through it when it is next asked
        something (or told to `advance`), at the moment it happened."""
        self.feed.push(pair, price, to_ms(at or self.clock.now()), venue)

    def shape_book(self, pair: str, liquidity: Liquidity, *, venue: str | None = None) -> None:
        self.feed.shape(pair, liquidity, venue)

    def add_fault(self, rule: FaultRule) -> int:
        return self.faults.add(rule)

    def advance(self) -> datetime:
        """Let the market live up to now."""
        return self.exchange.advance()

    def open_account(self, name: str, balances: Mapping[str, Mapping[str, str | Decimal]]) -> Trader:
        """`balances` by venue and asset (toman is IRT). Keys follow from the number of the account."""
        number = len(self.exchange.accounts) + 1
        keys = f"{number}|simulated{number:08d}", f"{number:040x}"
        held = {venue: {asset: Decimal(v) for asset, v in amounts.items()} for venue, amounts in balances.items()}
        self.exchange.open_account(name, wallex_key=keys[0], nobitex_token=keys[1], balances=held)
        return Trader(self, name, *keys)

    # -- a request ---------------------------------------------------------------------------------------------------

    def begin(self, venue: str, request: Request) -> Arrival:
        """A request reaches the venue: the fault plan decides what goes wrong with it. Nothing is done yet."""
        scope, headers = _scope(request)
        call = self._injector.arrived(venue, request.method, scope["path"], headers)
        if call.is_untouched:
            return Arrival(venue, request, 0.0, False, (), call, scope, None)
        step = self._injector.before(call)
        kinds = tuple(fault.kind.value for fault in call.faults) or ("maintenance",)
        return Arrival(venue, request, step.delay, step.drop is not None, kinds, call, scope, step.answer)

    def process(self, arrival: Arrival) -> Outcome:
        """The exchange acts on the request, now and at once, and answers."""
        call = arrival.call
        answer = arrival.instead or self._answer(arrival)
        if call.is_untouched:
            return Outcome(self._reply(call, answer), 0.0)
        step = self._injector.after(call, answer)
        if step.drop is not None or step.answer is None:
            return Outcome(None, step.delay)
        dribble = len(step.answer.body) / call.bytes_per_second if call.bytes_per_second else 0.0
        return Outcome(self._reply(call, step.answer), step.delay + dribble)

    def _answer(self, arrival: Arrival) -> Answer:
        endpoint, path_params, status = self._routes[arrival.venue].find(arrival.request.method, arrival.scope["path"])
        if endpoint is None:
            return whole_answer(status, (), JSON({"message": HTTPStatus(status).phrase}).body)
        request = _FaceRequest(arrival.scope | {"path_params": path_params}, arrival.request.body or b"")
        response = _finished(endpoint(request))
        return whole_answer(response.status_code, response.raw_headers, bytes(response.body))

    def _reply(self, call: Call, answer: Answer) -> Reply:
        headers = _Headers({name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers})
        headers |= {"content-type": answer.content_type, "date": self._injector.date(call)}
        return Reply(answer.status, headers, answer.body)

    # -- the truth ---------------------------------------------------------------------------------------------------

    def truth(self, account: str, venue: str) -> dict[str, Any]:
        """What the books of the venue say of an account, up to now: deposits, balances, orders, trades."""
        self.exchange.advance()
        return venue_truth(self.exchange.venues[venue], account)

    def entries(self, venue: str) -> list[Entry]:
        """Everything ever booked at a venue, oldest first."""
        return self.exchange.all_entries(venue)

    def conservation(self) -> str:
        """`ok`, or what is wrong with the books."""
        return self.exchange.conservation()


@dataclass(frozen=True, slots=True)
class Trader:
    """One account and its keys."""

    exchange: SimExchange
    name: str
    wallex_key: str
    nobitex_token: str

    def client(self, venue: str, **options: Any) -> Any:
        """The platform's own client of this account; `options` are its keywords: transport, clock, host, budget,
        breaker."""
        if venue == "wallex":
            return WallexClient(BASE_URL, api_key=self.wallex_key, **options)
        return NobitexClient(BASE_URL, api_key=self.nobitex_token, **options)


class InstantTransport:
    """Carries requests at once; what the plan delays moves the clock, where there is a `sleep`. Dropped connections are
    `Lost`: the request was sent."""

    def __init__(self, exchange: SimExchange, venue: str, *, sleep: Callable[[float], None] | None = None) -> None:
        self._exchange, self._venue = exchange, venue
        self._sleep = sleep or (lambda seconds: None)

    def send(self, request: Request) -> Reply:
        arrival = self._exchange.begin(self._venue, request)
        self._sleep(arrival.delay)
        if arrival.is_dropped:
            raise Lost("the connection closed without an answer")
        outcome = self._exchange.process(arrival)
        self._sleep(outcome.delay)
        if outcome.reply is None:
            raise Lost("the connection closed without an answer")
        return outcome.reply


# --- how it is done -------------------------------------------------------------------------------------------------

Endpoint = Callable[[FaceRequest], Coroutine[Any, Any, Response]]


class _Routes:
    """The routes of one face: those without parameters by name, the others in their order."""

    def __init__(self, routes: list[Route]) -> None:
        self._plain: dict[tuple[str, str], Endpoint] = {}
        self._patterns: list[tuple[re.Pattern[str], set[str], Endpoint]] = []
        for route in routes:
            methods = set(route.methods or ())
            if not route.param_convertors:
                self._plain.update({(method, route.path): route.endpoint for method in methods})
            self._patterns.append((route.path_regex, methods, route.endpoint))

    def find(self, method: str, path: str) -> tuple[Endpoint | None, dict[str, str], int]:
        """(who answers, the parameters of the path, else the status of nobody)."""
        endpoint = self._plain.get((method, path))
        if endpoint is not None:
            return endpoint, {}, 200
        status = 404
        for pattern, methods, candidate in self._patterns:
            if (match := pattern.match(path)) is not None:
                if method in methods:
                    return candidate, match.groupdict(), 200
                status = 405
        return None, {}, status


def _profiles(
    pairs: tuple[str, ...], venues: tuple[str, ...], switches: Mapping[str, Mapping[str, object]]
) -> tuple[VenueProfile, ...]:
    chosen = (profile for profile in venue_profiles(pairs) if profile.name in venues)
    return tuple(profile.with_switches(**switches.get(profile.name, {})) for profile in chosen)


def _lean(switches: Mapping[str, Mapping[str, object]], rate_limits: bool) -> dict[str, Mapping[str, object]]:
    """Wallex shows as many trades as the last price needs, and counts calls only where it limits them."""
    lean = {"public_trades_shown": 1, "rate_limit_headers": rate_limits}
    return {**switches, "wallex": {**lean, **switches.get("wallex", {})}}


def _scope(request: Request) -> tuple[dict[str, Any], dict[str, str]]:
    """The request as ASGI has it, and its headers in lower case."""
    told = [(name, str(value)) for name, value in (request.params or {}).items() if value is not None]
    query = urlencode(told) if told else ""
    outgoing = _Outgoing(request, f"{request.path}?{query}" if query else request.path)
    if request.auth is not None:
        request.auth(outgoing)  # type: ignore[arg-type]
    headers = {name.lower(): value for name, value in outgoing.headers.items()}
    scope = {
        "type": "http",
        "method": request.method,
        "path": unquote(request.path) if "%" in request.path else request.path,
        "raw_path": request.path.encode(),
        "query_string": query.encode(),
        "query": told,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": _ADDRESS,
    }
    return scope, headers


def _finished(answering: Coroutine[Any, Any, Response]) -> Response:
    """The faces never wait: one step ends them."""
    try:
        answering.send(None)
    except StopIteration as done:
        response: Response = done.value
        return response
    raise RuntimeError("a face of the paper exchange waited for something")
