"""A real worker: it takes over what a message belongs to, and counts what it did."""

from __future__ import annotations

import json
import signal
import sys
import time
import uuid

import pytest

from algo.models import Heartbeat, TalliedSum
from algo.tasks import worker_alive
from algo.trail import trail
from launcher.processes import spawn, stop
from tests.execution.processes import servers_only


def wait(condition, seconds: float = 90.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_a_task_goes_on_with_the_trail_of_who_asked_and_is_counted(tmp_path):
    log, queue = tmp_path / "worker.log", "market_data"
    words = ["-m", "celery", "-A", "algo_trade", "worker", "-Q", queue, "-c", "1", "-n", f"{uuid.uuid4().hex}@%h"]
    worker = spawn([sys.executable, *words], log=log, env=servers_only(LOG_FORMAT="json"))
    request = uuid.uuid4().hex
    try:
        with trail(request_id=request, deal=7, task="of the caller"):
            sent = worker_alive.apply_async(args=["market_data"], queue=queue)
        alone = worker_alive.apply_async(args=["market_data"], queue=queue)
        assert wait(lambda: log.read_text().count(" succeeded in ") == 2), log.read_text()
    finally:
        stop(worker, signum=signal.SIGTERM, seconds=30)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    done = {line["task_id"]: line for line in lines if " succeeded in " in line["message"]}
    assert (done[sent.id]["request_id"], done[sent.id]["deal"]) == (request, 7)
    assert done[sent.id]["task"] == "worker_alive"
    assert done[alone.id]["request_id"] == alone.id  # nobody asked for it: its own
    assert "deal" not in done[alone.id]
    assert Heartbeat.objects.get(name="worker:market_data").detail.keys() >= {"budgets", "exchanges"}
    told = {(row.name, json.loads(row.labels)["task"]): row.value for row in TalliedSum.objects.all()}
    assert told["algo_tasks", "worker_alive"] == 2
    assert told["algo_task_seconds:sum", "worker_alive"] > 0
