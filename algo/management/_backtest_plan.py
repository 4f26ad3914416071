"""What every backtesting command is told: a strategy, candles and money. Bad words become sentences before any work."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from django.core.management.base import CommandError, OutputWrapper
from django.db.models import Q

from algo import exchanges
from algo.backtest import BacktestSettings, BookSeries, FillModel
from algo.management._cli import (
    Period,
    add_market_options,
    add_period_options,
    download_progress,
    known_market,
    to_period,
    to_resolution,
)
from algo.models import Market, Provider, StrategyConfig
from algo.selectors.candles import candles_coverage, candles_range
from algo.selectors.markets import UnknownSymbol, market_get
from algo.services.backtest_money import Money, backtest_settings, rules_with_fee
from algo.services.candles import candles_fetch_range
from algo.strategies import Candles, StrategyInterface, create_strategy, schema_for
from providers.recorded import read_candles_csv, resolution_of
from providers.recorded_books import read_books
from providers.types import MarketRules, Resolution

DEFAULT_PROVIDER = Provider.NOBITEX.value
QUOTES = ("USDT", "TMN", "IRT", "BTC")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be tested: whose rules, over which market's candles, and with which money."""

    strategy: StrategyInterface
    rules: MarketRules
    market: Market | None  # None: recorded candles of a market that is not known here
    settings: BacktestSettings
    config: StrategyConfig | None = None
    money: Money = field(default_factory=Money)


@dataclass(frozen=True, slots=True)
class Data:
    """The candles to test on, and where they come from."""

    candles: Candles
    source: str
    missing: int
    notes: tuple[str, ...] = ()
    books: BookSeries | None = None


def add_data_options(parser: ArgumentParser) -> None:
    """Which strategy, and over which candles."""
    parser.add_argument("--strategy", help="A name out of strategy_factory.py (default: BreakoutStrategy).")
    parser.add_argument("--config", help="Name or id of a strategy config: its rules, market and resolution.")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="Repeatable.")
    add_market_options(parser, symbol_required=False)
    add_period_options(parser)
    parser.add_argument("--csv", metavar="FILE", help="Recorded candles instead of stored ones; gzip allowed.")
    parser.add_argument("--no-download", action="store_true", help="Use what is stored, ask no exchange.")


def add_plan_options(parser: ArgumentParser) -> None:
    """What is tested, over which candles, with which money: the same words for every command that backtests."""
    add_data_options(parser)
    parser.add_argument("--fee", metavar="PERCENT", help="Of each fill (default: what the market states).")
    parser.add_argument("--slippage", metavar="PERCENT", help="Against every market order (default: 0.05).")
    parser.add_argument("--balance", metavar="AMOUNT", help="Quote to begin with (default: 10000; toman: 1000000000).")
    parser.add_argument("--base-balance", metavar="AMOUNT", help="Base to begin with, for SELL deals (default: 0).")
    parser.add_argument("--sides", choices=["BUY", "SELL", "BOTH"], help="Which entries (default: BUY).")


def planned_strategy(options: Mapping[str, Any]) -> tuple[StrategyConfig | None, StrategyInterface]:
    """Which strategy is meant, ready to decide, and the config it was read from, if it was."""
    return _strategy(options)


Warmup = Callable[[StrategyInterface], int]


def _own_warmup(strategy: StrategyInterface) -> int:
    return strategy.warmup_bars


def planned(options: Mapping[str, Any], stderr: OutputWrapper, *, warmup: Warmup = _own_warmup) -> tuple[Plan, Data]:
    """The plan and its candles, downloaded where they are missing. CommandError where there are none to test on.

    `warmup` says how many candles before the period are needed.
    """
    plan, data = _recorded(options, warmup) if options["csv"] else _stored(options, stderr, warmup)
    if len(data.candles) < 2:
        raise CommandError(
            f"There are no candles to test on ({data.source}). Choose another period or symbol, or look what there "
            "is with: python manage.py fetch_ohlcv --symbol ... --days ..."
        )
    if options.get("books"):
        data = replace(data, books=BookSeries(read_books(options["books"], plan.rules.symbol)))
    return plan, data


