"""Which code this is: the version, the commit where it is known, and the source of a strategy."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from functools import cache
from pathlib import Path

from algo.strategies.interface import StrategyInterface

VERSION = "0.1.0"
_GIT = Path(__file__).resolve().parent.parent / ".git"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@cache
def code_version() -> str:
    """`0.1.0 (02c84a19f0aa)`; without the commit where there is no repository. Changes not committed are not seen."""
    commit = _commit(_GIT)
    return f"{VERSION} ({commit[:12]})" if commit else VERSION


def source_fingerprint(strategy: type[StrategyInterface]) -> str:
    """SHA-256 over the source files that a strategy and its schema are written in, base classes included: equal only
    while none of them was changed."""
    names = {each.__module__ for kind in (strategy, strategy.schema) for each in kind.__mro__}
    files = {file for name in names if name.startswith("algo.") and (file := inspect.getsourcefile(sys.modules[name]))}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _commit(git: Path) -> str:
    """The commit that is checked out, read from git's own files: a server's image has no git."""
    try:
        head = (git / "HEAD").read_text().strip()
        reference = head.removeprefix("ref: ")
        if reference != head:
            head = _of_reference(git, reference)
    except OSError:
        return ""
    return head if _COMMIT.fullmatch(head) else ""


def _of_reference(git: Path, reference: str) -> str:
    loose = git / reference
    if loose.is_file():
        return loose.read_text().strip()
    packed = (git / "packed-refs").read_text().splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {reference}")), "")
