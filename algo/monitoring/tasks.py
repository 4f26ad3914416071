"""What workers do around a task: take over its trail, measure it, tell now and then what was counted."""

from __future__ import annotations

import time
from typing import Any

from celery.signals import (
    before_task_publish,
    task_postrun,
    task_prerun,
    worker_process_shutdown,
    worker_shutdown,
)

from algo.services.tallies import Teller
from algo.trail import CARRIED, REQUEST_ID, begin, carried
from providers.tally import TALLY

TASKS, TASK_SECONDS = "algo_tasks", "algo_task_seconds"
TASK_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)  # seconds
HEADER = "trail"
OURS = "algo.tasks."

_teller = Teller("worker")
_begun: dict[str, float] = {}  # by task id: a worker of threads runs several at once


def carry_trail() -> None:
    """From now on messages that this process sends say what they belong to."""
    before_task_publish.connect(_send_trail, dispatch_uid="algo.trail")


def watch_tasks() -> None:
    """In a worker, before its pool begins."""
    task_prerun.connect(_begin, dispatch_uid="algo.watch")
    task_postrun.connect(_end, dispatch_uid="algo.watch")
    worker_process_shutdown.connect(_tell, dispatch_uid="algo.watch")
    worker_shutdown.connect(_tell, dispatch_uid="algo.watch")


def _send_trail(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None and (ids := carried()):
        headers[HEADER] = ids


def _begin(task_id: str, task: Any, **_: Any) -> None:
    told = getattr(task.request, HEADER, None)
    ids = {name: value for name, value in told.items() if name in CARRIED} if isinstance(told, dict) else {}
    begin(**{REQUEST_ID: getattr(task.request, "root_id", None) or task_id, **ids}, task=_short(task), task_id=task_id)
    _begun[task_id] = time.monotonic()


def _end(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    began = _begun.pop(task_id, None)
    if began is not None:
        TALLY.observe(TASK_SECONDS, time.monotonic() - began, TASK_BOUNDS, task=_short(task))
        TALLY.add(TASKS, task=_short(task), state=(state or "unknown").lower())
    begin()
    _teller.tell_if_due()


def _tell(**_: Any) -> None:
    _teller.tell()


def _short(task: Any) -> str:
    """A task's name; one of the library's own keeps its whole name. They are registered, so there are few."""
    return str(task.name).removeprefix(OURS)