# --- where the candles come from -------------------------------------------------------------------------------------


def _stored(options: Mapping[str, Any], stderr: OutputWrapper, warmup: Warmup) -> tuple[Plan, Data]:
    now = exchanges.CLOCK.now()
    config, strategy = _strategy(options)
    period = to_period(options, now)
    market, rules = _markets(options, config)
    plan = _plan(options, config, strategy, market, rules, _resolution(options, config))
    before = warmup(strategy) * plan.settings.resolution.duration
    wanted = Period(period.start - before, period.end)
    return plan, _load(plan, market, wanted, now, stderr, download=not options["no_download"])


def _load(plan: Plan, market: Market, period: Period, now: datetime, stderr: OutputWrapper, *, download: bool) -> Data:
    """The candles of the period, those for the warm-up included."""
    resolution, start = plan.settings.resolution, period.start
    if download:
        with download_progress(stderr, f"{market.symbol} {resolution}") as progress:
            provider = exchanges.public_provider(market.provider)
            candles_fetch_range(market, resolution, provider, start=start, end=period.end, now=now, progress=progress)
    missing = candles_coverage(market, resolution, start, period.end).missing
    notes = (f"{missing} candles are missing; nothing is invented in their place",) if missing else ()
    return Data(candles_range(market, resolution, start, period.end), "database", missing, notes)


def _recorded(options: Mapping[str, Any], warmup: Warmup) -> tuple[Plan, Data]:
    recorded = read_candles_csv(options["csv"])
    config, strategy = _strategy(options)
    found = resolution_of(recorded.open_time)
    if options["resolution"] and to_resolution(options["resolution"]) is not found:
        raise CommandError(f"{options['csv']} holds candles of resolution {found}, not {options['resolution']}.")
    market, rules = _recorded_market(options, config)
    plan = _plan(options, config, strategy, market, rules, found)
    series = Candles(*(getattr(recorded, name) for name in Candles.__dataclass_fields__))
    candles = _within(series, options, found, warmup(strategy))
    notes = list(recorded.notes)
    if market is None:
        notes.append("the market is not known here: no minimums, and the fee is an assumption (see --fee)")
    return plan, Data(candles, f"file {options['csv']}", _missing(candles, found), tuple(notes))


# --- the plan -------------------------------------------------------------------------------------------------------


def _strategy(options: Mapping[str, Any]) -> tuple[StrategyConfig | None, StrategyInterface]:
    """The strategy ready to decide. Raises UnknownStrategy and InvalidParameters."""
    config = _config(options["config"]) if options["config"] else None
    if config and options["strategy"] and options["strategy"] != config.strategy:
        raise CommandError(f"--config {config.name} runs {config.strategy}, not {options['strategy']}: leave one out.")
    name = options["strategy"] or (config.strategy if config else "BreakoutStrategy")
    fields = schema_for(name).model_fields
    parameters = {**(config.parameters if config else {}), **_parameters(options["param"], fields)}
    strategy = create_strategy(name, parameters)
    if not strategy.initialize():
        raise CommandError(f"{name} says that it cannot run with these parameters. Change them with --param.")
    return config, strategy


def _config(name: str) -> StrategyConfig:
    by_id = Q(pk=int(name)) if name.isdecimal() else Q()
    configs = StrategyConfig.objects.select_related("market", "data_market", "account")
    config = configs.filter(Q(name=name) | by_id if by_id else Q(name=name)).first()
    if config is None:
        known = ", ".join(StrategyConfig.objects.values_list("name", flat=True)[:10]) or "none"
        raise CommandError(f"There is no strategy config {name!r}. Known are: {known}.")
    return config


def _parameters(texts: Sequence[str], known: Mapping[str, Any]) -> dict[str, str]:
    parameters = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--param {text!r} is no NAME=VALUE, for example --param breakout_period=30.")
        if name not in known:
            raise CommandError(f"There is no parameter {name!r}. Known are: {', '.join(sorted(known))}.")
        parameters[name] = value
    return parameters


