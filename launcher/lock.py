"""`python -m launcher.lock`: pin everything below requirements*.txt again, with hashes, for every supported Python."""

from __future__ import annotations

import subprocess
import sys

from launcher import ROOT
from launcher.bootstrap import find_uv, uv_environment
from launcher.console import say

OPTIONS = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
# Later sets are held to the versions of the earlier ones: they are installed together.
SETS = ("requirements", "requirements-embedded", "requirements-dev")


def commands() -> list[list[str]]:
    """What is asked of uv for each lock, in order."""
    held = [[word for former in SETS[:at] for word in ("-c", f"{former}.lock")] for at in range(len(SETS))]
    return [
        ["pip", "compile", *OPTIONS, *words, f"{name}.txt", "-o", f"{name}.lock"]
        for name, words in zip(SETS, held, strict=True)
    ]


def main() -> int:
    uv, env = find_uv(), uv_environment()
    for words in commands():
        say("uv " + " ".join(words))
        code = subprocess.run([uv, *words], cwd=ROOT, env=env, check=False, stdout=subprocess.DEVNULL).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
