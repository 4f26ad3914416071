"""Backtests that are kept: asked for, run by a worker that tells how far it is, cancelled, compared.

The row is the queue. Whoever moves it from `queued` to `running` runs it; whoever moves it away from `running` stops
the worker at its next step, because that step finds no running row to write its progress to.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils.translation import gettext

from algo.backtest import BacktestResult, FillModel, charts_of, side_by_side
from algo.backtest.watched import run_both_watched
from algo.localised import digits, minute, zone_name
from algo.models import (
    UNFINISHED_RUNS,
    AllowedSides,
    BacktestRun,
    Market,
    RunStatus,
    StrategyConfig,
)
from algo.selectors.candles import candles_coverage, candles_range
from algo.selectors.toman import profit_in_toman
from algo.sentences import sentence
from algo.services.audit import Actor, audit_record
from algo.services.backtest_money import Money, backtest_settings, rules_with_fee
from algo.services.candles import candles_fetch_range
from algo.services.strategy_configs import parameters_clean, parameters_to_store
from algo.strategies import Candles, InvalidParameters, UnknownStrategy, create_strategy
from algo.strategies.schemas import WHOLE_FORM, StrategySchema
from algo.strategies.strategy_factory import STRATEGIES, strategy_class
from algo.version import code_version, source_fingerprint
from providers.clock import Clock
from providers.errors import ProviderError
from providers.interface import ExchangeProvider
from providers.types import Resolution

logger = logging.getLogger("algo.backtests")

LONGEST_PERIOD = timedelta(days=3650)
MOST_CANDLES = 3_000_000  # of a run that a page or the API starts: a worker holds them in memory
MOST_UNFINISHED = 20  # runs of one user that wait or run
SILENT_SECONDS = 300.0  # without a sign of life: the worker is gone (one page of candles may wait a minute or two)
DIED = (
    "The worker that ran it has not been heard of for {minutes:.0f} minutes: it was stopped or killed. Nothing else is "
    "affected, and candles it had downloaded are kept. Start the backtest again."
)
LISTED = ("net_profit_percent", "sharpe", "max_drawdown_percent", "win_rate_percent", "deals")  # columns of the row
ProviderOf = Callable[[str], ExchangeProvider]
Watch = Callable[[float], None]  # percent done; raises RunStopped


class BacktestRefused(ValueError):
    """What was asked for cannot be tested. `errors` maps each field to its sentences, those of a parameter under
    `parameters.NAME`. Nothing was stored."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        self.errors = dict(errors)
        super().__init__(" ".join(text for texts in errors.values() for text in texts))


