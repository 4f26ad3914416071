"""What Nobitex tells beyond the common vocabulary. Prices and values of IRT markets are in toman here."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Generic, TypeVar

from providers.errors import BadPayload, ProviderError
from providers.types import Balance, BookLevel, OcoRequest, OrderReport, OrderRequest, Side

MOST_PAGES = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. Rows may move to the next page while pages are read: `every_row` counts each once."""

    rows: tuple[T, ...]
    has_next: bool


def pages(read: Callable[[int], Page[T]], what: str) -> Iterator[Page[T]]:
    """Pages 1, 2, … until the last. Raises BadPayload rather than end before it."""
    for number in range(1, MOST_PAGES + 1):
        page = read(number)
        yield page
        if not page.has_next:
            return
    raise BadPayload(f"nobitex {what}: more than {MOST_PAGES} pages: the list is not complete")


def every_row(read: Callable[[int], Page[T]], key: Callable[[T], Hashable], what: str = "list") -> list[T]:
    """The rows of all pages in the order of their first sight, each once, however rows that come in meanwhile push
    others to later pages."""
    found: dict[Hashable, T] = {}
    for page in pages(read, what):
        for row in page.rows:
            found.setdefault(key(row), row)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class DepthChart:
    """A drawing of a market, not its book: levels are grouped and rounded, quantities look cumulative. Best first."""

    symbol: str
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    as_of: datetime
    last_price: Decimal | None


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """A trade of the market. It has no id: equal ones of the same millisecond cannot be told apart. Whose `side` it
    is, the exchange does not say; the quantity may be zero."""

    symbol: str
    price: Decimal
    quantity: Decimal | None
    side: Side | None
    executed_at: datetime


@dataclass(frozen=True, slots=True)
class MarketStats:
    """The last 24 hours. None: not told, or told as zero, which is how a fault and an untraded market look alike.
    `change_rate` is a fraction, volumes are in base and in quote."""

    symbol: str
    is_closed: bool | None
    best_ask: Decimal | None
    best_bid: Decimal | None
    last_price: Decimal | None
    mark_price: Decimal | None
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    volume: Decimal | None
    quote_volume: Decimal | None
    change_rate: Decimal | None


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet by its id, which the list of its transactions asks for. `value` is the exchange's estimate in toman."""

    wallet_id: int
    balance: Balance
    value: Decimal | None


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a limit is used; money in toman."""

    used: Decimal
    limit: Decimal


@dataclass(frozen=True, slots=True)
class Limitations:
    """Of the account. Whether a feature's True means allowed or limited, the documents do not say (contract: 5.3)."""

    user_level: str
    features: Mapping[str, bool]
    limits: Mapping[str, Usage]


@dataclass(frozen=True, slots=True)
class Transaction:
    """One movement of a wallet; `amount` has its sign, rial is toman here. `kind` and the `balance` after it come with
    the history only."""

    transaction_id: int
    asset: str
    amount: Decimal
    created_at: datetime
    description: str
    fee: Decimal | None
    kind: str | None
    balance: Decimal | None


@dataclass(frozen=True, slots=True)
class BatchItem:
    """What became of one order of a batch: either `reports` (one, or the limit and stop leg of an OCO), or the error
    that the same order alone would have raised. `RateLimited`: the exchange stopped before this order, so that it was
    not processed."""

    request: OrderRequest | OcoRequest
    reports: tuple[OrderReport, ...] = ()
    error: ProviderError | None = None


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """Whether the cancel of one order is queued; None where the answer does not mention the order."""

    exchange_order_id: str
    is_queued: bool | None
    message: str = ""
