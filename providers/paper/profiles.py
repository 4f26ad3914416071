"""What each simulated exchange allows: grids, minimums, fees and bands per market, and the habits of the venue.

All prices are platform units: toman in `/IRT` markets. The wire faces convert.

Every habit is a switch with a name, a default and the section of the contract it comes from; `switches` lists them,
`VenueProfile.with_switches` changes them. Those the matching core needs are fields of `VenueProfile`; those of a wire
face alone are `extras`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, cast

from providers.paper.coins import ALL as MADE_UP
from providers.types import Side

Value = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class MarketProfile:
    """One market of one venue. Sizes are grids; rates are fractions; `min_notional` is in quote."""

    pair: str
    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    min_notional: Decimal
    maker_fee_rate: Decimal
    taker_fee_rate: Decimal

    @property
    def base(self) -> str:
        return self.pair.split("/")[0]

    @property
    def quote(self) -> str:
        return self.pair.split("/")[1]

    def fee_asset(self, side: Side) -> str:
        """Fees are taken from what is received (contracts: wallex 5.3, nobitex 6.2)."""
        return self.base if side is Side.BUY else self.quote


@dataclass(frozen=True, slots=True)
class Extra:
    """A switch of one wire face: its default, where the contract speaks of it, and what it does."""

    default: Value
    section: str
    meaning: str
    choices: tuple[Value, ...] = ()


WALLEX_EXTRAS: Mapping[str, Extra] = MappingProxyType(
    {
        "candle_quirks": Extra(True, "3.6", "resolution 15 answers one-minute candles of a day, 240 answers hours"),
        "depth_price_as_number": Extra(False, "3.3", "book prices are JSON numbers"),
        "last_quantity_is_price": Extra(True, "3.1", "stats.lastQty carries the last price"),
        "empty_direction_every": Extra(7, "10", "every nth market's stats.direction is [] at a time; 0: never"),
        "public_trades_shown": Extra(50, "3.5", "trades of one answer, unless per_page asks for another number"),
        "rotate_messages": Extra(True, "10", "message changes between Persian and English texts"),
        "empty_results_as_list": Extra(False, "2", "an empty object in result arrives as []"),
        "canceled_shows_filled": Extra(False, "6 rule 1", "a cancelled order's DELETE answer says FILLED"),
        "partial_status": Extra(
            "NEW", "6 rule 2", "status of a partly filled order that works", ("NEW", "PARTIALLY_FILLED")
        ),
        "executed_price_before_fills": Extra(True, "5.2", "executedPrice of an untouched order is its limit price"),
        "fills_in_lists": Extra(True, "5.2", "openOrders carries the fills of each order"),
        "order_lists_as_map": Extra(False, "5.4", "openOrders and history answer a map symbol -> orders"),
        "delete_unknown_status": Extra(422, "10", "HTTP status of DELETE on an unknown or closed id", (422, 404)),
        "market_type_disabled": Extra("", "10", "symbols, comma separated, whose isMarketTypeEnable is false"),
        "orders_per_10s": Extra(20, "1.4", "order POSTs of one account in ten seconds"),
        "requests_per_second": Extra(100, "1.4", "all other requests, per account or address"),
        "rate_limit_headers": Extra(True, "1.4", "X-RateLimit-* on order POSTs and 429 answers"),
        "stream_ping_seconds": Extra(20.0, "9", "time between two pings of a stream, on the wall"),
        "stream_pong_adds_seconds": Extra(30.0, "9", "how long a stream lives after a pong"),
        "stream_most_pongs": Extra(100, "9", "pongs that lengthen a stream's life"),
        "stream_life_seconds": Extra(1800.0, "9", "a stream is closed after this time, whatever it answers"),
        "stream_messages_per_channel": Extra(50, "9", "client messages about one channel; one more closes the stream"),
        "stream_json_pings": Extra(False, "9", 'pings are {"ping":x} to be answered {"pong":x}, not protocol pings'),
        "stream_book_seconds": Extra(0.5, "9", "least time between two snapshots of one side, on the wall"),
    }
)

NOBITEX_EXTRAS: Mapping[str, Extra] = MappingProxyType(
    {
        "public_cache_seconds": Extra(1.0, "2.2", "public data asked for again within this time is the old answer"),
        "token_block_after": Extra(10, "2.1", "429s in a row after which the account is blocked on all APIs; 0: never"),
        "token_block_seconds": Extra(120.0, "2.1", "how long that block lasts"),
        "failed_auth_limit": Extra(100, "2.1", "failed logins of one address in a window before it is blocked"),
        "failed_auth_seconds": Extra(1800.0, "2.1", "length of that window; the block lasts until its end"),
        "signature_window_seconds": Extra(30.0, "3.2", "how far Nobitex-Timestamp may be off"),
        "token_lifetime_seconds": Extra(0, "3.1", "life of the account's token since it was given; 0: for ever"),
        "stream_token_seconds": Extra(1200, "7", "life of a token of auth/ws/token"),
        "stream_ping_seconds": Extra(25.0, "7", "time between two pings of a stream, on the wall"),
        "stream_pong_seconds": Extra(25.0, "7", "a stream whose pong comes later is closed (3012)"),
        "stream_expired_seconds": Extra(25.0, "7", "how long a stream outlives its token before it is closed (3005)"),
        "stream_connections": Extra(100, "7", "streams open at a time from one address"),
        "stream_channels": Extra(300, "7", "channels of one stream"),
        "stream_book_seconds": Extra(0.5, "7", "least time between two books of one market, on the wall"),
        "stream_candle_seconds": Extra(10.0, "7", "market time between two pushes of a running candle"),
        "extra_unknown_fields": Extra(True, "11", "objects carry a field no document names"),
        "rial_name_varies": Extra(True, "1.1", "dstCurrency of rial orders is ریال as often as ﷼"),
        "numeric_zeros": Extra(True, "6.2", "fee and matchedAmount of an untouched order are the number 0"),
        "exponent_zeros": Extra(True, "5.2", "an empty wallet's balance is 0E-10"),
        "wallets_only_after_use": Extra(True, "5.2", "coins never held or ordered have no wallet"),
        "client_id_finds_closed": Extra(False, "6.5", "orders/status finds closed orders by clientOrderId"),
        "update_status_shows_order": Extra(True, "6.7", "update-status answers the order"),
        "cancel_old_spares_stops": Extra(True, "6.8", "cancel-old leaves plain inactive stops alone"),
        "trades_list_days": Extra(3, "6.10", "how many days back trades/list reaches"),
        "async_cancel_batch": Extra(False, "6.9", "cancel-batch only queues; see cancel_batch_delay_seconds"),
        "cancel_batch_delay_seconds": Extra(2.0, "6.9", "how long a queued cancel waits"),
        "missing_candles_percent": Extra(0, "4.5", "share of candles that history leaves out"),
        "closed_symbols": Extra("", "4.4, 6.4", "symbols, comma separated, that are closed: isClosed, MarketClosed"),
    }
)


def _about(section: str, meaning: str) -> Mapping[str, str]:
    """What a switch of the matching core is told with."""
    return {"section": section, "meaning": meaning}


@dataclass(frozen=True, slots=True)
class VenueProfile:
    """The habits of one exchange. Each doubtful one is a switch whose default is the contract's choice."""

    name: str
    markets: Mapping[str, MarketProfile]
    market_band: Decimal = field(
        default=Decimal(1),
        metadata=_about(
            "wallex 6 rule 6, nobitex 6.1", "a MARKET order fills at most this far from its reference price"
        ),
    )
    price_band: Decimal | None = field(
        default=None, metadata=_about("nobitex 6.1", "LIMIT prices further than this from the last are refused")
    )
    market_price_tolerance: Decimal | None = field(
        default=None, metadata=_about("nobitex 6.1", "MARKET with an estimate further off is refused")
    )
    stops_lock: bool = field(default=True, metadata=_about("wallex 10, nobitex 8", "pending stops hold their balance"))
    infers_stop_direction: bool = field(
        default=False,
        metadata=_about("wallex 7", "a stop's direction comes from the last price at creation; else from its side"),
    )
    client_ids_unique_forever: bool = field(
        default=False, metadata=_about("wallex 10, nobitex 6.4", "else only among working orders")
    )
    duplicate_guard: timedelta | None = field(
        default=None, metadata=_about("nobitex 6.4", "identical parameters within this time are refused")
    )
    rounds_excess_digits: bool = field(
        default=False, metadata=_about("nobitex 1.1", "quantity down, price half-even; else precision_mode")
    )
    precision_mode: int = field(
        default=1, metadata=_about("wallex 10", "excess digits: 1 refused, 2 cut off silently, 3 accepted")
    )
    stop_limit_may_be_better: bool = field(
        default=True, metadata=_about("nobitex 6.1", "a stop's limit may be better than its stop")
    )
    min_notional_on_market: bool = field(
        default=True, metadata=_about("wallex 10", "the minimum value holds for MARKET orders too")
    )
    min_notional_inclusive: bool = field(
        default=True, metadata=_about("nobitex 6.4", "False: the value has to be greater than the minimum")
    )
    band_cancels_all: bool = field(
        default=False, metadata=_about("wallex 6 rule 6", "a MARKET order that would leave the band is cancelled whole")
    )
    offers_oco: bool = field(default=False, metadata=_about("nobitex 6.1", "OCO orders exist"))
    extras: Mapping[str, Value] = field(default_factory=dict)  # switches of the wire face, where not at their default

    @property
    def assets(self) -> tuple[str, ...]:
        """The ten coins and both currencies, and whatever else is traded here."""
        traded = (asset for market in self.markets.values() for asset in (market.base, market.quote))
        return tuple(dict.fromkeys((*ASSETS, *traded)))

    def switch(self, name: str) -> Any:
        """The value of a switch of the wire face. Raises `KeyError` for one this venue does not have."""
        return self.extras.get(name, EXTRAS[self.name][name].default)

    def with_switches(self, **changes: object) -> VenueProfile:
        """The same venue with other habits; values as Python has them, or as JSON does (a number of seconds for a
        duration, text for a decimal). Raises `ValueError` for an unknown name or a value that cannot be."""
        core, extras = {}, dict(self.extras)
        for name, value in changes.items():
            if name in _CORE:
                core[name] = _core_value(name, value)
            elif name in EXTRAS[self.name]:
                extras[name] = _extra_value(name, EXTRAS[self.name][name], value)
            else:
                raise ValueError(f"{self.name} has no switch {name}; it has {', '.join(known(self))}")
        return replace(self, **cast("dict[str, Any]", core), extras=extras)


