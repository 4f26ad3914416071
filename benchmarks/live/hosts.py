"""Two more hosts on this machine: network namespaces, each with its own address, joined by a bridge.

Processes in them reach PostgreSQL (over TCP, with a password), Valkey and the paper exchange at the bridge's address,
as workers on another machine would. Needs root and iproute2; `Skipped` says what is missing. The servers listen on the
bridge only while this lasts; nothing outside this machine can reach it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlparse

import redis

from benchmarks.live.measure import Skipped
from benchmarks.live.platform import Platform
from launcher.supervisor import Service

HOSTS = 2
POSTGRES_PORT = 5432
SUBNETS = range(16, 250)  # 10.213.N.0/24


@dataclass(frozen=True, slots=True)
class Hosts:
    """The namespaces, and the variables under which a process in one of them finds the servers."""

    names: tuple[str, ...]
    env: dict[str, str]

    def inside(self, host: int, service: Service) -> Service:
        """The same process, on that host (from 0)."""
        words = ["ip", "netns", "exec", self.names[host], *service.argv]
        return replace(service, argv=words, env={**service.env, **self.env})


@contextlib.contextmanager
def hosts(platform: Platform) -> Iterator[Hosts]:
    """Call it while none of the platform's own processes run; the exchange begins anew, and so does the database."""
    if os.geteuid() != 0:
        raise Skipped("network namespaces need root: run it as root, or compare with docs/scaling.md")
    if shutil.which("ip") is None:
        raise Skipped("the program ip is not here: install iproute2")
    with contextlib.ExitStack() as cleanup:
        subnet, names = _network(cleanup)
        gateway = f"{subnet}.1"
        env = _listen(platform, subnet, gateway, cleanup)
        yield Hosts(names, env)


def _network(cleanup: contextlib.ExitStack) -> tuple[str, tuple[str, ...]]:
    """(the first three numbers of the addresses, the namespaces)."""
    mark = secrets.token_hex(3)
    bridge = f"algobr{mark}"
    subnet = _free_subnet()
    _ip(f"link add {bridge} type bridge")
    cleanup.callback(_ip, f"link del {bridge}")
    _ip(f"addr add {subnet}.1/24 dev {bridge}")
    _ip(f"link set {bridge} up")
    names = tuple(f"algo-{mark}-{number}" for number in range(HOSTS))
    for number, name in enumerate(names):
        wire = f"algov{number}{mark}"
        _ip(f"netns add {name}")
        cleanup.callback(_ip, f"netns del {name}")
        _ip(f"link add {wire} type veth peer name eth0 netns {name}")
        _ip(f"link set {wire} master {bridge} up")
        _ip(f"-n {name} addr add {subnet}.{number + 2}/24 dev eth0")
        _ip(f"-n {name} link set eth0 up")
        _ip(f"-n {name} link set lo up")
    return subnet, names


def _free_subnet() -> str:
    taken = subprocess.run(["ip", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    free = [number for number in SUBNETS if f"10.213.{number}." not in taken]
    if not free:
        raise Skipped("every network 10.213.16.0/24 to 10.213.249.0/24 is in use here")
    return f"10.213.{free[os.getpid() % len(free)]}"


def _ip(words: str) -> None:
    done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"ip {words} was refused: {done.stderr.strip()}")


def _listen(platform: Platform, subnet: str, gateway: str, cleanup: contextlib.ExitStack) -> dict[str, str]:
    """Have the three servers answer at the bridge too; the variables that say where."""
    env = {}
    env["DATABASE_URL"] = _postgres(platform, subnet, gateway, cleanup)
    env["REDIS_URL"] = _valkey(platform, gateway, cleanup)
    env |= _exchange(platform, gateway, cleanup)
    return env


def _postgres(platform: Platform, subnet: str, gateway: str, cleanup: contextlib.ExitStack) -> str:
    assert platform.plan.postgres is not None
    with socket.socket() as probe:
        try:
            probe.bind((gateway, POSTGRES_PORT))
        except OSError as exc:
            raise Skipped(f"port {POSTGRES_PORT} is taken on every address here: {exc}") from exc
    password = secrets.token_hex(16)
    with platform.database("postgres") as connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER ROLE postgres PASSWORD '{password}'")
    rules = platform.plan.postgres.data / "pg_hba.conf"
    with rules.open("a") as file:
        file.write(f"host all all {subnet}.0/24 scram-sha-256\n")
    service = platform.server("postgres")
    quiet = service.argv
    cleanup.callback(platform.restart, "postgres", quiet)
    platform.restart("postgres", [*quiet, "-c", f"listen_addresses={gateway}"])
    name = urlparse(platform.env["DATABASE_URL"]).path
    return f"postgres://postgres:{password}@{gateway}:{POSTGRES_PORT}{name}"


def _valkey(platform: Platform, gateway: str, cleanup: contextlib.ExitStack) -> str:
    url = platform.env["REDIS_URL"]
    client = redis.Redis.from_url(url)
    cleanup.callback(client.close)
    cleanup.callback(client.config_set, "bind", "127.0.0.1")
    client.config_set("bind", f"127.0.0.1 {gateway}")
    return url.replace("@127.0.0.1:", f"@{gateway}:")


def _exchange(platform: Platform, gateway: str, cleanup: contextlib.ExitStack) -> dict[str, str]:
    service = platform.server("paper")
    alone = service.argv
    here = [*alone, "--host", gateway, "--allow-remote"]
    moved = {
        name: platform.env[name].replace("//127.0.0.1:", f"//{gateway}:")
        for name in ("WALLEX_BASE_URL", "NOBITEX_BASE_URL", "PAPER_URL")
    }
    before = {name: platform.env[name] for name in moved}
    cleanup.callback(_move, platform, alone, before)
    _move(platform, here, moved)
    return moved


def _move(platform: Platform, argv: list[str], addresses: dict[str, str]) -> None:
    """The exchange elsewhere, for this process too: its clients are made by address."""
    from django.conf import settings

    platform.env.update(addresses)
    for name in ("WALLEX_BASE_URL", "NOBITEX_BASE_URL"):
        setattr(settings, name, addresses[name])
    platform.restart("paper", argv)
