"""Who trades in a benchmark: markets as the exchanges tell them, accounts with money, strategies. Uses Django."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model

from algo.exchanges import CLOCK, account_provider, public_provider
from algo.models import Account, Environment, Market, Provider, StrategyCheck, StrategyConfig, StrategyStatus
from algo.services.candles import candles_fetch_range
from algo.services.markets import markets_refresh
from algo.services.strategy_checks import strategy_check
from algo.strategies.schemas import BreakoutStrategySchema
from benchmarks.live.platform import Platform
from providers.types import Resolution

HISTORY = 480  # candles: more than any version needs, less than one page of the exchange
PLENTY = {"USDT": "100000000", "IRT": "10000000000000"}


def markets() -> list[str]:
    """Read the markets of both exchanges; the pairs that both have, USDT pairs first."""
    for name in Provider.values:
        markets_refresh(public_provider(name), now=CLOCK.now())
    both = set(Market.objects.filter(provider="wallex").values_list("pair", flat=True))
    both &= set(Market.objects.filter(provider="nobitex").values_list("pair", flat=True))
    return sorted(both, key=lambda pair: (not pair.endswith("/USDT"), pair))


def open_account(
    platform: Platform, name: str, provider: str = "wallex", balances: Mapping[str, str] = PLENTY
) -> Account:
    """An account at the paper exchange, and its row here."""
    told = platform.control("POST", "/accounts", json={"name": name, "balances": {provider: dict(balances)}})
    owner, _ = get_user_model().objects.get_or_create(username="benchmark")
    account = Account(name=name, owner=owner, provider=provider, environment=Environment.PAPER)
    account.set_api_key(told["wallex_key" if provider == "wallex" else "nobitex_token"])
    account.capabilities = asdict(account_provider(account).capabilities())
    account.save()
    return account


def strategies(
    count: int,
    accounts: Sequence[Account],
    pairs: Sequence[str],
    parameter_sets: Sequence[Mapping[str, Any]],
    *,
    name: str = "strategy",
    resolution: Resolution = Resolution.M1,
    is_running: bool = True,
) -> list[StrategyConfig]:
    """So many strategies: pairs, parameter sets and accounts dealt out in turn, candles from Nobitex. Each
    version has its bias check, as one that is started in the admin has; equal parameters are checked once."""
    checked = [BreakoutStrategySchema.model_validate(each).model_dump(mode="json") for each in parameter_sets]
    data = {market.pair: market for market in Market.objects.filter(provider="nobitex", pair__in=pairs)}
    trade = {(each.provider, each.pair): each for each in Market.objects.filter(pair__in=pairs)}
    configs = []
    for number in range(count):
        pair, account = pairs[number % len(pairs)], accounts[number % len(accounts)]
        configs.append(
            StrategyConfig(
                name=f"{name} {number}",
                strategy="BreakoutStrategy",
                parameters=checked[number // len(pairs) % len(checked)],
                account=account,
                data_market=data[pair],
                market=trade[account.provider, pair],
                resolution=resolution,
                status=StrategyStatus.RUNNING if is_running else StrategyStatus.STOPPED,
            )
        )
    configs = StrategyConfig.objects.bulk_create(configs, batch_size=500)
    _check(configs)
    return configs


def _check(configs: Sequence[StrategyConfig]) -> None:
    """What was found for one config of each version is kept for all of them: the check is the same."""
    found: dict[str, StrategyCheck] = {}
    copies = []
    for config in configs:
        key = json.dumps(config.parameters, sort_keys=True)
        if key not in found:
            found[key] = strategy_check(config, now=CLOCK.now(), again=False)
            continue
        known = {field.attname: getattr(found[key], field.attname) for field in StrategyCheck._meta.concrete_fields}
        copies.append(StrategyCheck(**known | {"id": None, "config_id": config.pk}))
    StrategyCheck.objects.bulk_create(copies, batch_size=500)


def candles(pairs: Sequence[str], resolution: Resolution = Resolution.M5, bars: int = HISTORY) -> None:
    """Store the newest closed candles of these pairs, as the platform downloads history: waiting where it must."""
    now = CLOCK.now()
    end = datetime.fromtimestamp(now.timestamp() // resolution.seconds * resolution.seconds, UTC)
    start = end - bars * resolution.duration  # on the grid: one page, and no second one to look for what is before it
    for market in Market.objects.filter(provider="nobitex", pair__in=pairs):
        candles_fetch_range(market, resolution, public_provider("nobitex"), start=start, end=end, now=now)
