"""What the streams are to listen to, and the prices they told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet

from algo.models import (
    FINISHED_DEALS,
    Account,
    AccountState,
    Deal,
    Market,
    MarketQuote,
    StrategyConfig,
    StrategyStatus,
)
from algo.selectors.visible import rows_seen
from providers.types import Resolution


@dataclass(frozen=True, slots=True)
class Watched:
    """Markets of one exchange by symbol (with their keys), and the candle lengths that strategies read there."""

    markets: Mapping[str, int] = field(default_factory=dict)
    resolutions: frozenset[Resolution] = frozenset()


def watched_markets(provider: str) -> Watched:
    """What running strategies read or trade at `provider`, and what live deals stand in."""
    markets: dict[str, int] = {}
    resolutions = set()
    running = StrategyConfig.objects.filter(status=StrategyStatus.RUNNING).select_related("market", "data_market")
    for config in running:
        if config.data_market.provider == provider:
            resolutions.add(Resolution(config.resolution))
        for market in (config.data_market, config.market):
            if market.provider == provider:
                markets[market.symbol] = market.pk
    live = Deal.objects.exclude(status__in=FINISHED_DEALS).filter(market__provider=provider)
    markets |= dict(live.values_list("market__symbol", "market_id"))
    return Watched(markets, frozenset(resolutions))


def accounts_to_listen_to(provider: str) -> QuerySet[Account]:
    """Accounts of this environment whose key is believed in, with something live or with a strategy that may trade: a
    stream that is opened after the entry was sent comes too late to tell of its fill."""
    live = Deal.objects.filter(account=OuterRef("pk")).exclude(status__in=FINISHED_DEALS)
    trading = StrategyConfig.objects.filter(
        account=OuterRef("pk"), status=StrategyStatus.RUNNING, ordering_enabled=True
    )
    busy = Account.objects.filter(Exists(live) | Exists(trading), provider=provider)
    return busy.filter(environment=settings.EXCHANGE_ENVIRONMENT).exclude(state=AccountState.STOPPED)


def streamed_quotes(since: datetime) -> list[MarketQuote]:
    """The quotes of every market that were proven at or after `since`, with their markets: one query."""
    return list(MarketQuote.objects.filter(as_of__gte=since).select_related("market"))


MOST_WATCHED = 50  # markets that one page listens to


def quotes_watched(user: Any) -> list[tuple[Market, MarketQuote | None]]:
    """Markets in which `user` has something live, then those of running strategies, each with its last quote. Three
    queries, and one that asks for the role."""
    live = rows_seen(user, Deal.objects.exclude(status__in=FINISHED_DEALS))
    running = rows_seen(user, StrategyConfig.objects.filter(status=StrategyStatus.RUNNING))
    traded = list(live.values_list("market_id", flat=True))
    for pair in running.order_by("id").values_list("market_id", "data_market_id"):
        traded += pair
    wanted = list(dict.fromkeys(traded))[:MOST_WATCHED]
    markets = Market.objects.select_related("streamed_quote").in_bulk(wanted)
    return [(markets[pk], getattr(markets[pk], "streamed_quote", None)) for pk in wanted if pk in markets]
