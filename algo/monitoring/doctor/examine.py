"""All checks, one after the other: one that cannot be made keeps no other from being made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError, close_old_connections

from algo.monitoring.doctor import platform, servers
from algo.monitoring.doctor.finding import Finding, Level, broken

logger = logging.getLogger("algo.doctor")


@dataclass(frozen=True, slots=True)
class Check:
    """`name` stands for its findings where it cannot be made."""

    name: str
    make: Callable[[], Iterable[Finding]]
    needs_database: bool = True


CHECKS = (
    Check("settings", platform.django_checks, needs_database=False),
    Check("migrations", servers.migrations),
    Check("database settings", servers.database_settings),
    Check("redis", servers.redis_state, needs_database=False),
    Check("disk", platform.disks, needs_database=False),
    Check("pages", platform.pages, needs_database=False),
    Check("processes", platform.processes),
    Check("schedules", platform.schedules),
    Check("encryption keys", platform.sealed),
    Check("accounts", platform.accounts),
    Check("exchanges", platform.exchange_clocks),
)


def examine(checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """What was found, in the order of the checks; the database first, for most of it is read there."""
    reached = servers.database_reached()
    findings = [reached]
    for check in checks:
        if check.needs_database and reached.level is Level.BROKEN:
            told = "It was not looked at, for the database does not answer."
            findings.append(Finding(check.name, Level.UNKNOWN, told))
        else:
            findings += _made(check)
    return findings


def _made(check: Check) -> Iterator[Finding]:
    try:
        yield from check.make()
    except (DatabaseError, InterfaceError) as exc:
        told = f"It was not looked at: {str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__}"
        yield Finding(check.name, Level.UNKNOWN, told, "Apply the migrations, then run doctor again.")
        close_old_connections()
    except Exception as exc:  # outlives one check: the others are still to be made
        logger.exception("check failed name=%s", check.name)
        told = f"The check itself failed: {type(exc).__name__}: {exc}"
        yield broken(check.name, told, "This is a defect of doctor; its traceback is above.")