EXTRAS: Mapping[str, Mapping[str, Extra]] = {"wallex": WALLEX_EXTRAS, "nobitex": NOBITEX_EXTRAS}
_CORE = {each.name: each for each in fields(VenueProfile) if "section" in each.metadata}
_DECIMALS = ("market_band", "price_band", "market_price_tolerance")


def known(profile: VenueProfile) -> list[str]:
    """The names of all switches of this venue."""
    return [*_CORE, *EXTRAS[profile.name]]


def switches(profile: VenueProfile) -> list[tuple[str, Value, str]]:
    """(name, value, section of the contract) of every switch, values as JSON has them."""
    core = [(name, _plain(getattr(profile, name)), str(each.metadata["section"])) for name, each in _CORE.items()]
    wire = [(name, profile.switch(name), f"{profile.name} {e.section}") for name, e in EXTRAS[profile.name].items()]
    return [*core, *wire]


def meaning(profile: VenueProfile, name: str) -> str:
    """One line on what a switch does."""
    return str(_CORE[name].metadata["meaning"]) if name in _CORE else EXTRAS[profile.name][name].meaning


def _plain(value: object) -> Value:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, Decimal) else cast("Value", value)


def _core_value(name: str, value: object) -> object:
    if name in _DECIMALS:
        return _decimal(name, value)
    if name == "duplicate_guard":
        return _duration(name, value)
    if name == "precision_mode":
        if value not in (1, 2, 3) or isinstance(value, bool):
            raise ValueError(f"{name} is 1, 2 or 3")
        return value
    if not isinstance(value, bool):
        raise ValueError(f"{name} is true or false")  # noqa: TRY004 - what a user set, not how we were called
    return value


