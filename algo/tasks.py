"""Celery tasks: ids in, one call. Each is safe to run twice, late or never: the guardian needs none of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.utils import timezone

from algo.exchanges import CLOCK, account_provider, public_provider, sign_of_life
from algo.execution.advance import Advanced, look_after
from algo.execution.alerts import alerts_decide
from algo.execution.entries import deciding_alone, due_groups, evaluate_group
from algo.execution.reconcile import accounts_due
from algo.models import (
    Account,
    AccountState,
    Environment,
    Heartbeat,
    Market,
    OptimisationRun,
    ParityReport,
    Provider,
    StrategyConfig,
)
from algo.models.fields import SecretUnreadable
from algo.notifications.deliver import channel_deliver, channels_due
from algo.notifications.senders import SENDERS
from algo.notifications.webhook import send_webhook_notification
from algo.queues import (
    BACKTESTS,
    KNOCKS,
    MESSAGE_LIVES_SECONDS,
    STRATEGIES,
    advance_again,
    advance_hint,
    backtest_enqueue,
    events_hint,
    messages_wait,
)
from algo.selectors.health import WORKER
from algo.selectors.parity import configs_that_decided, day_bounds, trading_day
from algo.services.accounts import key_note_scopes, keys_watch
from algo.services.alarm_events import alarms_watch
from algo.services.backtests import SILENT_SECONDS, backtest_fail, backtest_run, backtests_sweep
from algo.services.candle_fetches import candle_fetches_work
from algo.services.daily_summary import summaries_record
from algo.services.fan_out import fan_out, outbox_prune
from algo.services.idempotency import answers_prune
from algo.services.live_changes import live_changes_prune
from algo.services.markets import markets_refresh
from algo.services.optimisation_evidence import judging_alone, optimisation_judge
from algo.services.optimisations import (
    OPEN,
    OptimisationRefused,
    optimisation_fail,
    optimisation_open,
    optimisation_search,
    optimisations_silent,
)
from algo.services.optuna_studies import StudyUnavailable
from algo.services.parity import NothingToCompare, parity_report
from algo.services.partitions import candles_drop, journal_shrink, partitions_prepare
from algo.services.sign_in import attempts_prune
from algo.services.tokens import tokens_prune
from algo.strategies import InvalidParameters, UnknownStrategy
from providers.errors import ProviderError
from providers.recorded import RecordedDataError
from providers.types import Resolution

logger = logging.getLogger("algo.tasks")

BACKTEST_SECONDS = 1800

__all__ = [
    "advance_account",
    "compare_config",
    "compare_days",
    "decide_signals",
    "deliver_channel",
    "deliver_outbox",
    "evaluate_strategies",
    "fetch_candles",
    "optimise",
    "prepare_partitions",
    "prune_api",
    "prune_candles",
    "prune_journal",
    "prune_notifications",
    "refresh_markets",
    "run_backtest",
    "run_strategies",
    "send_webhook_notification",
    "sweep_accounts",
    "sweep_backtests",
    "sweep_optimisations",
    "tell_summaries",
    "watch_alarms",
    "watch_keys",
    "worker_alive",
]


@shared_task(queue="strategies")
def run_strategies() -> int:
    """Beat's tick: find the strategies whose next candle has closed and hand each group on. Returns the groups.

    Nothing is handed on while the workers have not taken all of what was: whoever is still due is found by a later
    tick."""
    now = CLOCK.now()
    Heartbeat.objects.update_or_create(name="beat", defaults={"at": now})
    groups = [] if messages_wait(STRATEGIES) else due_groups(now)
    for group in groups:
        evaluate_strategies.apply_async(
            args=[group.data_market_id, group.resolution.value, list(group.config_ids)], expires=MESSAGE_LIVES_SECONDS
        )
    return len(groups)


@shared_task(queue="strategies")
def evaluate_strategies(data_market_id: int, resolution: str, config_ids: list[int]) -> None:
    """Let one group of strategies decide over its newest closed candle. While another worker has them decide, it is
    left to that one."""
    market, length = Market.objects.get(pk=data_market_id), Resolution(resolution)
    with deciding_alone(market, length) as is_alone:
        if not is_alone:
            return
        try:
            outcomes = evaluate_group(
                market,
                length,
                config_ids,
                data_provider=public_provider(market.provider),
                book_provider=public_provider,
                account_provider=account_provider,
                clock=CLOCK,
                on_planned=advance_hint,
            )
        except ProviderError as exc:
            logger.warning("%scandles of %s not read: %s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, market, exc)
            return
    if outcomes:
        counts = " ".join(f"{outcome}={count}" for outcome, count in Counter(outcomes).items())
        logger.info("%s%s %s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, market, counts)


@shared_task(queue="strategies")
def decide_signals() -> int:
    """Decide about signals from outside that wait. Returns how many."""
    return alerts_decide(
        book_provider=public_provider, account_provider=account_provider, clock=CLOCK, on_planned=advance_hint
    )


@shared_task(queue="orders")
def advance_account(account_id: int, orders: Sequence[str] = (), knocks: int = KNOCKS, hurried: bool = True) -> str:
    """The hint: do what is due for one account now, and read `orders` again, of which the exchange's stream told. Who
    holds the account may have looked before there was anything to see: so it comes back, `knocks` times more. While
    others wait for this worker, the books are not compared: the sweep and the guardian do that."""
    account = Account.objects.get(pk=account_id)
    outcome = look_after(account, account_provider, CLOCK, spoken_of=orders, hurried=hurried)
    if outcome == Advanced.BUSY and knocks > 0:
        advance_again(account_id, orders, knocks - 1)
    events_hint()
    return outcome


@shared_task(queue="orders")
def sweep_accounts() -> int:
    """Beat's sweep over every account with something live, or not reconciled for a while. Returns how many."""
    ids = list(accounts_due(CLOCK).values_list("pk", flat=True))
    for pk in ids:
        advance_account.delay(pk, knocks=0, hurried=False)  # whoever holds it looks after it
    return len(ids)


