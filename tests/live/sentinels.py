"""Two real servers and three real sentinels that watch them, as processes."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from launcher.embedded import valkey_binary
from launcher.processes import free_ports, spawn, stop

PASSWORD, OF_SENTINELS, MASTER = "of the servers", "of the sentinels", "algo"
DOWN_AFTER_MS, FAILOVER_MS = 1000, 3000


@dataclass
class Watched:
    """`servers`: by port; the sentinels say which of them is the master."""

    servers: dict[int, subprocess.Popen[bytes]]
    sentinels: list[int]
    logs: list[Path] = field(default_factory=list)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        login = PASSWORD.replace(" ", "%20")
        return f"sentinel://:{login}@{hosts}/0?master={MASTER}&sentinel_password={OF_SENTINELS.replace(' ', '+')}"

    def master(self) -> int:
        """The port of whom the first sentinel calls the master."""
        with redis.Redis(port=self.sentinels[0], password=OF_SENTINELS, decode_responses=True) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name(MASTER)[1])

    def is_whole(self) -> bool:
        """Whether the master has its replica, and every sentinel knows all of it: from then on it survives a death."""
        try:
            return all(self._knows_all(port) for port in self.sentinels)
        except redis.RedisError:
            return False

    def _knows_all(self, port: int) -> bool:
        with redis.Redis(port=port, password=OF_SENTINELS, decode_responses=True) as sentinel:
            [told] = [each for each in sentinel.sentinel_masters().values() if each["name"] == MASTER]
            replicas = sentinel.sentinel_slaves(MASTER)
        others = int(told["num-other-sentinels"]) == len(self.sentinels) - 1
        return others and len(replicas) == 1 and replicas[0]["master-link-status"] == "ok"

    def kill_master(self) -> int:
        port = self.master()
        self.servers[port].kill()
        self.servers[port].wait(10)
        return port


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Whole when it is yielded; nothing of it is left afterwards."""
    first, second, *sentinels = free_ports(5)
    everything = Watched({}, sentinels)
    with ExitStack() as stack:
        for port in (first, second):
            everything.servers[port] = _started(stack, folder, port, _of_server(port, first), "")
        for port in sentinels:
            _started(stack, folder, port, _of_sentinel(port, first), "--sentinel")
        deadline = time.monotonic() + 30
        while not everything.is_whole():
            assert time.monotonic() < deadline, "the sentinels do not find each other"
            time.sleep(0.1)
        yield everything


def _started(stack: ExitStack, folder: Path, port: int, lines: list[str], word: str) -> subprocess.Popen[bytes]:
    home = folder / str(port)
    home.mkdir()
    conf = home / "redis.conf"
    conf.write_text("\n".join(["bind 127.0.0.1", f"port {port}", f'dir "{home}"', *lines]) + "\n")
    words = [str(valkey_binary()), str(conf), *([word] if word else [])]
    process = spawn(words, log=home / "log", env={}, death_signal=signal.SIGKILL)
    stack.callback(stop, process, signum=signal.SIGKILL, seconds=5)
    return process


def _of_server(port: int, first: int) -> list[str]:
    follows = [] if port == first else [f"replicaof 127.0.0.1 {first}"]
    login = [f'requirepass "{PASSWORD}"', f'masterauth "{PASSWORD}"']
    return [*login, *follows, 'save ""', "repl-diskless-sync-delay 0", "maxmemory-policy noeviction"]


def _of_sentinel(port: int, first: int) -> list[str]:
    return [
        f'requirepass "{OF_SENTINELS}"',
        f"sentinel monitor {MASTER} 127.0.0.1 {first} 2",
        f'sentinel auth-pass {MASTER} "{PASSWORD}"',
        f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {MASTER} {FAILOVER_MS}",
    ]
