"""Flower without a login starts nowhere but on a loopback that nobody else uses."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import yaml

from algo_trade.flower import opening
from launcher.plan import EXCHANGE_URLS, FLOWER_REMEMBERS, Mode, make_plan
from launcher.processes import free_port
from tests.platform.test_settings import GOOD, ON_PAPER, ROOT

SAFE = {"address": "127.0.0.1"}


@pytest.mark.parametrize(
    ("options", "api", "serving", "refused"),
    [
        ({"address": "0.0.0.0", "basic_auth": ["admin:pw"]}, "", True, ""),
        ({"address": "", "auth": ".*@example.org"}, "", True, ""),
        (SAFE, "", False, ""),
        (SAFE, "false", False, ""),
        (SAFE, "true", False, "on 127.0.0.1 without a login"),  # its API would act for everybody
        (SAFE, "", True, "on 127.0.0.1 without a login"),
        ({"address": ""}, "", False, "on every address of this machine without a login"),
        ({"address": "0.0.0.0"}, "", False, "on 0.0.0.0 without a login"),
        ({"address": "192.168.1.7", "basic_auth": []}, "", False, "on 192.168.1.7 without a login"),
    ],
)
def test_where_it_may_listen(options, api, serving, refused):
    said = opening(options, api, is_serving=serving)
    assert refused in said
    assert bool(said) == bool(refused)


def flower(*words: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "algo_trade", "flower", f"--port={free_port()}", *words],
        cwd=ROOT,
        env={**GOOD, **ON_PAPER, "REDIS_URL": os.environ["REDIS_URL"], "PATH": os.environ["PATH"], **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_it_remembers_a_bounded_number_of_tasks_wherever_it_is_started(tmp_path, monkeypatch):
    """By itself it keeps 100,000: it grew for a day, to 900 MB."""
    for name in ("DATABASE_URL", "REDIS_URL", *EXCHANGE_URLS):
        monkeypatch.delenv(name, raising=False)
    plan = make_plan(Mode.CHECK, state_dir=tmp_path)
    commands = [next(each.argv for each in plan.services if each.name == "flower")]
    for name in ("docker-compose.yml", "docker-compose.prod.yml"):
        commands.append(yaml.safe_load((ROOT / name).read_text())["services"]["flower"]["command"])
    assert all(f"--max_tasks={FLOWER_REMEMBERS}" in command for command in commands)


def test_the_real_command_refuses_to_be_open():
    process = flower()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Flower would listen on every address of this machine without a login" in said
    assert "Traceback" not in said


def test_the_real_command_starts_with_a_login():
    process = flower("--address=127.0.0.1", FLOWER_BASIC_AUTH="admin:a-password")
    time.sleep(0.1)
    try:
        for line in process.stdout:
            if "Visit me at" in line:
                break
        else:
            pytest.fail(f"it ended with {process.wait(10)}")
    finally:
        process.kill()
        process.communicate(timeout=10)
