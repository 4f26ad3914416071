"""Every command that the documents show is given to a running platform as a reader would give it: in their order, and
with nothing changed but what a test must change (addresses, periods that would take minutes, real money)."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from launcher.processes import child_environment
from tests.browser.platform import Platform, running
from tests.paper.world import ROOT

pytestmark = [pytest.mark.long, pytest.mark.e2e]

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"(\.venv/bin/|\./run|\./test|docker-compose|curl |paper |python |PASSWORD=)")

# How a command begins, and who runs it instead.
ELSEWHERE = {
    "./run": "tests/test_whole_platform.py, and every browser test",
    "./test": "this is one",
    "docker-compose": "tests/docs/test_containers.py; with an engine: ./test --docker",
    "python docker/": "tests/docs/test_containers.py",
    ".venv/bin/python manage.py test": "./test is the same",
    "curl https://apiv2.nobitex.ir": "the real exchange: nobody calls it from a test",
    ".venv/bin/python -m tests.simulation --seeds": "tests/simulation, by .ci/run",
    ".venv/bin/python -m tests.simulation --ledger": "tests/simulation, by .ci/run",
    ".venv/bin/python -m tests.simulation --mutants": "tests/simulation, by .ci/run",
    ".venv/bin/python -m tests.chaos": "tests/chaos, by hand: minutes",
    ".venv/bin/openapi-python-client": "tests/api/test_client.py",
    "PullbackStrategy": "tests/docs: the reader writes this class first",
    "optimise_strategy": "tests/commands/test_optimise_strategy.py: minutes",
}
# What a test must change: live money, and lengths that would take minutes.
INSTEAD = [
    (r"--environment live", "--environment paper"),
    (r" --yes-real-money", ""),
    (r"--days (90|30|7)\b", "--days 1"),
    (r"^(\S+ manage\.py record_books .*)", r"timeout -s INT 8 \1"),
    (r"^(curl .*/live/events.*)", r"timeout 4 \1"),
    (r'--day \S+ --config "BTC breakout"', ""),
    (r'--config "My strategy"', '--config "$STRATEGY"'),
    (r" +# .*$", ""),
]
# Exit codes that are an answer: a stream and a recording are stopped by `timeout`; nothing was decided yesterday.
FINE = {"record_books": {0, 124, 130}, "/live/events": {0, 124}, "compare_live": {0, 1}}


@dataclass(frozen=True)
class Shown:
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def shown() -> list[Shown]:
    """The commands of all fenced blocks, continued lines put together, each once."""
    found: dict[str, Shown] = {}
    for path in DOCUMENTS:
        for block in re.findall(r"^ *```\w*\n(.*?)^ *```$", path.read_text(), re.DOTALL | re.MULTILINE):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                text = line.strip().removeprefix("$ ")
                if COMMAND.match(text) and not re.match(r"paper +ready", text):
                    found.setdefault(text, Shown(str(path.relative_to(ROOT)), text))
    return list(found.values())


def is_elsewhere(text: str) -> bool:
    return any(text.startswith(name) or f" {name}" in text for name in ELSEWHERE)


class Reader:
    """Somebody at a shell, in a folder that looks like the checkout."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform, self.folder = platform, folder
        for path in ROOT.iterdir():
            if path.name not in (".run", ".git"):
                (folder / path.name).symlink_to(path)
        (folder / ".run").mkdir()
        (folder / ".run" / "secrets.json").write_text(json.dumps({"admin_password": platform.admin_password}))
        with gzip.open(folder / "candles.csv.gz", "wt") as file:
            file.write("time,open,high,low,close,volume\n1760000040,100,101,99,100.5,3\n")
        login = {"username": "admin", "password": platform.admin_password}
        answer = requests.post(f"{platform.url}/api/v1/auth/login", json=login | {"scope": "admin"}, timeout=10)
        made = platform.control("POST", "/accounts", json={"name": "main", "balances": {"wallex": {"USDT": "5000"}}})
        self.env = platform.env | {
            "TOKEN": answer.json()["token"],
            "PASSWORD": platform.admin_password,
            "WALLEX_API_KEY": made["wallex_key"],
            "STRATEGY": requests.get(
                f"{platform.url}/api/v1/strategies",
                headers={"Authorization": f"Token {answer.json()['token']}"},
                timeout=10,
            ).json()["results"][0]["name"],
        }

    def gives(self, text: str) -> subprocess.CompletedProcess[str]:
        for pattern, instead in INSTEAD:
            text = re.sub(pattern, instead, text)
        text = re.sub(r"^paper ", ".venv/bin/python manage.py paper_exchange ", text)
        for port, address in (
            ("8000", self.env["WEB_URL"]),
            ("8002", self.env["LIVE_URL"]),
            ("8101", self.env["PAPER_CONTROL_URL"]),
        ):
            text = text.replace(f"http://127.0.0.1:{port}", address.rstrip("/"))
        if text.startswith("curl") and " -o " not in text:
            text = text.replace("curl ", "curl --write-out '\\n%{http_code}' ", 1)
        return subprocess.run(
            ["bash", "-c", text],
            cwd=self.folder, env=child_environment(self.env), capture_output=True, text=True, timeout=240, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Iterator[Reader]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: the documents' calls of the API cannot be made as they stand")
    with running() as platform:
        yield Reader(platform, tmp_path_factory.mktemp("reader"))


def test_the_documents_show_commands_and_few_of_them_are_run_elsewhere():
    commands = [each for each in shown() if not is_elsewhere(each.text)]
    assert len(commands) >= 40
    assert [name for name in ELSEWHERE if not any(name in each.text for each in shown())] == []


@pytest.mark.parametrize("command", [each for each in shown() if not is_elsewhere(each.text)], ids=str)
def test_it_does_what_it_says(reader: Reader, command: Shown):
    done = reader.gives(command.text)
    fine = next((codes for name, codes in FINE.items() if name in command.text), {0})
    told = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert done.returncode in fine, told
    assert "Traceback" not in told
    if command.text.startswith("curl") and "/live/events" not in command.text and " -o " not in command.text:
        status = int(done.stdout.rpartition("\n")[2])
        assert status < 500 and status not in (401, 403, 405), told
