"""A Celery application with nothing in it, and a client that times it: `python -m benchmarks.live.floor_app 5 200`.

A process of its own, because a client of results goes on looking for its server when that has ended.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

from celery import Celery

app = Celery("floor", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_default_queue="floor",
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
)


@app.task(name="floor.nothing")
def nothing() -> None:
    """Received, done, answered."""


def timed(rounds: int, count: int) -> list[float]:
    """Of each round, the median seconds from sending a task to having its result; a first round warms up."""
    return [statistics.median(_once() for _ in range(count)) for _ in range(rounds + 1)][1:]


def _once() -> float:
    began = time.perf_counter()
    nothing.delay().get(timeout=30)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(timed(int(sys.argv[1]), int(sys.argv[2]))))