def _decimal(name: str, value: object) -> Decimal | None:
    if value is None and name != "market_band":
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation as exc:
        raise ValueError(f"{name} is a number") from exc
    if not 0 < number <= 10 or isinstance(value, bool):
        raise ValueError(f"{name} is a share above zero")
    return number


def _duration(name: str, value: object) -> timedelta | None:
    if value is None or isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or value < 0:
        raise ValueError(f"{name} is a number of seconds, or null")
    return timedelta(seconds=float(value))


def _extra_value(name: str, extra: Extra, value: object) -> Value:
    """The value, if it is of the default's kind."""
    if extra.choices and (value not in extra.choices or isinstance(value, bool)):
        raise ValueError(f"{name} is one of {', '.join(map(str, extra.choices))}")
    if isinstance(extra.default, (bool, str)):
        if not isinstance(value, type(extra.default)):
            kind = "true or false" if isinstance(extra.default, bool) else "a text"
            raise ValueError(f"{name} is {kind}")  # noqa: TRY004 - what a user set
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or value < 0:
        raise ValueError(f"{name} is a number, not below zero")
    return float(value) if isinstance(extra.default, float) else int(value)


def _market(
    pair: str, tick: str, step: str, min_quantity: str, min_notional: str, maker: str, taker: str
) -> MarketProfile:
    return MarketProfile(pair, *(Decimal(text) for text in (tick, step, min_quantity, min_notional, maker, taker)))