class RunStopped(Exception):
    """The row is not running any more: somebody cancelled it, or gave its worker up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestAsked:
    """What a person asks to be tested. A config brings strategy, parameters, markets, length of candles and sides; what
    is given beside it overrules it."""

    start: datetime
    end: datetime
    config: StrategyConfig | None = None
    strategy: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    market: Market | None = None
    resolution: str = ""
    money: Money = field(default_factory=Money)


# --- asking ----------------------------------------------------------------------------------------------------------


@transaction.atomic
def backtest_request(asked: BacktestAsked, *, user: Any, now: datetime) -> BacktestRun:
    """Put a backtest in the queue; the caller announces it to the workers. Raises BacktestRefused."""
    problems: dict[str, list[str]] = {}
    parameters = _parameters(asked, problems)
    market = asked.market or (asked.config.data_market if asked.config else None)
    if market is None:
        problems["market"] = [gettext("Choose the market whose candles are to be tested, or a strategy that has one.")]
    resolution = asked.resolution or (asked.config.resolution if asked.config else Resolution.M1.value)
    _judge_period(asked, resolution, now, problems)
    _judge_money(asked.money, problems)
    _judge_queue(user, problems)
    if problems or parameters is None or market is None:
        raise BacktestRefused(problems)
    trades_at = asked.config.market if asked.config and not asked.market else market
    sides = asked.money.sides or (asked.config.allowed_sides if asked.config else AllowedSides.BUY.value)
    told = {"from": asked.start.isoformat(), "to": asked.end.isoformat(), "rules_of": trades_at.pk}
    return BacktestRun.objects.create(
        config=asked.config,
        strategy=_strategy_name(asked),
        parameters=parameters_to_store(parameters),
        market=market,
        resolution=resolution,
        asked={**asked.money.as_json(), **told, "sides": sides},
        requested_by=user,
        created_at=now,
    )


def _strategy_name(asked: BacktestAsked) -> str:
    return asked.strategy or (asked.config.strategy if asked.config else "")


def _parameters(asked: BacktestAsked, problems: dict[str, list[str]]) -> StrategySchema | None:
    name = _strategy_name(asked)
    if asked.config and asked.strategy and asked.strategy != asked.config.strategy:
        problems["strategy"] = [
            gettext("%(config)s runs %(strategy)s, not %(name)s: leave one of the two out.")
            % {"config": asked.config, "strategy": asked.config.strategy, "name": name}
        ]
        return None
    try:
        parameters = parameters_clean(name, {**(asked.config.parameters if asked.config else {}), **asked.parameters})
    except UnknownStrategy:
        problems["strategy"] = [
            gettext("Choose a strategy out of: %(strategies)s.") % {"strategies": ", ".join(sorted(STRATEGIES))}
        ]
        return None
    except InvalidParameters as exc:
        for at, texts in exc.errors.items():
            problems["parameters" if at == WHOLE_FORM else f"parameters.{at}"] = [sentence(each) for each in texts]
        return None
    if not create_strategy(name, parameters).initialize():
        problems["strategy"] = [gettext("%(name)s says that it cannot run with these parameters.") % {"name": name}]
    return parameters


def _judge_period(asked: BacktestAsked, resolution: str, now: datetime, problems: dict[str, list[str]]) -> None:
    if resolution not in [*Resolution]:
        problems["resolution"] = [
            gettext("There is no resolution %(resolution)s. Choose one of: %(resolution_2)s.")
            % {"resolution": repr(resolution), "resolution_2": ", ".join(Resolution)}
        ]
        return
    if asked.end > now:
        problems["end"] = [
            gettext("%(end)s %(zone)s lies in the future.") % {"zone": zone_name(), "end": minute(asked.end)}
        ]
    elif asked.start >= asked.end:
        problems["start"] = [
            gettext("It must lie before the end (%(end)s %(zone)s).") % {"end": minute(asked.end), "zone": zone_name()}
        ]
    elif asked.end - asked.start > LONGEST_PERIOD:
        problems["start"] = [gettext("A backtest covers at most %(days)s days.") % {"days": LONGEST_PERIOD.days}]
    elif (asked.end - asked.start) / Resolution(resolution).duration > MOST_CANDLES:
        problems["start"] = [
            gettext(
                "That is more than %(most_candles)s candles. Choose longer candles, a shorter period, or "
                "run it in a shell with: manage.py backtest_strategy"
            )
            % {"most_candles": digits(f"{MOST_CANDLES:,}")}
        ]


def _judge_money(money: Money, problems: dict[str, list[str]]) -> None:
    for name in ("fee_percent", "slippage_percent"):
        if (percent := getattr(money, name)) is not None and not 0 <= percent < 100:
            problems[name] = [gettext("It must be a percent from 0 to below 100.")]
    for name in ("balance", "base_balance"):
        if (amount := getattr(money, name)) is not None and not 0 <= amount < Decimal(10) ** 20:
            problems[name] = [gettext("It must be an amount of at least 0.")]
    if money.balance == 0 and not money.base_balance:
        problems["balance"] = [gettext("There must be something to trade with: a balance in quote or in base.")]
    if money.sides is not None and money.sides not in AllowedSides.values:
        problems["sides"] = [gettext("Choose one of: %(values)s.") % {"values": ", ".join(AllowedSides.values)}]


def _judge_queue(user: Any, problems: dict[str, list[str]]) -> None:
    waiting = BacktestRun.objects.filter(requested_by=user, status__in=UNFINISHED_RUNS).count()
    if user is not None and waiting >= MOST_UNFINISHED:
        problems["__all__"] = [
            gettext("%(waiting)s of your backtests still wait or run. Cancel some, or ask again when they are done.")
            % {"waiting": waiting}
        ]


# --- running ---------------------------------------------------------------------------------------------------------


def backtest_run(run_id: int, *, provider_of: ProviderOf, clock: Clock) -> str:
    """Run a backtest that is queued. Gives its status afterwards; one that is not queued (a second message, a
    cancelled run) is left as it is. What the exchange refuses or a strategy cannot do is stored as the reason why it
    failed; anything else is raised, and the caller must call `backtest_fail`."""
    if not _claim(run_id, clock.now()):
        return _status(run_id)
    run = BacktestRun.objects.select_related("market", "config__account").get(pk=run_id)
    watch = _watch(run, clock)
    try:
        _perform(run, provider_of, clock, watch)
    except RunStopped:
        logger.info("backtest stopped run=%s status=%s", run_id, _status(run_id))
    except ProviderError as exc:
        backtest_fail(run_id, f"{sentence(str(exc))} Candles downloaded so far are kept. Try again later.", clock.now())
    except (UnknownStrategy, ValueError) as exc:
        logger.warning("backtest failed run=%s why=%s", run_id, exc)
        backtest_fail(run_id, sentence(str(exc)), clock.now())
    return _status(run_id)


def backtest_fail(run_id: int, why: str, now: datetime) -> bool:
    """A running backtest failed. False where it is not running any more."""
    return _finish(run_id, RunStatus.RUNNING, RunStatus.FAILED, now, error=why)


@transaction.atomic
def backtest_cancel(run: BacktestRun, now: datetime, *, by: Actor) -> bool:
    """Cancel a backtest that waits or runs; a worker notices at its next step. False where it had ended."""
    done = any(_finish(run.pk, status, RunStatus.CANCELLED, now) for status in UNFINISHED_RUNS)
    if done:
        audit_record("backtest.cancel", by=by, subject=run, at=now, details={"strategy": run.strategy})
    return done


def backtests_sweep(now: datetime, *, silent: timedelta) -> list[int]:
    """Give up runs whose worker has been silent for so long. Returns the runs that still wait, oldest first."""
    for run in BacktestRun.objects.filter(status=RunStatus.RUNNING, heartbeat_at__lt=now - silent):
        if backtest_fail(run.pk, DIED.format(minutes=silent.total_seconds() / 60), now):
            logger.warning("backtest given up run=%s heartbeat=%s", run.pk, run.heartbeat_at)
    waiting = BacktestRun.objects.filter(status=RunStatus.QUEUED).order_by("created_at", "pk")
    return list(waiting.values_list("pk", flat=True))


def _claim(run_id: int, now: datetime) -> bool:
    queued = BacktestRun.objects.filter(pk=run_id, status=RunStatus.QUEUED)
    return bool(queued.update(status=RunStatus.RUNNING, started_at=now, heartbeat_at=now))


def _finish(run_id: int, old: RunStatus, new: RunStatus, now: datetime, **more: Any) -> bool:
    rows = BacktestRun.objects.filter(pk=run_id, status=old)
    return bool(rows.update(status=new, finished_at=now, **more))


def _status(run_id: int) -> str:
    return BacktestRun.objects.values_list("status", flat=True).get(pk=run_id)


def _watch(run: BacktestRun, clock: Clock) -> Watch:
    """Writes how far the run is, as a sign of life, at most once a second. RunStopped where it is not running."""
    last = clock.monotonic() - 1.0

    def watch(percent: float) -> None:
        nonlocal last
        if clock.monotonic() - last < 1.0 and percent < 100:
            return
        last = clock.monotonic()
        running = BacktestRun.objects.filter(pk=run.pk, status=RunStatus.RUNNING)
        if not running.update(progress=min(int(percent), 99), heartbeat_at=clock.now()):
            raise RunStopped

    return watch


def _perform(run: BacktestRun, provider_of: ProviderOf, clock: Clock, watch: Watch) -> None:
    """Candles (to 60 %), signals (to 95 %), money and report."""
    strategy = create_strategy(run.strategy, run.parameters)
    traded = Market.objects.get(pk=run.asked["rules_of"])
    money, resolution = Money.from_json(run.asked), Resolution(run.resolution)
    settings = backtest_settings(money, traded.rules, resolution, run.config, provider_of(traded.provider))
    start, end = (datetime.fromisoformat(run.asked[name]) for name in ("from", "to"))
    start -= strategy.warmup_bars * resolution.duration
    candles_fetch_range(
        run.market,
        resolution,
        provider_of(run.market.provider),
        start=start,
        end=end,
        now=clock.now(),
        progress=lambda done, total: watch(60 * (done / total)),
    )
    candles = candles_range(run.market, resolution, start, end)
    missing = candles_coverage(run.market, resolution, start, end).missing
    if len(candles) < 2:
        raise ValueError(f"the exchange has no candles of {run.market.symbol} for this period; choose another one")
    watch(60)
    rules = rules_with_fee(traded.rules, money.fee_percent)
    results = run_both_watched(candles, strategy, rules, settings, lambda done, total: watch(60 + 35 * done / total))
    notes = (f"{missing} candles are missing; nothing is invented in their place",) if missing else ()
    report = backtest_report(results, source="database", missing=missing, notes=notes)
    watch(100)
    kept = _kept(report, charts_of(results), candles)
    _finish(run.pk, RunStatus.RUNNING, RunStatus.DONE, clock.now(), progress=100, **kept)


# --- what is kept ----------------------------------------------------------------------------------------------------


def backtest_report(
    results: Mapping[FillModel, BacktestResult], *, source: str, missing: int, notes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What is told and kept of a run: `side_by_side`, its profit in toman, and which candles it read."""
    report = side_by_side(results)
    candles = next(iter(results.values())).candles
    profits = {model: figures["metrics"]["net_profit"] for model, figures in report["models"].items()}
    report["toman"] = profit_in_toman(report["quote"], profits)
    report["warnings"] = [*report["warnings"], *notes]
    report["data"] = {"source": source, "missing_candles": missing, "fingerprint": candles_fingerprint(candles)}
    if report["toman"] is None:
        report["warnings"].append(
            f"the net profit in toman is not told: no price of {report['quote']} in toman is stored here (fetch_ohlcv "
            "stores candles, for example of USDTIRT)"
        )
    return report


