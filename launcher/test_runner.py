"""`manage.py test` runs pytest: one suite, whichever command starts it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from launcher import ROOT


def node_id(label: str) -> str:
    """`algo.tests.StrategyTests.test_x` -> `algo/tests.py::StrategyTests::test_x`; paths and node ids pass through."""
    if "/" in label or "::" in label or label.endswith(".py") or Path(ROOT, label).exists():
        return label
    parts = label.split(".")
    for count in range(len(parts), 0, -1):
        path = Path(*parts[:count])
        inside = parts[count:]
        if (ROOT / path.with_suffix(".py")).is_file():
            return "::".join([str(path.with_suffix(".py")), *inside])
        if (ROOT / path).is_dir() and not inside:
            return str(path)
    hint = "is not a module" if find_spec(parts[0]) else "was not found"
    raise SystemExit(
        f"{label} {hint}: give a path (tests/api) or a dotted name (algo.tests.StrategyTests). No test ran."
    )


class PytestRunner:
    """What Django's `test` command calls (setting TEST_RUNNER)."""

    def __init__(self, verbosity: int = 1, failfast: bool = False, keepdb: bool = False, **options: Any) -> None:
        self.verbosity = verbosity
        self.failfast = failfast
        self.keepdb = keepdb
        self.pattern = options.get("test_name_patterns")

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--keepdb", action="store_true", help="Keep the test database between runs.")
        parser.add_argument("-k", dest="test_name_patterns", help="Run only tests that match the expression.")

    def run_tests(self, test_labels: Sequence[str], **_: Any) -> int:
        argv = [node_id(label) for label in test_labels]
        argv += ["-v"] * (self.verbosity > 1) + ["--exitfirst"] * self.failfast + ["--reuse-db"] * self.keepdb
        if self.pattern:
            argv += ["-k", self.pattern]
        return int(pytest.main(argv))
