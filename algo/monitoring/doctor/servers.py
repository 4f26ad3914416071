"""PostgreSQL and Redis: there, new enough, and set up so that they forget nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from algo.monitoring import redis_facts
from algo.monitoring.bounded import Bounded, Unanswered
from algo.monitoring.doctor.finding import Finding, broken, ok, warning
from algo.selectors.performance import zone_of_days

ANSWER_SECONDS = 8.0  # a server that takes longer is as good as away
OLDEST_POSTGRESQL = 140_000  # Django 5.2 needs 14
OLDEST_REDIS = (6, 2)
CLOCKS_WARN, CLOCKS_BROKEN = 1.0, 2.0  # seconds apart: signatures and stops are judged by time
MIB = 1024 * 1024
LEAST_BYTES, FEW_BYTES = 512 * MIB, 4096 * MIB
SESSIONS_SHARE = 0.8
WAITING_MANY = 1000  # messages of one queue

_database, _redis = Bounded("database"), Bounded("redis")


def database_reached() -> Finding:
    """Asked with a bound: a server that hangs must not make doctor hang."""
    try:
        version = _database.ask(_version, ANSWER_SECONDS)
    except (TimeoutError, Unanswered):
        return broken(
            "database",
            f"PostgreSQL takes the connection and does not answer within {ANSWER_SECONDS:g} s.",
            "Look at the server's log and load; restart it if it hangs. Positions are not looked after meanwhile.",
        )
    except DatabaseError as exc:
        return broken(
            "database",
            f"PostgreSQL at {_where()} cannot be used: {_first_line(exc)}",
            "Start it, or correct host, name, user and password in DATABASE_URL.",
        )
    major, minor = divmod(version, 10_000)
    if version < OLDEST_POSTGRESQL:
        return broken("database", f"PostgreSQL {major}.{minor} is too old.", "Upgrade it to 14 or newer.")
    return ok("database", f"PostgreSQL {major}.{minor} at {_where()} answers.")


def _version() -> int:
    try:
        connection.ensure_connection()
        return int(cast(Any, connection).pg_version)
    finally:
        connection.close()


def _where() -> str:
    place = connection.settings_dict
    return f"{place['HOST'] or 'the local socket'}{':' if place['PORT'] else ''}{place['PORT']}/{place['NAME']}"


def _first_line(exc: Exception) -> str:
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__


def migrations() -> Iterator[Finding]:
    """Applied, all of them, and none that this code does not know."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    unknown = sorted(name for app, name in executor.loader.applied_migrations if app == "algo")
    unknown = [name for name in unknown if ("algo", name) not in executor.loader.disk_migrations]
    if missing:
        first = f"{missing[0][0].app_label}.{missing[0][0].name}"
        yield broken(
            "migrations",
            f"{len(missing)} are not applied, the first is {first}.",
            "Run: python manage.py migrate",
        )
    elif unknown:
        yield broken(
            "migrations",
            f"The database was migrated by a newer version ({unknown[-1]} is not known here).",
            "Run the newer version again; there is no way back without a restored backup.",
        )
    else:
        yield ok("migrations", "All are applied.")


def database_settings() -> Iterator[Finding]:
    """What a commit means there, its clock, its sessions, the zone of trading days."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_encoding")
        encoding = cursor.fetchone()[0]
        cursor.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
        )
        off = sorted(name for name, setting in cursor.fetchall() if setting == "off")
        cursor.execute("SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity")
        sessions, most = cursor.fetchone()
        began = time.time()
        cursor.execute("SELECT clock_timestamp()")
        there = cursor.fetchone()[0]
        here = datetime.fromtimestamp((began + time.time()) / 2, UTC)
    if encoding != "UTF8":
        yield broken(
            "database encoding",
            f"It is {encoding}: Persian answers of the exchanges could not be stored.",
            "Make a database with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0, and move there.",
        )
    if off:
        yield warning(
            "database durability",
            f"{', '.join(off)} off: a crash loses orders that were sent already.",
            "Switch on what is off in postgresql.conf and reload it.",
        )
    else:
        yield ok("database durability", "What is committed is on the disk.")
    if sessions > most * SESSIONS_SHARE:
        yield warning(
            "database sessions",
            f"{sessions} of {most} are in use.",
            "Raise max_connections, or put PgBouncer in front (docs/operations.md).",
        )
    yield _zone()
    yield clock_finding("database clock", "PostgreSQL's", (there - here).total_seconds())
    yield from _data_directory()


def _zone() -> Finding:
    kept, wanted = zone_of_days(), settings.TRADING_DAY_TIME_ZONE
    if kept == wanted:
        return ok("trading days", f"They begin at midnight in {wanted}.")
    return warning(
        "trading days",
        f"The sums of days are kept in {kept}, TRADING_DAY_TIME_ZONE is {wanted}.",
        "Run: python manage.py rebuild_performance",
    )


def clock_finding(check: str, whose: str, seconds: float) -> Finding:
    """`seconds`: theirs minus ours."""
    told = f"{whose} clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine's."
    advice = "Let both hosts be set by NTP (chrony, systemd-timesyncd), and look which one is wrong."
    if abs(seconds) > CLOCKS_BROKEN:
        return broken(check, told, advice)
    return warning(check, told, advice) if abs(seconds) > CLOCKS_WARN else ok(check, told)


def _data_directory() -> Iterator[Finding]:
    """Where PostgreSQL keeps its data on this machine and tells us so."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            folder = Path(cursor.fetchone()[0])
    except DatabaseError:
        return  # only its superuser may ask
    if folder.is_dir():
        yield disk_finding("database disk", folder)


