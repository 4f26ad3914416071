#!/usr/bin/env python
"""Known weaknesses of the locked packages (pip-audit), and patterns of weak code (bandit).

Fails on every finding that is not explained in exceptions.toml beside this file, and on every exception there that is
not needed any more. Where the list of known weaknesses cannot be read, it says so loudly and does not fail: a machine
that reaches package registries only has no such list.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-embedded.lock")
SERVICES = ("pypi", "osv")  # the first that answers
CODE = ("algo", "algo_trade", "providers", "launcher", "docker")
SECONDS = 240


def main() -> int:
    exceptions = tomllib.loads((ROOT / ".ci" / "exceptions.toml").read_text())
    wrong = [*audit_code(exceptions["bandit"]), *audit_packages(exceptions["packages"])]
    for each in wrong:
        print(each)
    print("Nothing that is not explained." if not wrong else f"{len(wrong)} things are not explained.")
    return 1 if wrong else 0


# --- code -------------------------------------------------------------------------------------------------------------


def audit_code(explained: dict[str, dict[str, Any]]) -> list[str]:
    found = run([BIN / "bandit", "-q", "-r", *CODE, "-f", "json"])
    if found is None or found["errors"]:
        return [f"bandit could not look at the code: {found and found['errors']}"]
    return judge_code(found["results"], explained)


def judge_code(results: list[dict[str, Any]], explained: dict[str, dict[str, Any]]) -> list[str]:
    """`explained`: a test of bandit to `why`, and `places`: a file to how often it is there."""
    counted = Counter((each["test_id"], each["filename"].removeprefix("./")) for each in results)
    allowed = {(test, file): many for test, row in explained.items() for file, many in row["places"].items()}
    wrong = []
    for each in results:
        place = (each["test_id"], each["filename"].removeprefix("./"))
        if counted[place] > allowed.get(place, 0):
            wrong.append(f"{place[1]}:{each['line_number']}: {place[0]} {each['issue_text']}")
    needless = [place for place, many in allowed.items() if counted[place] < many]
    return wrong + [
        f"{file}: {test} is there {counted[test, file]} times, exceptions.toml says more" for test, file in needless
    ]


# --- packages ---------------------------------------------------------------------------------------------------------


def audit_packages(explained: dict[str, dict[str, str]]) -> list[str]:
    wrong: list[str] = []
    seen: set[str] = set()
    for lock in LOCKS:
        report = next((found for service in SERVICES if (found := ask(lock, service)) is not None), None)
        if report is None:
            shout(lock)
            return wrong  # what was found so far counts; what is explained cannot be judged
        wrong += [f"{lock}: {each}" for each in judge_packages(report, explained, seen)]
    return wrong + [f"{name} in exceptions.toml is no finding any more" for name in explained.keys() - seen]


def ask(lock: str, service: str) -> dict[str, Any] | None:
    """The report, None where the service knows none of the packages or does not answer at all."""
    words = [BIN / "pip-audit", "-r", lock, "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    report = run([*words, "-f", "json", "-s", service, "--timeout", "10"])
    if report is None or all("skip_reason" in each for each in report["dependencies"]):
        return None
    return report


def judge_packages(report: dict[str, Any], explained: dict[str, dict[str, str]], seen: set[str]) -> list[str]:
    """`explained`: the id of a weakness to `package` and `why`. Notes in `seen` which of them were needed."""
    wrong = []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            wrong.append(f"{package['name']} was not looked at: {package['skip_reason']}")
        for weakness in package.get("vulns", ()):
            known = {weakness["id"], *weakness.get("aliases", ())} & {
                name for name, row in explained.items() if row["package"] == package["name"]
            }
            seen |= known
            if not known:
                fixed = ", ".join(weakness.get("fix_versions") or ()) or "nothing yet"
                wrong.append(f"{package['name']} {package['version']}: {weakness['id']}, fixed by {fixed}")
    return wrong


def shout(lock: str) -> None:
    rows = (
        "THE PACKAGES ARE NOT AUDITED: no list of known weaknesses answers here (PyPI, OSV).",
        f"Nothing is known about {lock} and what follows it.",
        "Run `.ci/audit.py` where one can be reached.",
    )
    print("\n".join(["#" * 92, *(f"##  {row:<86}##" for row in rows), "#" * 92]))


def run(words: list[Any]) -> dict[str, Any] | None:
    try:
        said = subprocess.run(
            [str(word) for word in words], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
        ).stdout
        report: dict[str, Any] = json.loads(said)
    except (ValueError, subprocess.TimeoutExpired):
        return None
    return report


if __name__ == "__main__":
    sys.exit(main())