@shared_task(queue="market_data")
def refresh_markets() -> None:
    """Rules change without notice: read them again. An exchange that does not answer keeps its old ones."""
    for name in Provider.values:
        try:
            markets_refresh(public_provider(name), now=CLOCK.now())
        except ProviderError as exc:
            logger.warning("markets of %s not refreshed: %s", name, exc)


@shared_task(queue="market_data", time_limit=85)  # shorter than the lease of the row
def fetch_candles() -> int | None:
    """Beat's look at candles that people asked for: the next few pages of one request. Returns which."""
    fetch = candle_fetches_work(public_provider, CLOCK)
    return None if fetch is None else int(fetch.pk)


@shared_task(queue="market_data")
def prune_journal() -> int:
    """Drop journal rows that said nothing and are older than a month. Signals and deals are kept for ever."""
    return journal_shrink(CLOCK.now())


@shared_task(queue="market_data")
def prune_candles() -> int:
    """Drop candles that are older than KEEP_CANDLES_DAYS. Returns how many quarters of them went."""
    return candles_drop(CLOCK.now(), days=settings.KEEP_CANDLES_DAYS)


@shared_task(queue="market_data")
def prepare_partitions() -> int:
    """Have a place ready for what will be stored within a year. Returns how many partitions were made."""
    return partitions_prepare(CLOCK.now())


@shared_task(queue="market_data")
def prune_api() -> int:
    """Forget tokens that expired a month ago, answers kept for a day, wrong passwords that count no more, and changes
    that nobody tells pages of for long. Returns how many rows went."""
    now = timezone.now()
    return tokens_prune(now) + answers_prune(now) + attempts_prune(now) + live_changes_prune()


@shared_task(queue=BACKTESTS, time_limit=BACKTEST_SECONDS, soft_time_limit=BACKTEST_SECONDS - 30)
def run_backtest(run_id: int) -> str:
    """Run one backtest that waits. Twice is once: only who claims the row runs it."""
    try:
        return backtest_run(run_id, provider_of=public_provider, clock=CLOCK)
    except SoftTimeLimitExceeded:
        backtest_fail(
            run_id,
            f"It took longer than {BACKTEST_SECONDS // 60} minutes and was stopped. Candles downloaded so far are "
            "kept. Choose a shorter period or longer candles, or run it in a shell with: manage.py backtest_strategy",
            CLOCK.now(),
        )
        return "failed"
    except Exception as exc:
        why = f"It failed with an error that nobody expected ({type(exc).__name__}); the worker's log tells more."
        backtest_fail(run_id, why, CLOCK.now())
        raise


@shared_task(queue="market_data")
def sweep_backtests() -> int:
    """Give up backtests whose worker died, and announce those that wait again. Returns how many wait."""
    waiting = backtests_sweep(CLOCK.now(), silent=CLOCK.wall(SILENT_SECONDS))
    for run_id in waiting:
        backtest_enqueue(run_id)
    return len(waiting)


@shared_task(queue="backtests")
def compare_days() -> int:
    """Replay the trading day that ended last for every strategy that decided in it and has no report of it yet; each is
    a task of its own, so that one failure keeps no other from its report. Returns how many."""
    day = trading_day(CLOCK.now()) - timedelta(days=1)
    done = set(
        ParityReport.objects.filter(day=day, computed_at__gte=day_bounds(day)[1]).values_list("config", flat=True)
    )
    ids = [config.pk for config in configs_that_decided(*day_bounds(day)) if config.pk not in done]
    for pk in ids:
        compare_config.delay(pk, day.isoformat())
    return len(ids)


