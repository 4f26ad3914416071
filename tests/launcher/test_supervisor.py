"""Order of start, readiness, restart with back-off, order of stop, and nothing left behind. Real processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from launcher import ROOT, supervisor
from launcher.console import LauncherError
from launcher.processes import free_port, fresh_log, limit_log, port_is_free
from launcher.supervisor import Service, Supervisor, back_off_seconds

SLEEPER = "import time\nwhile True: time.sleep(1)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def make(tmp_path: Path, *services: Service) -> Supervisor:
    return Supervisor(list(services), tmp_path / "logs")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "READY_LOOK_SECONDS", 0.01)


def until(supervised: Supervisor, condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        supervised.look()
        time.sleep(0.01)


def test_the_back_off_doubles_up_to_half_a_minute():
    assert [back_off_seconds(crashes) for crashes in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_service_starts_only_when_what_it_needs_is_ready(tmp_path):
    flag = tmp_path / "server-is-ready"
    order: list[str] = []
    server = Service("server", python(SLEEPER), os.environ, ready=lambda _: flag.exists())
    task = Service("task", python("print('done')"), os.environ, needs=("server",), once=True, capture=True)
    client = Service("client", python(SLEEPER), os.environ, needs=("task",))
    supervised = make(tmp_path, client, task, server)
    try:
        supervised.look()
        supervised.look()
        assert task.process is None
        flag.touch()
        assert supervised.start(lambda service: order.append(service.name)) is True
    finally:
        supervised.stop()
    assert order == ["server", "task", "client"]
    assert task.output == b"done\n"


def test_a_need_that_is_not_started_here_is_taken_as_met(tmp_path):
    """With DATABASE_URL set there is no PostgreSQL among the services."""
    supervised = make(tmp_path, Service("migrate", python(""), os.environ, needs=("postgres",), once=True))
    assert supervised.start() is True
    supervised.stop()


def test_a_failing_task_ends_the_start_with_its_last_words(tmp_path):
    supervised = make(tmp_path, Service("migrate", python("raise SystemExit('no such column')"), os.environ, once=True))
    with pytest.raises(LauncherError, match="no such column"):
        supervised.start()
    supervised.stop()


def test_a_service_that_keeps_crashing_before_all_was_ready_ends_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "back_off_seconds", lambda crashes: 0.01)
    crashing = Service("web", python("raise SystemExit('address in use')"), os.environ, ready=lambda _: False)
    supervised = make(tmp_path, crashing)
    with pytest.raises(LauncherError, match="address in use"):
        supervised.start()
    assert crashing.crashes == supervisor.CRASHES_BEFORE_GIVING_UP
    supervised.stop()


def test_a_service_that_refuses_what_it_was_told_is_not_tried_again(tmp_path):
    code = "import sys; sys.stderr.write('noise\\nthe exchange does not answer'); sys.exit(2)"
    refusing = Service("paper", python(code), os.environ, ready=lambda _: False, refusal=2)
    supervised = make(tmp_path, refusing)
    with pytest.raises(LauncherError) as told:
        supervised.start()
    supervised.stop()
    assert str(told.value).startswith("paper cannot start. the exchange does not answer\n")
    assert refusing.crashes == 1  # once was enough


def test_a_crashed_service_comes_back_after_its_back_off_and_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(supervisor, "back_off_seconds", lambda crashes: 0.3)
    service = Service("worker", python(SLEEPER), os.environ)
    supervised = make(tmp_path, service)
    try:
        assert supervised.start()
        first = service.process
        first.kill()
        first.wait()
        supervised.look()
        killed_at = time.monotonic()
        until(supervised, lambda: service.process is not first)
        assert 0.25 < time.monotonic() - killed_at < 2
        assert service.process.poll() is None
    finally:
        supervised.stop()
    assert "worker ended by signal 9; starting it again" in capsys.readouterr().err


def test_what_a_killed_service_left_in_its_session_is_ended_before_it_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "back_off_seconds", lambda crashes: 60)
    note = tmp_path / "pid"
    code = f"""
        import subprocess, sys, time, pathlib
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(note)!r}).write_text(str(child.pid))
        time.sleep(60)
    """
    service = Service("worker", python(code), os.environ, ready=lambda _: note.exists() and note.read_text() != "")
    supervised = make(tmp_path, service)
    try:
        assert supervised.start()
        orphan = int(note.read_text())
        service.process.kill()
        until(supervised, lambda: gone(orphan))
    finally:
        supervised.stop()


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_stages_stop_one_after_the_other_and_a_deaf_child_is_killed(tmp_path):
    diary = tmp_path / "diary"
    code = f"""
        import pathlib, signal, sys, time
        def leave(*_):
            with open({str(diary)!r}, "a") as file: file.write(sys.argv[1] + " ")
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        pathlib.Path({str(tmp_path)!r}, sys.argv[1]).touch()
        while True: time.sleep(0.02)
    """
    deaf = f"""
        import pathlib, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path({str(tmp_path)!r}, "deaf").touch()
        while True: time.sleep(1)
    """

    def listening(service: Service) -> bool:
        return (tmp_path / service.name).exists()

    supervised = make(
        tmp_path,
        Service("server", [*python(code), "server"], os.environ, ready=listening, stop_stage=2),
        Service("guardian", [*python(code), "guardian"], os.environ, ready=listening, stop_stage=1),
        Service("entries", [*python(code), "entries"], os.environ, ready=listening),
        Service("deaf", python(deaf), os.environ, ready=listening, stop_seconds=0.3),
    )
    assert supervised.start()
    supervised.stop()
    assert diary.read_text().split() == ["entries", "guardian", "server"]
    assert all(service.process.poll() is not None for service in supervised.services)


def test_children_do_not_outlive_a_supervisor_that_was_killed(tmp_path):
    code = f"""
        import os, sys, time
        from pathlib import Path
        from launcher.supervisor import Service, Supervisor
        child = Service("child", [sys.executable, "-c", {SLEEPER!r}], os.environ)
        supervised = Supervisor([child], Path({str(tmp_path)!r}))
        supervised.start()
        print(child.process.pid, flush=True)
        supervised.run()
    """
    parent = subprocess.Popen(python(code), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert not gone(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while not gone(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_way_of_asking_stops_the_loop(tmp_path, signum):
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    supervised = make(tmp_path)
    try:
        supervised.catch_signals()
        os.kill(os.getpid(), signum)
        supervised.run()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert supervised.stopping


def test_a_taken_port_gives_the_next_free_one():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not port_is_free(port)
        assert free_port(port) > port
    assert free_port() > 0


def test_logs_start_empty_and_the_last_three_are_kept(tmp_path):
    for run in range(6):
        fresh_log(tmp_path, "web").write_text(f"run {run}")
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"web.log": "run 5", "web.log.1": "run 4", "web.log.2": "run 3", "web.log.3": "run 2"}


def test_a_log_past_its_limit_is_emptied_in_place_and_its_writer_goes_on(tmp_path):
    log = fresh_log(tmp_path, "web")
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        limit_log(log, 50)
        writer.write(b"after")
    assert log.read_bytes() == b"after"
    assert (tmp_path / "web.log.1").read_bytes() == b"x" * 100
