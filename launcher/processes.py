"""Children that never outlive their parent, free ports, logs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher import ROOT

PR_SET_PDEATHSIG = 1  # prctl(2)
LOGS_KEPT = 3
# Variables that would bend the children: bytecode is wanted (a start without it takes four times as long), and the
# virtual environment's Python finds its own packages.
NOT_FOR_CHILDREN = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would bend the children, plus `extra`."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_FOR_CHILDREN}
    return kept | dict(extra or {})


def die_with_parent(signum: int) -> Callable[[], None] | None:
    """For `preexec_fn`: the kernel sends `signum` to the child when its parent dies, however it dies (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    # Loaded here, in the parent: between fork and exec as little as possible may happen.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_the_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
        if os.getppid() != parent:  # the parent died between fork and the request
            os._exit(1)

    return ask_the_kernel


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    death_signal: int = signal.SIGTERM,
    stdout: int | None = None,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child in its own session (Ctrl-C reaches only us), its output appended to `log`."""
    with log.open("ab") as sink:
        return subprocess.Popen(
            [str(word) for word in argv],
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=sink if stdout is None else stdout,
            stderr=sink,
            start_new_session=True,
            pass_fds=keep_open,
            preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509 - the launcher has a single thread
        )


def stop(process: subprocess.Popen[bytes], *, signum: int, seconds: float) -> bool:
    """Ask a child to leave; after `seconds` its whole session is killed. True when it left by itself."""
    if process.poll() is None:
        process.send_signal(signum)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill_group(process)
        process.wait()
        return False
    kill_group(process)  # what it may have left behind in its session
    return True


def kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # nobody left


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(wanted: int = 0) -> int:
    """`wanted` or the next free port above it on loopback; any free one for 0."""
    if wanted:
        return next(port for port in range(wanted, 65536) if port_is_free(port))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> list[int]:
    """So many different free ports on loopback."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def fresh_log(directory: Path, name: str) -> Path:
    """The path of an empty log; the former ones become NAME.log.1, .2, .3."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"{name}.log"
    for age in range(LOGS_KEPT, 0, -1):
        older = directory / f"{name}.log.{age}"
        newer = directory / f"{name}.log.{age - 1}" if age > 1 else log
        if newer.exists():
            newer.replace(older)
    log.touch(mode=0o600)
    return log


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner may read it, at no moment anyone else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def limit_log(log: Path, limit: int = 32 * 1024 * 1024) -> None:
    """Past `limit` bytes keep a copy as NAME.log.1 and empty the log in place: its writer appends, and goes on."""
    if log.exists() and log.stat().st_size > limit:
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)
