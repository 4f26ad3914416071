"""What each simulated exchange allows: grids, minimums, fees and bands per market, and the habits of the venue.

All prices are platform units: toman in `/IRT` markets. The wire faces convert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal

from providers.types import Side


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
class VenueProfile:
    """The habits of one exchange. Each doubtful one is a switch whose default is the contract's choice."""

    name: str
    markets: Mapping[str, MarketProfile]
    market_band: Decimal  # a MARKET order fills at most this far from its reference price
    price_band: Decimal | None = None  # LIMIT prices further than this from the last trade are refused
    market_price_tolerance: Decimal | None = None  # MARKET with an estimate further off than this is refused
    stops_lock: bool = True  # pending stops hold their balance
    infers_stop_direction: bool = False  # from the last price at creation; otherwise from the side
    client_ids_unique_forever: bool = False  # otherwise only among working orders
    duplicate_guard: timedelta | None = None  # identical parameters within this time are refused
    rounds_excess_digits: bool = False  # quantity down, price half-even; otherwise refused
    stop_limit_may_be_better: bool = True
    min_notional_on_market: bool = True
    min_notional_inclusive: bool = True  # False: the value has to be greater than the minimum
    band_cancels_all: bool = False  # a MARKET order that would leave the band is cancelled whole
    offers_oco: bool = False
    extras: Mapping[str, bool] = field(default_factory=dict)  # switches of the wire face

    def with_switches(self, **changes: object) -> VenueProfile:
        return replace(self, **changes)  # type: ignore[arg-type]


def _market(
    pair: str, tick: str, step: str, min_quantity: str, min_notional: str, maker: str, taker: str
) -> MarketProfile:
    return MarketProfile(pair, *(Decimal(text) for text in (tick, step, min_quantity, min_notional, maker, taker)))


# Grids and minimums as observed in 2026 (contracts: wallex 3.1, nobitex 4.7); fees as in the captured answers:
# Wallex 0.2 % / 0.3 % (5.2), Nobitex 0.35 % in rial and 0.2 % in USDT markets (5.1; no maker/taker split stated).
_WALLEX = (
    ("BTC/USDT", "0.01", "0.00000001", "0.00000001", "1", "0.002", "0.003"),
    ("ETH/USDT", "0.01", "0.00001", "0.00001", "1", "0.002", "0.003"),
    ("DOGE/USDT", "0.00001", "0.1", "0.1", "1", "0.002", "0.003"),
    ("USDT/IRT", "1", "0.01", "0.01", "50000", "0.002", "0.003"),
    ("BTC/IRT", "1", "0.00000001", "0.00000001", "50000", "0.002", "0.003"),
    ("ETH/IRT", "1", "0.00001", "0.00001", "50000", "0.002", "0.003"),
)
_NOBITEX = (
    ("BTC/USDT", "0.01", "0.000001", "0.000001", "11", "0.002", "0.002"),
    ("ETH/USDT", "0.01", "0.00001", "0.00001", "11", "0.002", "0.002"),
    ("DOGE/USDT", "0.00001", "0.1", "0.1", "11", "0.002", "0.002"),
    ("USDT/IRT", "1", "0.01", "0.01", "300000", "0.0035", "0.0035"),
    ("BTC/IRT", "1", "0.000001", "0.000001", "300000", "0.0035", "0.0035"),
    ("ETH/IRT", "1", "0.00001", "0.00001", "300000", "0.0035", "0.0035"),
)

WALLEX = VenueProfile(
    name="wallex",
    markets={row[0]: _market(*row) for row in _WALLEX},
    market_band=Decimal("0.02"),
    infers_stop_direction=True,
    client_ids_unique_forever=True,
    extras={"candle_quirks": True, "depth_price_as_number": False},
)

NOBITEX = VenueProfile(
    name="nobitex",
    markets={row[0]: _market(*row) for row in _NOBITEX},
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
        replace(venue, markets={pair: market for pair, market in venue.markets.items() if pair in pairs})
        for venue in (WALLEX, NOBITEX)
    )
