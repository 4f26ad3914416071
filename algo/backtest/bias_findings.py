"""What the bias checks found: each check with its verdict, each difference with its candle and both values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

MOST_SHOWN = 5  # findings of one check that are kept with their values; the others are only counted
LONGEST = 300  # characters of a value: an exception may carry a whole data frame


class Check(StrEnum):
    """In the order in which a reader should look at them: one that fails often makes later ones fail too."""

    RUNS = "runs"
    VALUES = "values"
    INPUTS = "inputs"
    REPEATABLE = "repeatable"
    LOOK_AHEAD = "look_ahead"
    WARM_UP = "warm_up"
    EXECUTE = "execute"


TITLES: Mapping[Check, str] = {
    Check.RUNS: "It runs without an error",
    Check.VALUES: "Its answers are sound",
    Check.INPUTS: "It leaves the candles as they are",
    Check.REPEATABLE: "Asked again, it answers the same",
    Check.LOOK_AHEAD: "The future changes no signal of the past",
    Check.WARM_UP: "A live window decides as the whole history does",
    Check.EXECUTE: "`execute` is the last element of `signals`",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `index` is of the candle it is about, -1 where it is about none."""

    check: Check
    index: int
    at: str  # open time of that candle, ISO 8601 UTC
    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check. `asked` of `possible` candles were looked at; `differences` counts all, `findings` holds the first.

    `passed` is None where it could not be judged; `note` says why.
    """

    check: Check
    passed: bool | None
    asked: int
    possible: int
    differences: int
    findings: tuple[Finding, ...] = ()
    note: str = ""
    hint: str = ""

    @property
    def title(self) -> str:
        return TITLES[self.check]

    @property
    def verdict(self) -> str:
        return "not checked" if self.passed is None else "passed" if self.passed else "failed"

    @property
    def scope(self) -> str:
        """How much was looked at, in words; empty where nothing was to be asked."""
        return f"checked {self.asked:,} of {self.possible:,} candles" if self.possible else ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A strategy that was checked over a series of candles. `seconds` is how long it took."""

    passed: bool
    results: tuple[CheckResult, ...]
    candles: int
    first_at: str
    last_at: str
    signals: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for result in self.results for finding in result.findings)

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        return tuple(result for result in self.results if result.passed is False)

    def report(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        rows = [
            {**asdict(result), "title": result.title, "verdict": result.verdict, "scope": result.scope}
            for result in self.results
        ]
        return {**asdict(self), "notes": list(self.notes), "results": rows}

    def summary(self) -> str:
        """One line: what failed and the first difference, or that nothing did."""
        if self.passed:
            return "; ".join(("every check passed", *self.notes))
        first = self.failed[0]
        names = ", ".join(result.check for result in self.failed)
        found = first.findings[0]
        where = f"{found.at}: " if found.at else ""
        return f"failed: {names}. {where}{found.what}: expected {found.expected}, found {found.found}"


@dataclass(slots=True)
class Findings:
    """Collects while the checks run; alike findings (same check, same words) are kept once and counted."""

    kept: dict[Check, list[Finding]] = field(default_factory=dict)
    counts: dict[Check, int] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        finding = replace(finding, expected=_short(finding.expected), found=_short(finding.found))
        kept = self.kept.setdefault(finding.check, [])
        self.counts[finding.check] = self.counts.get(finding.check, 0) + 1
        alike = sum(each.what == finding.what for each in kept)
        if len(kept) < MOST_SHOWN and alike < 3 and finding not in kept:
            kept.append(finding)

    def result(self, check: Check, *, asked: int, possible: int, note: str = "", hint: str = "") -> CheckResult:
        """The verdict; a check that looked at nothing and found nothing has none."""
        differences = self.counts.get(check, 0)
        shown = tuple(sorted(self.kept.get(check, ()), key=lambda finding: finding.index))
        passed = False if differences else True if asked else None
        return CheckResult(check, passed, asked, possible, differences, shown, note, hint if shown else "")


def _short(text: str) -> str:
    text = text.replace("\x00", "")  # PostgreSQL stores no NUL
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
