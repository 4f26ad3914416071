"""Where front doors leave work for the workers. The row is the queue; a message only says that there is one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError as BrokerError

from algo.models import OutboxEvent, StrategyConfig

logger = logging.getLogger("algo.queues")

BACKTESTS, NOTIFICATIONS, ORDERS, STRATEGIES = "backtests", "notifications", "orders", "strategies"
# A message that was not taken by then is dropped: beat sends another for every run that still waits.
MESSAGE_LIVES_SECONDS = 90.0
# AttributeError: kombu trips over its own connection when the broker goes away at that moment.
_NO_BROKER = (BrokerError, OSError, AttributeError)
# A hint for an account that somebody else holds knocks again. A pass over a few deals is over by then.
KNOCKS, KNOCK_SECONDS = 8, 0.1


class NoBroker(Exception):
    """The broker does not answer: nothing was handed out."""


def messages_wait(queue: str) -> bool:
    """Whether a message waits in a queue for a worker; False also where the broker does not say."""
    from redis import RedisError  # noqa: PLC0415 - the guardian loads this module, and must not need Redis

    try:
        with current_app.connection_or_acquire() as broker:
            return int(broker.default_channel.client.llen(queue)) > 0
    except (*_NO_BROKER, RedisError) as exc:
        logger.warning("depth of the queue %s is not known: %s", queue, exc)
        return False


def backtest_enqueue(run_id: int) -> None:
    """Tell a worker, once this transaction is committed, that a backtest waits. A lost message costs a minute."""

    def send() -> None:
        with _or_say("backtest not announced run=%s why=%s; the sweep will", run_id):
            _send("algo.tasks.run_backtest", run_id, expires=MESSAGE_LIVES_SECONDS)

    transaction.on_commit(send)


def advance_hint(account_id: int) -> None:
    """Tell a worker, once this transaction is committed, that there is something to do for an account. A lost message
    costs a second: the guardian looks anyway."""

    def send() -> None:
        with _or_say("hint not sent account=%s why=%s: the guardian looks anyway", account_id):
            _send("algo.tasks.advance_account", account_id, queue=ORDERS)

    transaction.on_commit(send)


def advance_told(account_id: int, orders: Sequence[str]) -> None:
    """Tell a worker at once that the exchange's stream told of these orders of an account."""
    with _or_say("hint not sent account=%s why=%s: the guardian looks anyway", account_id):
        _send("algo.tasks.advance_account", account_id, list(orders), queue=ORDERS)


def advance_again(account_id: int, orders: Sequence[str], knocks: int) -> None:
    """Send the hint for an account that somebody else holds once more, a moment later."""
    with _or_say("hint not sent account=%s why=%s: the guardian looks anyway", account_id):
        args = [account_id, list(orders), knocks]
        _send("algo.tasks.advance_account", *args, queue=ORDERS, countdown=KNOCK_SECONDS)


def evaluate_hint(config: StrategyConfig) -> None:
    """Tell a worker to let a strategy decide over its newest closed candle now. Raises NoBroker: beat's tick does it
    once the broker is back."""
    args = [config.data_market_id, config.resolution, [config.pk]]
    _send("algo.tasks.evaluate_strategies", *args, queue=STRATEGIES, expires=MESSAGE_LIVES_SECONDS)


def channel_hint(channel_id: int) -> None:
    """Tell a worker that a channel has something to send. A lost message costs some seconds: beat asks too."""
    with _or_say("channel not announced id=%s why=%s: beat's tick finds it", channel_id):
        _send("algo.tasks.deliver_channel", channel_id, queue=NOTIFICATIONS, expires=MESSAGE_LIVES_SECONDS)


def events_hint() -> None:
    """Tell a worker, once this transaction is committed, that somebody may want to hear of what was recorded; nothing
    where all of it is handed out. What the guardian records goes with the next of these: it knows no broker. A lost
    message costs some seconds: beat asks too."""

    def send() -> None:
        if not OutboxEvent.objects.filter(fanned_out_at=None).exists():
            return
        with _or_say("events not announced why=%s: beat's tick finds them"):
            _send("algo.tasks.deliver_outbox", queue=NOTIFICATIONS, expires=MESSAGE_LIVES_SECONDS)

    transaction.on_commit(send)


def signals_hint() -> None:
    """Tell a worker, once this transaction is committed, that a signal from outside waits. A lost message costs some
    seconds: beat asks too."""

    def send() -> None:
        with _or_say("signal not announced why=%s: beat's sweep finds it"):
            _send("algo.tasks.decide_signals", queue=STRATEGIES, expires=MESSAGE_LIVES_SECONDS)

    transaction.on_commit(send)


def search_hand_out(run_id: int, *, jobs: int = 1) -> None:
    """Tell `jobs` workers to go on with a search for parameters; several share one search. Raises NoBroker."""
    for _ in range(jobs):
        _send("algo.tasks.optimise", run_id)


@contextmanager
def _or_say(message: str, *about: Any) -> Iterator[None]:
    """For what is lost without harm: where no broker answers, log `message` of `about` and of the cause."""
    try:
        yield
    except NoBroker as exc:
        logger.warning(message, *about, exc.__cause__)


def _send(task: str, *args: Any, queue: str = BACKTESTS, **options: Any) -> None:
    try:
        current_app.send_task(task, args=list(args), queue=queue, retry=False, **options)
    except _NO_BROKER as exc:
        raise NoBroker("The broker of the workers cannot be reached") from exc
