"""Other engines to compare with, in an environment of their own: `benchmarks/requirements.txt` into `.run/peers`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from launcher import ROOT, RUN_DIR
from launcher.bootstrap import find_uv, uv_environment

ENVIRONMENT = RUN_DIR / "peers"
PYTHON = ENVIRONMENT / "bin" / "python"
WANTED = ROOT / "benchmarks" / "requirements.txt"
_STAMP = ENVIRONMENT / "installed.txt"


def install() -> None:
    """Make the environment where it is missing or of other versions. Nothing of it is seen by the platform."""
    if _STAMP.is_file() and _STAMP.read_text() == WANTED.read_text():
        return
    print("Installing the engines to compare with ...", file=sys.stderr)
    uv, env = find_uv(), uv_environment()
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, ENVIRONMENT], env=env, check=True)
    held = ["-c", str(ROOT / "requirements.lock")]  # the same numpy and numba as ours
    subprocess.run([uv, "pip", "install", "-q", "--python", PYTHON, "-r", WANTED, *held], env=env, check=True)
    _STAMP.write_text(WANTED.read_text())


class Peers:
    """The process of the others; it keeps what it has imported and compiled, as ours does."""

    def __enter__(self) -> Self:
        install()
        words = [str(PYTHON), str(Path(__file__).with_name("peer_process.py"))]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def run(self, what: str, file: Path, *, engine: str = "auto") -> dict[str, Any]:
        """Seconds, how many orders or trades came out, and the most memory the process ever had."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, "file": str(file), "engine": engine}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"The process of the other engines died while it ran {what}.")
        found: dict[str, Any] = json.loads(answer)
        return found
