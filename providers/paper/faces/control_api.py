"""The tester's door on a port of its own, `/paper`: accounts, prices, faults, time, the request log, the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol

from starlette.requests import Request
from starlette.routing import Route

from providers.paper.engine import Exchange
from providers.paper.faces.common import amount, positive_int
from providers.paper.faces.control import Door, open_account, order_truth, trade_truth, venue_truth
from providers.paper.faults import KINDS, MOMENTS, VENUES, FaultRule, Spec
from providers.paper.profiles import meaning, switches
from providers.paper.request_log import RequestLog, as_json

MOST_REQUESTS = 10_000  # in one answer of the request log


class Streams(Protocol):
    """The open stream connections."""

    def disconnect(self, venue: str | None = None) -> int:
        """Cut those of one exchange, or all; how many there were."""
        ...


class ControlApi(Door):
    """Routes under `/paper` of the control port. Everything but health needs the token."""

    def __init__(self, exchange: Exchange, token: str, log: RequestLog, streams: Streams | None) -> None:
        super().__init__(exchange, token)
        self._log = log
        self._streams = streams

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Callable[[Request, dict[str, Any]], Any]]] = [
            ("GET", "/accounts", self.accounts),
            ("POST", "/accounts", self.open_account),
            ("GET", "/accounts/{name}", self.account),
            ("GET", "/prices", self.prices),
            ("POST", "/prices", self.move_price),
            ("GET", "/faults", self.faults),
            ("POST", "/faults", self.add_fault),
            ("DELETE", "/faults", self.clear_faults),
            ("DELETE", "/faults/{number:int}", self.remove_fault),
            ("GET", "/clock", self.clock),
            ("POST", "/clock", self.set_clock),
            ("GET", "/requests", self.requests),
            ("DELETE", "/requests", self.clear_requests),
            ("GET", "/ledger", self.ledger),
            ("GET", "/switches", self.switches),
            ("POST", "/switches", self.set_switch),
            ("POST", "/streams/disconnect", self.disconnect_streams),
        ]
        routes = [Route(path, self.guarded(handler), methods=[method]) for method, path, handler in table]
        return [Route("/health", self.health, methods=["GET"]), *routes]

    # -- accounts and prices -------------------------------------------------------------------------------------

    def accounts(self, request: Request, body: dict[str, Any]) -> Any:
        rows = self._exchange.accounts.values()
        return {"accounts": [{"name": row.name, "opened_at": row.opened_at.isoformat()} for row in rows]}

    def open_account(self, request: Request, body: dict[str, Any]) -> Any:
        """The keys are told once, here; the exchange keeps only digests."""
        name = str(body.get("name", ""))
        if name in self._exchange.accounts:
            raise ValueError(f"the account {name} exists")
        return open_account(self._exchange, body, with_new_pair=True)

    def prices(self, request: Request, body: dict[str, Any]) -> Any:
        now = self._exchange.advance()
        venues = self._exchange.venues.items()
        last = {name: {pair: str(price) for pair, price in venue.last.items()} for name, venue in venues}
        return {"now": now.isoformat(), "last": last}

    def move_price(self, request: Request, body: dict[str, Any]) -> Any:
        pair, price = str(body.get("pair", "")), amount(body.get("price"))
        if price is None:
            raise ValueError('price is needed: {"pair": "BTC/USDT", "price": "95000"}')
        self._exchange.nudge(pair, price)
        return {"pair": pair, "price": str(price)}

    # -- faults --------------------------------------------------------------------------------------------------

    def faults(self, request: Request, body: dict[str, Any]) -> Any:
        plan = self._exchange.faults
        kinds = {kind.value: _spec(spec) for kind, spec in KINDS.items()}
        return {"rules": plan.rules(), "injected": plan.injected, "kinds": kinds, "moments": MOMENTS}

    def add_fault(self, request: Request, body: dict[str, Any]) -> Any:
        number = self._exchange.add_fault(FaultRule.from_json(body))
        return next(row for row in self._exchange.faults.rules() if row["id"] == number)

    def clear_faults(self, request: Request, body: dict[str, Any]) -> Any:
        removed = len(self._exchange.faults.rules())
        self._exchange.faults.clear()
        return {"removed": removed}

    def remove_fault(self, request: Request, body: dict[str, Any]) -> Any:
        self._exchange.faults.remove(int(request.path_params["number"]))
        return {"removed": 1}

    # -- time ----------------------------------------------------------------------------------------------------

    def clock(self, request: Request, body: dict[str, Any]) -> Any:
        now, clock = self._exchange.advance(), self._exchange.clock
        offset = round(clock.offset.total_seconds(), 6)
        return {"now": now.isoformat(), "paused": clock.is_paused, "offset_seconds": offset, "speed": clock.speed}

    def set_clock(self, request: Request, body: dict[str, Any]) -> Any:
        if not body or set(body) - {"pause", "advance_seconds"}:
            raise ValueError('send {"pause": true}, {"pause": false} or {"advance_seconds": 60}')
        pause, seconds = body.get("pause"), amount(body.get("advance_seconds"))
        if pause is not None and not isinstance(pause, bool):
            raise ValueError("pause is true or false")
        if seconds is not None and seconds > 30 * 86_400:
            raise ValueError("time can be set forward by at most 30 days at once")
        if pause is not None:
            self._exchange.pause(is_paused=pause)
        if seconds is not None:
            self._exchange.set_forward(timedelta(microseconds=int(seconds * 1_000_000)))
        return self.clock(request, {})

    # -- what happened -------------------------------------------------------------------------------------------

    def requests(self, request: Request, body: dict[str, Any]) -> Any:
        query = request.query_params
        since = query.get("since", "0")
        if not (since.isascii() and since.isdigit() and len(since) < 19):
            raise ValueError("since is the id of the last entry that is known")
        wanted = {name: query[name] for name in ("venue", "account", "method", "path") if name in query}
        if "newest" in query:
            found = self._log.newest(positive_int(query["newest"], 1, MOST_REQUESTS), **wanted)
        else:
            limit = positive_int(query.get("limit"), 1000, MOST_REQUESTS)
            found = self._log.since(int(since), limit, **wanted)
        rows = [as_json(entry) for entry in found]
        return {"requests": rows, "next_since": rows[-1]["id"] if rows else int(since), "kept": len(self._log)}

    def clear_requests(self, request: Request, body: dict[str, Any]) -> Any:
        return {"removed": self._log.clear()}

    def ledger(self, request: Request, body: dict[str, Any]) -> Any:
        """All of it, or one venue's: balances, orders, trades, and every booking since the beginning."""
        venue = request.query_params.get("venue")
        if venue not in (None, *VENUES):
            raise ValueError("venue is wallex or nobitex")
        now = self._exchange.advance()
        names = [name for name in self._exchange.venues if venue in (None, name)]
        return {
            "now": now.isoformat(),
            "venues": {name: self._ledger_of(name) for name in names},
            "conservation": self._exchange.conservation(),
        }

    def _ledger_of(self, name: str) -> dict[str, Any]:
        venue, accounts = self._exchange.venues[name], list(self._exchange.accounts)
        entries = self._exchange.all_entries(name)
        return {
            "accounts": {account: venue_truth(venue, account, with_orders=False) for account in accounts},
            "orders": [order_truth(venue, o) | {"account": a} for a in accounts for o in venue.records.of(a)],
            "trades": [trade_truth(venue, t) | {"account": a} for a in accounts for t in venue.records.trades(a)],
            "postings": [
                {
                    "entry": entry.id, "kind": entry.kind, "at": entry.at.isoformat(), "account": posting.account,
                    "asset": posting.asset, "amount": str(posting.amount),
                }
                for entry in entries
                for posting in entry.postings
            ],
        }  # fmt: skip

    # -- habits and streams --------------------------------------------------------------------------------------

    def switches(self, request: Request, body: dict[str, Any]) -> Any:
        profiles = [venue.profile for venue in self._exchange.venues.values()]
        return {
            profile.name: {
                name: {"value": value, "contract": section, "meaning": meaning(profile, name)}
                for name, value, section in switches(profile)
            }
            for profile in profiles
        }

    def set_switch(self, request: Request, body: dict[str, Any]) -> Any:
        venue, name = self._exchange.venues.get(str(body.get("venue"))), str(body.get("name"))
        if venue is None or set(body) != {"venue", "name", "value"}:
            raise ValueError('send {"venue": "wallex", "name": "stops_lock", "value": false}')
        self._exchange.advance()
        venue.profile = venue.profile.with_switches(**{name: body["value"]})
        value = next(value for known, value, _ in switches(venue.profile) if known == name)
        return {"venue": venue.profile.name, "name": name, "value": value}

    def disconnect_streams(self, request: Request, body: dict[str, Any]) -> Any:
        venue = body.get("venue")
        if self._streams is None:
            raise LookupError("this exchange was started without streams")
        if venue not in (None, *VENUES):
            raise ValueError("venue is wallex or nobitex, or left out for both")
        return {"disconnected": self._streams.disconnect(venue)}


def _spec(spec: Spec) -> dict[str, Any]:
    def shown(value: Any) -> Any:
        return str(value) if isinstance(value, Decimal) else value

    params = {name: {"default": shown(p.default), "meaning": p.meaning} for name, p in spec.params.items()}
    return {"does": spec.does, "decided_at": list(spec.moments), "params": params}
