"""What the person at the terminal sees. All of it goes to stderr: stdout belongs to `--check`'s one JSON object."""

from __future__ import annotations

import sys


class LauncherError(Exception):
    """A sentence for the person at the terminal: what happened, what is safe, what to do. `code`: the exit code."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
