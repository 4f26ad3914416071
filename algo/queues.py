"""Where front doors leave work for the workers. The row is the queue; a message only says that there is one."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError as BrokerError

logger = logging.getLogger("algo.queues")

BACKTESTS = "backtests"
# A message that was not taken by then is dropped: beat sends another for every run that still waits.
MESSAGE_LIVES_SECONDS = 90.0


class NoBroker(Exception):
    """The broker does not answer: nothing was handed out."""


def backtest_enqueue(run_id: int) -> None:
    """Tell a worker, once this transaction is committed, that a backtest waits. A lost message costs a minute."""

    def send() -> None:
        try:
            _send("algo.tasks.run_backtest", run_id, expires=MESSAGE_LIVES_SECONDS)
        except NoBroker as exc:
            logger.warning("backtest not announced run=%s why=%s; the sweep will", run_id, exc.__cause__)

    transaction.on_commit(send)


def search_hand_out(run_id: int, *, jobs: int = 1) -> None:
    """Tell `jobs` workers to go on with a search for parameters; several share one search. Raises NoBroker."""
    for _ in range(jobs):
        _send("algo.tasks.optimise", run_id)


def _send(task: str, run_id: int, **options: Any) -> None:
    try:
        current_app.send_task(task, args=[run_id], queue=BACKTESTS, retry=False, **options)
    except (BrokerError, OSError, AttributeError) as exc:
        # AttributeError: kombu trips over its own connection when the broker goes away at that moment.
        raise NoBroker("The broker of the workers cannot be reached") from exc
