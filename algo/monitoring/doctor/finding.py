"""What a check found, and how it is told. Knows no Django: settings that refuse to load are a finding too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from providers.redaction import redact


class Level(StrEnum):
    """How bad it is. What could not be looked at is `unknown`: something else is broken, and is told."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the installation: what was found, and, where it is not well, what to do."""

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Level.WARNING, found, advice)


def broken(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Level.BROKEN, found, advice)


def is_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing is broken: warnings leave the platform running."""
    return all(finding.level is not Level.BROKEN for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """For people: one line for each part, with what to do below it, and the sum of it all. No secret in it."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level.value:8} {finding.check:{width}}  {finding.found}")
        if finding.advice:
            lines.append(f"{'':8} {'':{width}}  -> {finding.advice}")
    counts = (f"{sum(each.level is level for each in findings)} {level.value}" for level in Level)
    return redact("\n".join([*lines, ", ".join(counts)]))


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    """For programs."""
    told = [
        {"check": each.check, "level": each.level.value, "found": redact(each.found), "advice": redact(each.advice)}
        for each in findings
    ]
    return {"ok": is_well(findings), "findings": told}


def start_refused() -> Finding | None:
    """Why Django cannot even be set up here; None where it can. Everything else needs the settings."""
    import django  # noqa: PLC0415 - a package that is missing is a finding

    try:
        django.setup()
    except SystemExit as exc:  # the settings refuse to start: their own words say what to do
        said = str(exc.code).removeprefix("Configuration error. ")
        return broken("settings", said, "Change it in the environment or in .env, then run doctor again.")
    except Exception as exc:  # noqa: BLE001 - whatever it is, doctor has to say it
        where = os.environ.get("DJANGO_SETTINGS_MODULE", "")
        found = f"{where} cannot be loaded: {type(exc).__name__}: {exc}"
        return broken("settings", found, "Install requirements.lock as it is, and undo changes of the settings.")
    return None
