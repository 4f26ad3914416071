"""Writes of markets: what the exchange says it allows."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from algo.models import Market
from providers.errors import BadPayload
from providers.interface import ExchangeProvider
from providers.types import MarketRules

logger = logging.getLogger(__name__)

_KEY = ("provider", "symbol")
_STATED = tuple(name for name in MarketRules.__dataclass_fields__ if name not in _KEY)


def markets_refresh(provider: ExchangeProvider, *, now: datetime) -> int:
    """Make our markets what the exchange states now; returns how many it listed.

    A market that is not listed any more is closed, never deleted: deals refer to it. Raises `ProviderError`; an empty
    list is a `BadPayload`, not a closed exchange. Nothing is changed then.
    """
    rules = list(_usable(provider.markets()))
    if not rules:
        raise BadPayload(f"{provider.name} listed no usable market. Nothing was changed; try again later.")
    with transaction.atomic():
        # One order of rows in every worker: two refreshes at once wait for each other instead of deadlocking.
        Market.objects.bulk_create(
            [_to_row(each, now) for each in sorted(rules, key=lambda each: each.symbol)],
            update_conflicts=True,
            unique_fields=_KEY,
            update_fields=[*_STATED, "pair", "refreshed_at"],
        )
        _close_unlisted(provider.name, [each.symbol for each in rules])
    return len(rules)


def _usable(stated: Iterable[MarketRules]) -> Iterable[MarketRules]:
    """Without markets whose grids would make every rounding fail; what we knew of them stays."""
    for rules in {each.symbol: each for each in stated}.values():
        if rules.tick_size > 0 and rules.step_size > 0:
            yield rules
        else:
            logger.warning("market skipped: tick or step size is not positive provider=%s symbol=%s", *_name(rules))


def _name(rules: MarketRules) -> tuple[str, str]:
    return rules.provider, rules.symbol


def _to_row(rules: MarketRules, now: datetime) -> Market:
    stated = {name: getattr(rules, name) for name in (*_KEY, *_STATED)}
    return Market(**stated, pair=rules.pair, refreshed_at=now)


def _close_unlisted(provider: str, listed: list[str]) -> None:
    closed = Market.objects.filter(provider=provider, is_open=True).exclude(symbol__in=listed).update(is_open=False)
    if closed:
        logger.warning("markets closed: not listed any more provider=%s count=%d", provider, closed)
