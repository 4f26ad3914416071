"""manage.py seed_demo: an admin user, an API token, and, on the paper exchange, an account with a running strategy.

Safe to run at every start: what is there is left as it is.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import DatabaseError, transaction
from django.utils import timezone

from algo.exchanges import CLOCK, account_provider, public_provider
from algo.live.join import join_other_processes
from algo.models import Account, Environment, Market, Provider, StrategyConfig, StrategyStatus, TokenScope
from algo.services.audit import SHELL
from algo.services.markets import markets_refresh
from algo.services.strategy_checks import strategy_check_current
from algo.services.tokens import token_give
from algo.strategies.schemas import BreakoutStrategySchema
from providers.errors import ProviderError
from providers.types import Resolution

ADMIN = "admin"
# Liveliness is the point of a demonstration: short periods, no pauses. Real strategies start from the defaults. On the
# simulated prices the first entry signal comes after 30 s (median) and 95 s (99 % of 4500 starts over three coins).
DEMO_PARAMETERS = {
    "ema_fast_period": 2,
    "ema_slow_period": 5,
    "breakout_period": 3,
    "volume_threshold": 1.0,
    "stop_loss_percent": "0.3",
    "take_profit_percent": "0.6",
    "trailing_stop_percent": "0.3",
    "trailing_step_percent": "0.1",
    "max_position_size_percent": "20",
    "trade_cooldown_minutes": 0,
    "max_daily_trades": 1000,
    "max_daily_loss_percent": "0",
    "max_open_deals": 10,
}
DEMO_PAIRS = {
    Provider.WALLEX: ("BTC/USDT", "ETH/USDT", "DOGE/USDT"),
    Provider.NOBITEX: ("BTC/IRT", "ETH/IRT"),
}


def demo_account(provider: str) -> str:
    """Name of the account that trades the paper exchange's `demo` wallet."""
    return f"paper {provider}"


class Command(BaseCommand):
    help = "Create the admin user, an API token and, on the paper exchange, accounts with running demo strategies."

    def handle(self, *args: Any, **options: Any) -> None:
        join_other_processes()
        self._unchecked: list[StrategyConfig] = []
        warnings = [warning for name in Provider.values if (warning := self._refresh(name))]
        with transaction.atomic():  # the password is told once: an admin without it must not stay behind
            answer = self._seed()
        warnings += [warning for config in self._unchecked if (warning := self._check(config))]
        self.stdout.write(json.dumps(answer | {"warnings": warnings}))

    def _seed(self) -> dict[str, Any]:
        user, password, token = self._admin()
        answer: dict[str, Any] = {"admin_user": ADMIN, "admin_password": password, "api_token": token}
        if Environment(settings.EXCHANGE_ENVIRONMENT) is Environment.PAPER and _has_keys():
            answer["strategies"] = [self._strategy(user, *each) for each in self._demo_markets()]
        return answer

    def _admin(self) -> tuple[Any, str | None, str | None]:
        users = get_user_model().objects
        if existing := users.filter(username=ADMIN).first():
            return existing, None, None
        password = os.environ.get("DEMO_ADMIN_PASSWORD") or secrets.token_urlsafe(15)
        user = users.create_superuser(ADMIN, password=password)
        wanted: dict[str, Any] = {"scope": TokenScope.ADMIN, "label": "of the demonstration"}
        _, token = token_give(user, by=SHELL, now=timezone.now(), at=CLOCK.now(), **wanted)
        return user, password, token

    def _refresh(self, name: str) -> str:
        try:
            markets_refresh(public_provider(name), now=CLOCK.now())
        except ProviderError as exc:
            return f"The markets of {name} could not be read: {exc}"
        return ""

    def _check(self, config: StrategyConfig) -> str:
        """Seconds of work, so after the commit: a transaction that idles so long is ended. Nothing here may keep the
        password from being told; a version that is not checked now is checked before its first decision."""
        try:
            strategy_check_current(config, now=CLOCK.now())
        except DatabaseError as exc:
            return f"{config.name} could not be checked yet: {exc}"
        return ""

    def _demo_markets(self) -> list[tuple[Market, Market]]:
        """(data market, execution market): candles always come from Nobitex."""
        found = []
        for provider, pairs in DEMO_PAIRS.items():
            for pair in pairs:
                data = Market.objects.filter(provider=Provider.NOBITEX, pair=pair).first()
                market = Market.objects.filter(provider=provider, pair=pair).first()
                if data and market:
                    found.append((data, market))
        return found

    def _strategy(self, user: Any, data_market: Market, market: Market) -> str:
        name = f"Demo {market.symbol} on {market.get_provider_display()}"
        config, created = StrategyConfig.objects.get_or_create(
            name=name,
            defaults={
                "strategy": "BreakoutStrategy",
                "parameters": BreakoutStrategySchema.model_validate(DEMO_PARAMETERS).model_dump(mode="json"),
                "account": self._account(user, market.provider),
                "data_market": data_market,
                "market": market,
                "resolution": Resolution.M1,
                "status": StrategyStatus.RUNNING,
            },
        )
        if created:
            self._unchecked.append(config)
        return name

    def _account(self, user: Any, provider: str) -> Account:
        name = demo_account(provider)
        if existing := Account.objects.filter(name=name).first():
            return existing
        account = Account(name=name, owner=user, provider=provider, environment=Environment.PAPER)
        account.set_api_key(getattr(settings, f"{provider.upper()}_API_KEY"))
        account.capabilities = asdict(account_provider(account).capabilities())
        account.save()
        return account


def _has_keys() -> bool:
    """The user's own paper exchange may come without keys: then there is nothing to trade with."""
    return bool(settings.WALLEX_API_KEY and settings.NOBITEX_API_KEY)