@shared_task(queue="backtests")
def compare_config(config_id: int, day: str) -> int | None:
    """Compare one day of one strategy over the candles that are stored. Returns what is unexplained."""
    config = StrategyConfig.objects.select_related("account", "market", "data_market").get(pk=config_id)
    try:
        report = parity_report(config, date.fromisoformat(day), now=CLOCK.now())
    except (NothingToCompare, UnknownStrategy, InvalidParameters) as exc:
        logger.warning("%sstrategy=%s not compared: %s", settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name, exc)
        return None
    level = logging.WARNING if report.unexplained else logging.INFO
    logger.log(level, "%sstrategy=%s compared with the backtest day=%s differences=%s unexplained=%s",
               settings.STRATEGY_PROCESSOR_LOG_PREFIX, config.name, day, report.summary["differences"],
               report.unexplained)  # fmt: skip
    return report.unexplained


# --- searches for parameters -----------------------------------------------------------------------------------------

SEARCH_SLICE = 45.0  # wall seconds, after which the rest goes into a message of its own


@shared_task(queue="backtests", time_limit=290)  # less than half of the broker's visibility timeout
def optimise(run_id: int) -> str:
    """Go on with a search for a while, then hand the rest on. Several at once share it; one alone judges the best."""
    run = OptimisationRun.objects.select_related("market").get(pk=run_id)
    deadline = time.monotonic() + SEARCH_SLICE

    def halted() -> bool:
        return time.monotonic() > deadline

    try:
        search = optimisation_open(run)
        if optimisation_search(search, clock=CLOCK, halted=halted):
            with judging_alone(run) as alone:
                if alone:
                    optimisation_judge(search, clock=CLOCK, halted=halted)
    except (OptimisationRefused, StudyUnavailable, RecordedDataError) as exc:
        optimisation_fail(run, str(exc), now=CLOCK.now())
        logger.warning("search failed run=%s why=%s", run_id, exc)
    run.refresh_from_db(fields=["status"])
    if halted() and run.status in OPEN:
        optimise.delay(run_id)
    return str(run.status)


@shared_task(queue="backtests")
def sweep_optimisations() -> int:
    """Beat's look at searches whose workers are gone: hand them out again. Returns how many."""
    silent = optimisations_silent(CLOCK)
    for run in silent:
        optimise.delay(run.pk)
    return len(silent)


@shared_task(queue="strategies")
def worker_alive(queue: str) -> None:
    """Beat sends it to every queue: whoever works there says that tasks of that queue are done, and what it knows of
    the exchanges."""
    told = {"at": CLOCK.now(), "detail": sign_of_life()}
    Heartbeat.objects.update_or_create(name=f"{WORKER}{queue}", defaults=told)


@shared_task(queue="notifications")
def watch_keys() -> int:
    """Ask what live keys may do where nobody knows, and warn of keys that are about to expire. Returns how many
    warnings were given."""
    unknown = Account.objects.filter(state=AccountState.ACTIVE, environment=Environment.LIVE, key_scopes__isnull=True)
    for account in unknown if settings.EXCHANGE_ENVIRONMENT == "live" else ():
        try:
            key_note_scopes(account, account_provider(account).key_details().scopes)
        except (ProviderError, SecretUnreadable) as exc:
            logger.warning("account=%s: what its key may do is not known: %s", account.name, exc)
    warned = keys_watch(CLOCK.now())
    events_hint()
    return warned


@shared_task(queue="notifications", time_limit=60)
def watch_alarms() -> int:
    """Look for what is to be told though nobody did anything. Returns how many events were recorded."""
    recorded = alarms_watch(CLOCK.now(), speed=CLOCK.speed)
    events_hint()
    return recorded


@shared_task(queue="notifications")
def deliver_outbox() -> int:
    """The hint, and beat's tick: who is to be told what happened, and which channels have something to send; each is a
    task of its own, so that one that does not answer holds up no other. Returns how many deliveries were made."""
    now = CLOCK.now()
    made = fan_out(now, speed=CLOCK.speed)
    for pk in channels_due(now):
        deliver_channel.apply_async(args=[pk], expires=60)
    return made


@shared_task(queue="notifications", time_limit=55)  # shorter than the lease of the channel
def deliver_channel(channel_id: int) -> int:
    """Send what is due on one channel. Returns how many events were delivered."""
    return channel_deliver(channel_id, CLOCK.now(), SENDERS, speed=CLOCK.speed)


@shared_task(queue="notifications")
def tell_summaries() -> int:
    """Record the daily summaries that are due. Returns how many."""
    recorded = summaries_record(CLOCK.now())
    events_hint()
    return recorded


@shared_task(queue="notifications")
def prune_notifications() -> int:
    """Forget events that are older than a month and wait for nobody. Returns how many."""
    return outbox_prune(CLOCK.now())