# Grids and minimums of the first six as observed in 2026 (contracts: wallex 3.1, nobitex 4.7), the others of the same
# kind; fees as in the captured answers: Wallex 0.2 % / 0.3 % (5.2), Nobitex 0.35 % in rial and 0.2 % in USDT markets
# (5.1; no maker/taker split stated).
_COINS = (  # base, tick in USDT, step on Wallex, step on Nobitex
    ("BTC", "0.01", "0.00000001", "0.000001"),
    ("ETH", "0.01", "0.00001", "0.00001"),
    ("DOGE", "0.00001", "0.1", "0.1"),
    ("XRP", "0.0001", "0.1", "0.1"),
    ("SOL", "0.01", "0.001", "0.001"),
    ("ADA", "0.00001", "0.1", "0.1"),
    ("BNB", "0.01", "0.001", "0.001"),
    ("TRX", "0.00001", "0.1", "0.1"),
    ("LTC", "0.01", "0.001", "0.001"),
    ("TON", "0.0001", "0.01", "0.01"),
)


ASSETS = (*(coin for coin, *_ in _COINS), "USDT", "IRT")
_COSTS = {  # by venue and quote: smallest order, maker fee, taker fee
    ("wallex", "USDT"): ("1", "0.002", "0.003"),
    ("wallex", "IRT"): ("50000", "0.002", "0.003"),
    ("nobitex", "USDT"): ("11", "0.002", "0.002"),
    ("nobitex", "IRT"): ("300000", "0.0035", "0.0035"),
}


def _markets(venue: str, coins: Sequence[tuple[str, str, str]]) -> dict[str, MarketProfile]:
    """Those in USDT, then USDT itself, then those in toman. `coins`: name, tick in USDT, step."""
    grids = [(f"{coin}/USDT", tick, step) for coin, tick, step in coins]
    grids.append(("USDT/IRT", "1", "0.01"))
    grids += [(f"{coin}/IRT", "1", step) for coin, _, step in coins]
    return {pair: _market(pair, tick, step, step, *_COSTS[venue, pair.split("/")[1]]) for pair, tick, step in grids}


_ON_WALLEX = [(coin, tick, step) for coin, tick, step, _ in _COINS]
_ON_NOBITEX = [(coin, tick, step) for coin, tick, _, step in _COINS]
_MADE_UP = {
    venue: _markets(venue, [(coin.code, str(coin.tick_size), str(coin.step_size)) for coin in MADE_UP])
    for venue in ("wallex", "nobitex")
}

WALLEX = VenueProfile(
    name="wallex",
    markets=_markets("wallex", _ON_WALLEX),
    market_band=Decimal("0.02"),
    infers_stop_direction=True,
    client_ids_unique_forever=True,
)

NOBITEX = VenueProfile(
    name="nobitex",
    markets=_markets("nobitex", _ON_NOBITEX),
    market_band=Decimal("0.01"),
    price_band=Decimal("0.30"),
    market_price_tolerance=Decimal("0.05"),
    duplicate_guard=timedelta(seconds=10),
    rounds_excess_digits=True,
    stop_limit_may_be_better=False,
    min_notional_inclusive=False,
    offers_oco=True,
)


def venue_profiles(pairs: tuple[str, ...]) -> tuple[VenueProfile, VenueProfile]:
    """(Wallex, Nobitex), listing only what the price feed can price."""
    return tuple(  # type: ignore[return-value]
        replace(venue, markets={pair: market for pair, market in known.items() if pair in pairs})
        for venue in (WALLEX, NOBITEX)
        for known in ({**_MADE_UP[venue.name], **venue.markets},)
    )
