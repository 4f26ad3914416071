"""docker/update.sh, with programs in the place of Docker's that note what they are told."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.paper.world import ROOT

UPDATE = ROOT / "docker" / "update.sh"
COMPOSE = """#!/bin/sh
echo "compose $*" >> "$CALLS"
case "$1" in
    ps) echo "id_of_$3" ;;
    run) [ -z "${MIGRATE_FAILS:-}" ] || exit 1 ;;
esac
"""
DOCKER = """#!/bin/sh
for last; do :; done
[ "$last" = "id_of_${ILL:-none}" ] && echo unhealthy || echo healthy
"""


@pytest.fixture
def told(tmp_path):
    for name, text in (("fake-compose", COMPOSE), ("docker", DOCKER)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def update(**more: str) -> tuple[int, list[str], str]:
        (tmp_path / "calls").write_text("")
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "COMPOSE": "fake-compose"}
        done = subprocess.run(
            ["sh", str(UPDATE)], env=env | {"HEALTHY_WITHIN": "0"} | more, capture_output=True, text=True, check=False
        )
        return done.returncode, (tmp_path / "calls").read_text().splitlines(), done.stderr

    return update


def replaced(calls: list[str]) -> list[str]:
    return [call.split()[-1] for call in calls if call.startswith("compose up ")]


def services() -> list[str]:
    found = re.search(r'^SERVICES="([^"]+)"', UPDATE.read_text(), re.MULTILINE)
    assert found is not None
    return found[1].split()


def test_it_backs_up_and_migrates_before_it_replaces_each_service_in_its_turn(told):
    code, calls, _ = told()
    assert code == 0
    assert calls[:3] == [
        "compose build migrate",
        "compose exec -T backup sh /docker/backup.sh once",
        "compose run --rm --no-deps migrate",
    ]
    assert replaced(calls) == services()
    assert all("--no-deps --no-build" in call for call in calls if call.startswith("compose up "))


def test_it_stops_at_the_first_that_does_not_become_healthy(told):
    code, calls, said = told(ILL="guardian_b")
    assert code == 1
    assert replaced(calls) == ["guardian_b"]
    assert "guardian_b is unhealthy after 0 s. Nothing after it was replaced." in said


def test_nothing_is_replaced_where_the_migration_fails(told):
    code, calls, _ = told(MIGRATE_FAILS="yes")
    assert code != 0
    assert replaced(calls) == []


@pytest.mark.parametrize("script", sorted((ROOT / "docker").glob("*.sh")), ids=lambda path: path.name)
def test_a_plain_shell_reads_the_script_and_it_may_be_run(script: Path):
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert os.access(script, os.X_OK)
