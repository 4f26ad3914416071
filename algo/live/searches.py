"""Searches for parameters, handed to the workers of the queue `backtests`."""

from __future__ import annotations

from celery import current_app
from kombu.exceptions import OperationalError


class NoBroker(Exception):
    """The broker does not answer: nothing was handed out."""


def search_hand_out(run_id: int, *, jobs: int = 1) -> None:
    """Tell `jobs` workers to go on with a search. Each message is an id; several share one search. Raises NoBroker."""
    try:
        for _ in range(jobs):
            current_app.send_task("algo.tasks.optimise", args=[run_id], queue="backtests", retry=False)
    except (OperationalError, OSError, AttributeError) as exc:
        # AttributeError: kombu trips over its own connection when the broker goes away at that moment.
        raise NoBroker("The broker of the workers cannot be reached") from exc
