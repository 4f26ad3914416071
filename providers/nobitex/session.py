"""What every group of calls stands on: the wire, and the names of the currencies."""

from __future__ import annotations

import logging
import math
import re
import threading
from typing import Any

from providers.errors import BadPayload, Unavailable
from providers.http import Answer, Endpoint, HttpSession
from providers.nobitex import mapping
from providers.nobitex.answers import said_ok
from providers.nobitex.endpoints import OPTIONS, PROFILE
from providers.nobitex.mapping import Currencies, Pair, split_symbol
from providers.nobitex.schemas import OptionsSchema, OrderSchema, OwnTradeSchema, ProfileOptionsSchema, ProfileSchema
from providers.redaction import redact
from providers.types import OrderReport
from providers.wire import as_mapping, parse

logger = logging.getLogger("providers.nobitex")

_SYMBOL = re.compile(r"[A-Z0-9_]{2,40}")
_OPTIONS_AGE = 600.0  # seconds that the names of currencies are kept


class NobitexSession:
    """Base of the client's parts. Holds nothing but the connection and the currency names."""

    name = "nobitex"

    def __init__(self, http: HttpSession) -> None:
        self._http = http
        self._currencies = Currencies()
        self._currencies_until = -math.inf
        self._currencies_lock = threading.Lock()

    def _options(self) -> OptionsSchema:
        options = self._http.call(OPTIONS, lambda answer: parse(OptionsSchema, said_ok(answer)))
        with self._currencies_lock:
            self._currencies = Currencies(options.coins)
            self._currencies_until = self._http.host.monotonic() + _OPTIONS_AGE
        return options

    def _names(self) -> Currencies:
        """Names hardly ever change: where they cannot be read anew, the old ones serve, for orders wait for them.

        Called while another answer is read, which is no answer without them: raises BadPayload, whatever the reason, so
        that neither is that one asked for again nor its address taken for the one that is called too often."""
        if self._http.host.monotonic() > self._currencies_until:
            try:
                self._options()
            except (Unavailable, BadPayload) as exc:
                if self._currencies_until == -math.inf:
                    raise BadPayload(f"the names of currencies could not be read: {exc}") from None
                logger.warning("names of currencies not read anew provider=nobitex why=%s", type(exc).__name__)
        return self._currencies

    def _fees(self) -> ProfileOptionsSchema:
        """In percent, as the profile has them; the documented ones without a key."""
        if not self._http.has_key:
            return mapping.DOCUMENTED_FEES
        return self._http.call(PROFILE, lambda answer: parse(ProfileSchema, said_ok(answer).get("profile")).options)

    def _report(self, row: Any, pair: Pair | None) -> OrderReport:
        """One order. The market is the one asked about, unless the row says otherwise; then the row is believed."""
        raw = as_mapping(row, "order")
        order = parse(OrderSchema, raw)
        if pair is None or order.market:
            stated = self._stated_pair(order)
            if pair is not None and stated != pair:
                raise BadPayload(f"the answer is about an order on {redact(stated.symbol)[:40]}")
            pair = stated
        return mapping.to_report(order, raw, pair)

    def _stated_pair(self, row: OrderSchema | OwnTradeSchema) -> Pair:
        """The market that a row names, by code or by display names."""
        return mapping.pair_of(row, self._currencies if row.market else self._names())


def path_of(endpoint: Endpoint, symbol: str) -> str:
    check_symbol(symbol)
    return endpoint.path.format(symbol=symbol)


def check_symbol(symbol: str) -> None:
    """Raises BadPayload before a text that is no market becomes part of an address."""
    if not _SYMBOL.fullmatch(symbol):
        raise BadPayload(f"{symbol[:40]!r} is not a Nobitex market")
    split_symbol(symbol)


def has_next(answer: Answer, rows: int, page_size: int) -> bool:
    """`hasNext`, or, where it is not sent, whether the page is full."""
    more = said_ok(answer).get("hasNext", rows >= page_size)
    if not isinstance(more, bool) or (more and not rows):
        raise BadPayload("a page that does not tell whether another one follows")
    return more
