"""The Celery application. Losing or doubling a message costs latency, never safety: see algo/execution/advance.py."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import import_modules, setup_logging, worker_init, worker_process_init
from kombu import Exchange, Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")

# `orders` never waits behind anything else.
QUEUES = ("orders", "strategies", "market_data", "notifications", "backtests")

app = Celery("algo_trade")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=False,  # a lost tick is caught by the next one; a doubled one is absorbed by constraints
    worker_prefetch_multiplier=1,
    task_time_limit=120,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_max_tasks_per_child=2000,
    worker_soft_shutdown_timeout=5,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_hijack_root_logger=False,
    task_default_queue="strategies",
    task_create_missing_queues=False,
    # Each queue has a routing key of its own: with a shared one every message would land in all of them.
    task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
    task_send_sent_event=True,
    worker_send_task_events=True,
    result_expires=3600,
    timezone="UTC",
)
app.autodiscover_tasks(["algo"])


@setup_logging.connect
def use_django_logging(**_: Any) -> None:
    """Celery must not replace the handlers that mask secrets."""
    import logging.config  # noqa: PLC0415

    from django.conf import settings  # noqa: PLC0415

    logging.config.dictConfig(settings.LOGGING)


@import_modules.connect
def look_at_flower(**_: Any) -> None:
    """Flower asks for the tasks before it listens."""
    from algo_trade.flower import refuse_open_flower  # noqa: PLC0415
    from algo_trade.settings import env  # noqa: PLC0415

    refuse_open_flower(is_serving=env.is_serving)


@worker_init.connect
def share_budgets(**_: Any) -> None:
    """Before the pool forks: every process of this worker calls the exchanges from the common budgets, and only where
    the streams do not tell."""
    from algo.live.join import join_other_processes  # noqa: PLC0415
    from algo.live.streamed import prefer_streams  # noqa: PLC0415
    from algo.monitoring.tasks import watch_tasks  # noqa: PLC0415

    join_other_processes()
    prefer_streams()
    watch_tasks()


@worker_process_init.connect
def warm_up(**_: Any) -> None:
    """Compile the indicators before the first candle closes, not while it waits."""
    import numpy as np  # noqa: PLC0415

    from algo.strategies.interface import Candles, MarketData  # noqa: PLC0415
    from algo.strategies.strategy_factory import STRATEGIES  # noqa: PLC0415

    times, flat = np.arange(300, dtype=np.int64) * 60, np.ones(300)
    candles = Candles(times, flat, flat, flat, flat, flat)
    for strategy in STRATEGIES.values():
        strategy().execute(MarketData(candles))