def _markets(options: Mapping[str, Any], config: StrategyConfig | None) -> tuple[Market, MarketRules]:
    """Whose candles, and whose rules: a config may read one exchange and trade at another."""
    if config and not options["symbol"]:
        return config.data_market, config.market.rules
    if not options["symbol"]:
        raise CommandError("Say which market: --symbol BTCUSDT, or --config NAME.")
    market = known_market(options["provider"] or DEFAULT_PROVIDER, options["symbol"])
    return market, market.rules


def _recorded_market(options: Mapping[str, Any], config: StrategyConfig | None) -> tuple[Market | None, MarketRules]:
    if config and not options["symbol"]:
        return config.data_market, config.market.rules
    provider, symbol = options["provider"] or DEFAULT_PROVIDER, (options["symbol"] or "BTCUSDT").upper()
    try:
        market = market_get(provider, symbol)
    except UnknownSymbol:
        return None, assumed_rules(provider, symbol)
    return market, market.rules


def assumed_rules(provider: str, symbol: str) -> MarketRules:
    """Rules for recorded candles of a market nobody told us about: fine grids, no minimums, Wallex's fee (the
    dearer) and Nobitex's market band (the narrower)."""
    quote = next((name for name in QUOTES if symbol.endswith(name) and symbol != name), "")
    return MarketRules(
        provider=provider,
        symbol=symbol,
        base=symbol.removesuffix(quote) or symbol,
        quote=quote or "quote",
        tick_size=Decimal("0.00000001"),
        step_size=Decimal("0.00000001"),
        min_quantity=Decimal(0),
        min_notional=Decimal(0),
        maker_fee_rate=Decimal("0.003"),
        taker_fee_rate=Decimal("0.003"),
        market_band=Decimal("0.01"),
    )


def _resolution(options: Mapping[str, Any], config: StrategyConfig | None) -> Resolution:
    return to_resolution(options["resolution"] or (config.resolution if config else None))


def _plan(
    options: Mapping[str, Any],
    config: StrategyConfig | None,
    strategy: StrategyInterface,
    market: Market | None,
    rules: MarketRules,
    resolution: Resolution,
) -> Plan:
    money = money_of(options)
    provider = exchanges.public_provider(rules.provider)
    settings = backtest_settings(money, rules, resolution, config, provider)
    return Plan(strategy, rules_with_fee(rules, money.fee_percent), market, settings, config, money)


def money_of(options: Mapping[str, Any]) -> Money:
    return Money(
        fee_percent=_amount(options, "fee", below=100),
        slippage_percent=_amount(options, "slippage", below=100),
        balance=_amount(options, "balance") or None,
        base_balance=_amount(options, "base_balance"),
        sides=options["sides"],
        fill_model=FillModel(options["fill_model"]),
    )


def _amount(options: Mapping[str, Any], name: str, *, below: int | None = None) -> Decimal | None:
    text = options[name]
    if text is None:
        return None
    try:
        amount = Decimal(str(text))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0 or (below is not None and amount >= below):
        limits = f"from 0 to below {below}" if below else "of at least 0"
        raise CommandError(f"--{name.replace('_', '-')} must be a number {limits}; it is {text!r}.")
    return amount


# --- recorded candles -----------------------------------------------------------------------------------------------


def _within(series: Candles, options: Mapping[str, Any], resolution: Resolution, warmup: int) -> Candles:
    """All of the file, or the period asked for with the warm-up before it."""
    if not (options["days"] or options["start"] or options["end"]):
        return series
    until = datetime.fromtimestamp(int(series.open_time[-1]) + resolution.seconds, UTC)
    period = to_period(options, until)
    first, stop = np.searchsorted(series.open_time, [period.start.timestamp(), period.end.timestamp()])
    return series.between(max(int(first) - warmup, 0), int(stop))


def _missing(candles: Candles, resolution: Resolution) -> int:
    steps = np.diff(candles.open_time) // resolution.seconds
    return int(np.maximum(steps - 1, 0).sum())