def disk_finding(check: str, folder: Path) -> Finding:
    """Free space where `folder` is."""
    free = shutil.disk_usage(folder).free
    told = f"{free / MIB:,.0f} MiB are free at {folder}."
    advice = "Make room, or give it a larger disk: a database without room stops, and its positions are left alone."
    if free < LEAST_BYTES:
        return broken(check, told, advice)
    return warning(check, told, advice) if free < FEW_BYTES else ok(check, told)


# --- Redis ------------------------------------------------------------------------------------------------------------


def redis_state() -> Iterator[Finding]:
    """The guardian needs none of it: without Redis positions stay protected, and nothing new begins."""
    try:
        facts = _redis.ask(redis_facts.facts, ANSWER_SECONDS)
        depths = _redis.ask(redis_facts.queue_depths, ANSWER_SECONDS)
    except (TimeoutError, Unanswered, redis.TimeoutError):
        found = "It takes the connection and does not answer."
        yield broken("redis", found, "Look at its log and load; restart it if it hangs.")
        return
    except redis.AuthenticationError:
        yield broken("redis", "It refuses the password.", "Correct the password in REDIS_URL.")
        return
    except (redis.RedisError, OSError) as exc:
        found = f"It cannot be used: {_first_line(exc)}"
        yield broken("redis", found, "Start it, or correct REDIS_URL. Without it no strategy decides.")
        return
    yield _redis_version(facts)
    yield _redis_policy(facts)
    if facts.keeps is False:
        yield warning(
            "redis persistence",
            "It keeps nothing over a restart: waiting tasks, request limits and call budgets begin anew.",
            "Set appendonly yes. Nothing about safety depends on it.",
        )
    elif facts.keeps:
        yield ok("redis persistence", "It keeps its data over a restart.")
    if many := {name: depth for name, depth in depths.items() if depth > WAITING_MANY}:
        told = ", ".join(f"{name}: {depth}" for name, depth in many.items())
        yield warning("queues", f"Messages wait for workers ({told}).", "Start more workers of these queues.")
    else:
        yield ok("queues", f"At most {max(depths.values())} messages wait in one queue.")


def _redis_version(facts: redis_facts.RedisFacts) -> Finding:
    name = facts.name.capitalize()
    if facts.name == "redis" and tuple(map(int, facts.version.split(".")[:2])) < OLDEST_REDIS:
        return broken("redis", f"Redis {facts.version} is too old.", "Upgrade it to 6.2 or newer.")
    return ok("redis", f"{name} {facts.version} answers.")


def _redis_policy(facts: redis_facts.RedisFacts) -> Finding:
    if facts.policy not in (None, "noeviction"):
        return broken(
            "redis eviction",
            f"maxmemory-policy is {facts.policy}: when it is full it throws tasks away.",
            "Set maxmemory-policy noeviction, in its configuration file and with CONFIG SET.",
        )
    if facts.most_memory and facts.memory > facts.most_memory * SESSIONS_SHARE:
        used = f"{facts.memory / MIB:.0f} of {facts.most_memory / MIB:.0f} MiB"
        return warning("redis eviction", f"{used} are used.", "Raise maxmemory: when it is full, no task can be sent.")
    return ok("redis eviction", "It throws nothing away.")
