"""Processes of the seeded world: they run until they sleep, die where they are killed, and stand still where told."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.simulation.scheduler import Scheduler, VirtualTime


def scheduler() -> Scheduler:
    return Scheduler(VirtualTime(datetime(2026, 11, 2, tzinfo=UTC)))


def test_processes_take_turns_when_they_sleep_and_at_no_other_moment():
    world, told = scheduler(), []

    def work(name: str, pause: float) -> None:
        for _ in range(2):
            told.append((name, world.time.elapsed))
            world.sleep(pause)

    world.spawn("slow", lambda: work("slow", 3.0))
    world.spawn("fast", lambda: work("fast", 1.0), after=0.5)
    world.run(10)
    assert told == [("slow", 0.0), ("fast", 0.5), ("fast", 1.5), ("slow", 3.0)]


def test_a_killed_process_runs_its_last_words_and_nothing_after():
    world, told = scheduler(), []

    def work() -> None:
        try:
            world.sleep(5.0)
            told.append("went on")
        finally:
            told.append("last words")

    process = world.spawn("doomed", work, on_end=lambda _: told.append("ended"))
    world.later(1.0, world.kill, process)
    world.run(10)
    assert told == ["last words", "ended"]


def test_no_except_clause_holds_death_up():
    world, told = scheduler(), []

    def work() -> None:
        try:
            world.sleep(5.0)
        except Exception:  # noqa: BLE001 - as somebody's might be
            told.append("caught")
        told.append("went on")

    world.later(1.0, world.kill, world.spawn("doomed", work))
    world.run(10)
    assert told == []


def test_a_stalled_process_finds_its_answer_when_it_goes_on():
    world, told = scheduler(), []

    def work() -> None:
        told.append((world.sleep(20.0), world.time.elapsed))

    process = world.spawn("asleep", work)
    world.later(1.0, world.stall, process, 9.0)
    world.later(2.0, lambda: world.wake(process, process.waits, "the answer"))
    world.run(30)
    assert told == [("the answer", 10.0)]


def test_a_wake_up_for_an_earlier_wait_is_none():
    world, told = scheduler(), []

    waits = []

    def work() -> None:
        for _ in range(2):
            waits.append(process.waits + 1)
            told.append((world.sleep(2.0), world.time.elapsed))

    process = world.spawn("asleep", work)
    world.later(3.0, lambda: world.wake(process, waits[0], "too late"))
    world.run(10)
    assert told == [(None, 2.0), (None, 4.0)]
