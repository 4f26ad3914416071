"""Two beats as processes: one sends, and when it is killed, hangs or leaves, the other one does."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from algo.services import alone
from algo.services.alone import Lead
from algo_trade.beat import _BEAT
from tests.execution.processes import said, servers_only, started, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

TAKE_OVER_SECONDS = 5.0
SENT = "Sending due task"


class Beats:
    def __init__(self, folders: list[Path], processes: list[subprocess.Popen[bytes]]) -> None:
        self.folders, self.processes = folders, processes

    def sent(self, number: int) -> int:
        return said(self.folders[number]).count(SENT)

    def leads(self, number: int) -> bool:
        return "beat leads" in said(self.folders[number])

    def wait_for_word(self, number: int, count: int = 1, seconds: float = 20.0) -> None:
        enough = self.sent(number) + count
        wait_for(lambda: self.sent(number) >= enough, seconds, f"beat {number} sends", folder=self.folders[number])


@pytest.fixture
def beats(tmp_path) -> Iterator[Beats]:
    """The second starts when the first sends. Nothing takes what they send: Redis' database of this test is flushed."""
    folders = [tmp_path / "one", tmp_path / "two"]
    env = servers_only(LOG_LEVEL="INFO")
    with ExitStack() as stack:
        processes = []
        for folder in folders:
            folder.mkdir()
            words = ("-m", "celery", "-A", "algo_trade", "beat", "--pidfile=")
            processes.append(stack.enter_context(started(folder, *words, env=env)))
            if len(processes) == 1:
                wait_for(lambda: SENT in said(tmp_path / "one"), 90, "the first one sends", folder=folders[0])
        wait_for(lambda: "beat: Starting" in said(folders[1]), 90, "the second one runs", folder=folders[1])
        yield Beats(folders, processes)


def test_one_of_two_sends_and_the_other_goes_on_when_it_is_killed(beats):
    beats.wait_for_word(0, count=3)
    assert (beats.leads(0), beats.sent(1)) == (True, 0)
    every, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(name="made in the admin", task="algo.tasks.run_strategies", interval=every)

    beats.processes[0].kill()
    beats.processes[0].wait(10)
    began = time.monotonic()
    wait_for(lambda: beats.sent(1) > 0, TAKE_OVER_SECONDS, "the second one sends", folder=beats.folders[1])
    assert time.monotonic() - began < TAKE_OVER_SECONDS
    wait_for(lambda: "made in the admin" in said(beats.folders[1]), 20, "by the schedule of the admin")
    assert "Traceback" not in said(beats.folders[1])


def test_who_is_told_to_end_hands_over_at_once(beats):
    beats.processes[0].send_signal(signal.SIGTERM)
    assert beats.processes[0].wait(10) == 0
    wait_for(lambda: beats.sent(1) > 0, TAKE_OVER_SECONDS, "the second one sends", folder=beats.folders[1])


def test_who_hangs_is_ended_and_sends_nothing_more_when_it_wakes_up(beats):
    beats.wait_for_word(0)
    beats.processes[0].send_signal(signal.SIGSTOP)
    try:
        longest = alone.SILENT_SECONDS + TAKE_OVER_SECONDS
        wait_for(lambda: beats.sent(1) > 0, longest, "the second one sends", folder=beats.folders[1])
        before = beats.sent(0)
    finally:
        beats.processes[0].send_signal(signal.SIGCONT)
    wait_for(lambda: "leads no longer" in said(beats.folders[0]), 10, "it notices", folder=beats.folders[0])
    beats.wait_for_word(1, count=3)
    assert beats.sent(0) - before <= 1  # what it was about to send when it was stopped
    assert beats.processes[0].poll() is None


# --- the lock itself --------------------------------------------------------------------------------------------------


@pytest.fixture
def two() -> Iterator[tuple[Lead, Lead]]:
    first, second = Lead(_BEAT, 7), Lead(_BEAT, 7)
    yield first, second
    first.let_go()
    second.let_go()


def end_sessions_but_this() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s", [_BEAT]
        )


def test_one_leads_until_it_lets_go(two):
    first, second = two
    assert [first.take(), second.take(), first.take(), second.take()] == [True, False, True, False]
    first.let_go()
    assert second.take()


def test_a_lost_session_is_a_lost_lead_which_is_had_again_if_nobody_took_it(two):
    first, second = two
    assert first.take()
    end_sessions_but_this()
    assert not first.take()
    assert first.take()
    assert not second.take()


def test_another_number_is_another_work(two):
    other = Lead(_BEAT, 8)
    assert two[0].take()
    assert other.take()
    other.let_go()


def test_nobody_leads_through_shared_sessions(settings):
    settings.DATABASE_POOLED = True
    with pytest.raises(ImproperlyConfigured, match="holds no lock there"):
        Lead(_BEAT)
    with pytest.raises(ImproperlyConfigured, match="holds no lock there"), alone.alone(_BEAT, 1):
        pass
