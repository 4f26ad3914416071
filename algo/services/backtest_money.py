"""With which money a backtest begins, and what trading costs it: one answer for the commands, the pages and the API."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.conf import settings

from algo.backtest import BacktestSettings, FillModel
from algo.models import AllowedSides, StrategyConfig
from algo.models.fields import plain
from providers.interface import ExchangeProvider
from providers.types import MarketRules, ProtectionMode, Resolution, Side, canonical_asset

DEFAULT_BALANCE = {"IRT": Decimal(1_000_000_000)}  # toman; any other quote: 10,000
TARGET_RESTS = (ProtectionMode.NATIVE_OCO, ProtectionMode.FREE_STOPS)
_AMOUNTS = ("fee_percent", "slippage_percent", "balance", "base_balance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What was said about money; None takes the default: the market's fee, 0.05 % slippage, 10,000 or a billion toman,
    no base, the sides of the config or BUY."""

    fee_percent: Decimal | None = None
    slippage_percent: Decimal | None = None
    balance: Decimal | None = None
    base_balance: Decimal | None = None
    sides: str | None = None  # one of AllowedSides
    fill_model: FillModel = FillModel.CONSERVATIVE

    def as_json(self) -> dict[str, Any]:
        amounts = {name: getattr(self, name) for name in _AMOUNTS}
        told = {name: None if value is None else format(plain(value), "f") for name, value in amounts.items()}
        return {**told, "sides": self.sides, "fill_model": str(self.fill_model)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Money:
        amounts = {name: None if stored.get(name) is None else Decimal(stored[name]) for name in _AMOUNTS}
        return cls(
            **amounts,
            sides=stored.get("sides"),
            fill_model=FillModel(stored.get("fill_model", FillModel.CONSERVATIVE)),
        )


def backtest_settings(
    money: Money, rules: MarketRules, resolution: Resolution, config: StrategyConfig | None, provider: ExchangeProvider
) -> BacktestSettings:
    """All that is no strategy parameter and no market rule. `provider` is the exchange of `rules`: whether the target
    rests in its book decides which fee it pays."""
    defaults = BacktestSettings()
    standard = DEFAULT_BALANCE.get(canonical_asset(rules.quote), defaults.starting_quote)
    documented = provider.capabilities()
    able = config.account.known_capabilities(documented) if config else documented
    return BacktestSettings(
        resolution=resolution,
        fill_model=money.fill_model,
        starting_quote=standard if money.balance is None else money.balance,
        starting_base=defaults.starting_base if money.base_balance is None else money.base_balance,
        slippage_percent=defaults.slippage_percent if money.slippage_percent is None else money.slippage_percent,
        max_position_size_percent=settings.MAX_POSITION_SIZE_PERCENT,
        allowed_sides=sides_of(money.sides, config),
        time_zone=settings.TRADING_DAY_TIME_ZONE,
        target_is_maker=able.protection_mode in TARGET_RESTS,
    )


def sides_of(asked: str | None, config: StrategyConfig | None) -> frozenset[Side]:
    if asked is None:
        return config.sides if config else frozenset({Side.BUY})
    return frozenset(Side) if asked == AllowedSides.BOTH else frozenset({Side(asked)})


def rules_with_fee(rules: MarketRules, percent: Decimal | None) -> MarketRules:
    """The rules, with one fee for maker and taker where it was given, in percent."""
    return rules if percent is None else replace(rules, taker_fee_rate=percent / 100, maker_fee_rate=percent / 100)
