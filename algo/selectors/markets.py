"""Reads of markets."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from algo.models import Market

NEAR_MATCHES = 5


class UnknownSymbol(LookupError):
    """No such market is known; the text lists near ones or says how to learn the markets."""


def market_get(provider: str, symbol: str) -> Market:
    """The market of that symbol, whatever its case. Raises UnknownSymbol with what was probably meant."""
    wanted = symbol.strip().upper()
    market = Market.objects.filter(provider=provider, symbol__iexact=wanted).first()
    if market is None:
        raise UnknownSymbol(_unknown(provider, wanted))
    return market


def _unknown(provider: str, symbol: str) -> str:
    known = list(Market.objects.filter(provider=provider).order_by("symbol").values_list("symbol", flat=True))
    if not known:
        return (
            f"No market of {provider} is known yet. Load them with: "
            f"python manage.py refresh_markets --provider {provider}"
        )
    near = near_symbols(symbol, known)
    meant = f"Did you mean {', '.join(near)}?" if near else f"For example: {', '.join(known[:NEAR_MATCHES])}."
    return (
        f"{provider} has no market {symbol!r}. {meant} If it is new there: "
        f"python manage.py refresh_markets --provider {provider}"
    )


def near_symbols(symbol: str, known: Sequence[str]) -> list[str]:
    """What was probably meant, best first: the toman market under its other name, similar spelling, the same base."""
    renamed = symbol.replace("TMN", "IRT") if symbol.endswith("TMN") else symbol.replace("IRT", "TMN")
    same = [renamed] if renamed in known and renamed != symbol else []
    similar = difflib.get_close_matches(symbol, known, n=NEAR_MATCHES, cutoff=0.6)
    base = [name for name in known if len(symbol) >= 3 and name.startswith(symbol[:3])]
    return list(dict.fromkeys([*same, *similar, *base]))[:NEAR_MATCHES]
