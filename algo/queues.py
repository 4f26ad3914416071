"""Where front doors leave work for the workers. The row is the queue; a message only says that there is one."""

from __future__ import annotations

import logging

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError as BrokerError

logger = logging.getLogger("algo.queues")

BACKTESTS = "backtests"
# A message that was not taken by then is dropped: beat sends another for every run that still waits.
MESSAGE_LIVES_SECONDS = 90.0


def backtest_enqueue(run_id: int) -> None:
    """Tell a worker, once this transaction is committed, that a backtest waits. A lost message costs a minute."""

    def send() -> None:
        try:
            options = {"queue": BACKTESTS, "expires": MESSAGE_LIVES_SECONDS, "retry": False}
            current_app.send_task("algo.tasks.run_backtest", [run_id], **options)
        except (BrokerError, OSError, AttributeError) as exc:
            # AttributeError: kombu trips over its own connection when the broker goes away at that moment.
            logger.warning("backtest not announced run=%s why=%s; the sweep will", run_id, exc)

    transaction.on_commit(send)
