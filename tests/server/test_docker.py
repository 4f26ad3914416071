"""The image and docker-compose.yml, built and started with a real engine: `./test --docker`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from launcher import ROOT

pytestmark = [pytest.mark.long, pytest.mark.e2e]

BUILD_SECONDS, UP_SECONDS = 1800, 900
PROJECT = f"algo_smoke_{os.getpid()}"


def why_not() -> str:
    """Empty where Docker and docker-compose work."""
    for program in ("docker", "docker-compose"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    asked = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=60, check=False)
    return "" if asked.returncode == 0 else f"no Docker engine answers ({asked.stderr.strip().splitlines()[-1]})"


def compose(*words: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker-compose", "-p", PROJECT, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def inside(service: str, *words: str) -> subprocess.CompletedProcess[str]:
    return compose("exec", "-T", service, *words)


@pytest.fixture(scope="module")
def stack() -> Iterator[None]:
    if reason := why_not():
        pytest.skip(f"nothing was built or started: {reason}. What is known without: tests/docs/test_containers.py")
    built = compose("build", seconds=BUILD_SECONDS)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    try:
        up = compose("up", "-d", seconds=UP_SECONDS)
        assert up.returncode == 0, up.stderr[-3000:]
        yield
    finally:
        compose("down", "-v", "--remove-orphans", seconds=300)


def states() -> dict[str, str]:
    """Of every container that has a check: healthy, starting or unhealthy."""
    ids = compose("ps", "-q").stdout.split()
    form = '{{index .Config.Labels "com.docker.compose.service"}} {{if .State.Health}}{{.State.Health.Status}}{{end}}'
    told = subprocess.run(["docker", "inspect", "--format", form, *ids], capture_output=True, text=True, check=True)
    rows = (line.split() for line in told.stdout.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def test_the_stack_comes_up_unprivileged_and_trades_on_paper(stack):
    deadline = time.monotonic() + UP_SECONDS
    while set(states().values()) != {"healthy"}:
        assert time.monotonic() < deadline, states()
        time.sleep(5)
    assert len(states()) >= 12

    assert inside("django_app", "id", "-u").stdout.strip() == "10001"
    assert inside("django_app", "touch", "/app/here").returncode != 0
    compilers = inside("django_app", "sh", "-c", "command -v gcc cc g++ clang pip")
    assert (compilers.returncode != 0, compilers.stdout) == (True, "")
    credentials = inside("django_app", "python", "docker/demo.py", "credentials")
    assert "http://127.0.0.1:8000/admin/" in credentials.stdout

    while True:
        status = inside("django_app", "python", "docker/demo.py", "run", "python", "manage.py", "demo_status", "--json")
        if status.returncode == 0 and '"opened_with_stop": true' in status.stdout:
            break
        assert time.monotonic() < deadline, status.stdout[-500:] + status.stderr[-500:]
        time.sleep(10)
