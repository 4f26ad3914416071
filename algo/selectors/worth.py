"""What accounts hold, by the newest streamed prices. Nothing is asked of an exchange, and what has no price is told
apart instead of being guessed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings

from algo.models import Account, MarketQuote
from algo.models.fields import plain
from algo.selectors.toman import TETHER, TOMAN, TomanPrice, tether_prices
from algo.selectors.visible import rows_seen
from providers.types import canonical_asset

OLDEST_QUOTE = timedelta(minutes=10)  # older prices are of another time
CENTS, TOMANS = Decimal("0.01"), Decimal(1)


@dataclass(frozen=True, slots=True)
class Worth:
    """`usdt` and `toman`: all that has a price, None where nothing can be said: no balance was ever read, or the price
    of USDT in toman is not known and there is something of both. `unpriced`: what is in neither sum. `tether`: the
    price by which toman were turned. `read_at`: when the oldest of the balances was read."""

    usdt: Decimal | None = None
    toman: Decimal | None = None
    accounts: int = 0
    unpriced: dict[str, Decimal] = field(default_factory=dict)
    tether: TomanPrice | None = None
    read_at: datetime | None = None


def worth(user: Any, now: datetime) -> Worth:
    """Of the accounts of this environment that `user` may see and whose balances were read. Five queries at most."""
    rows = rows_seen(user, Account.objects.filter(environment=settings.EXCHANGE_ENVIRONMENT))
    known = list(rows.exclude(balances_read_at=None).values_list("balances", "balances_read_at"))
    if not known:
        return Worth(accounts=len(known))
    held: dict[str, Decimal] = defaultdict(Decimal)
    for balances, _ in known:
        for asset, amounts in balances.items():
            held[canonical_asset(asset)] += Decimal(amounts[0])
    bids = _bids(list(held), now)
    tether = _tether(bids, now)
    usdt, toman = held.pop(TETHER, Decimal(0)), held.pop(TOMAN, Decimal(0))
    unpriced = {}
    for asset, amount in held.items():
        if not amount:
            continue
        if (price := bids.get((asset, TETHER))) is not None:
            usdt += amount * price
        elif (price := bids.get((asset, TOMAN))) is not None:
            toman += amount * price
        else:
            unpriced[asset] = plain(amount)
    return Worth(
        *_together(usdt, toman, tether),
        accounts=len(known),
        unpriced=unpriced,
        tether=tether,
        read_at=min(at for _, at in known if at is not None),
    )


def _bids(assets: list[str], now: datetime) -> dict[tuple[str, str], Decimal]:
    """What one of each would bring, in USDT and in toman: the newest quote of any exchange."""
    pairs = [f"{asset}/{quote}" for asset in {*assets, TETHER} for quote in (TETHER, TOMAN)]
    rows = MarketQuote.objects.filter(market__pair__in=pairs, as_of__gte=now - OLDEST_QUOTE).order_by("as_of")
    told = {}
    for pair, bid in rows.values_list("market__pair", "bid"):
        base, _, quote = pair.partition("/")
        told[base, quote] = bid
    return told


def _tether(bids: dict[tuple[str, str], Decimal], now: datetime) -> TomanPrice | None:
    if (bid := bids.get((TETHER, TOMAN))) is not None:
        return TomanPrice(bid, now, "bid of USDT")
    return tether_prices([now])[0]


def _together(usdt: Decimal, toman: Decimal, tether: TomanPrice | None) -> tuple[Decimal | None, Decimal | None]:
    if tether is not None:
        whole = usdt + toman / tether.price
        return whole.quantize(CENTS), (whole * tether.price).quantize(TOMANS)
    return (None if toman else usdt.quantize(CENTS)), (None if usdt else toman.quantize(TOMANS))