def backtest_record(
    report: Mapping[str, Any],
    candles: Candles,
    *,
    market: Market,
    now: datetime,
    requested_by: Any = None,
    charts: Mapping[str, Any] | None = None,
    config: StrategyConfig | None = None,
    asked: Mapping[str, Any] | None = None,
) -> BacktestRun:
    """Keep a run that is done already: its report (of `backtest_report`), its charts, and whose candles it read."""
    return BacktestRun.objects.create(
        config=config,
        strategy=report["strategy"],
        parameters=report["parameters"],
        market=market,
        resolution=report["resolution"],
        asked=dict(asked or {}),
        requested_by=requested_by,
        status=RunStatus.DONE,
        progress=100,
        created_at=now,
        started_at=now,
        finished_at=now,
        **_kept(report, charts or {}, candles),
    )


def candles_fingerprint(candles: Candles) -> str:
    """SHA-256 over all arrays: equal for equal candles, whatever file or database they came from."""
    digest = hashlib.sha256()
    for each in fields(candles):
        digest.update(getattr(candles, each.name).tobytes())
    return digest.hexdigest()


def _kept(report: Mapping[str, Any], charts: Mapping[str, Any], candles: Candles) -> dict[str, Any]:
    """The columns of a run that is done."""
    metrics = report["metrics"]
    return {
        "data_from": _moment(candles.open_time[0]),
        "data_to": _moment(candles.open_time[-1]),
        "candles": len(candles),
        "data_fingerprint": report["data"]["fingerprint"],
        "code_version": code_version(),
        "strategy_fingerprint": source_fingerprint(strategy_class(report["strategy"])),
        "summary": dict(report),
        "charts": dict(charts),
        **{name: metrics[name] for name in LISTED},
    }


def _moment(unix: int) -> datetime:
    return datetime.fromtimestamp(int(unix), UTC)
