"""What a database must be before money is written to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections


@register(Tags.database)
def database_is_utf8(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """The exchanges answer in Persian, and every answer is stored: a database that cannot would lose a filled entry."""
    problems: list[CheckMessage] = []
    for alias in databases or ():
        with connections[alias].cursor() as cursor:
            cursor.execute("SHOW server_encoding")
            (encoding,) = cursor.fetchone()
        if encoding != "UTF8":
            problems.append(
                Error(
                    f"The database has encoding {encoding}: Persian answers of the exchanges could not be stored.",
                    hint="Nothing was migrated. Make it with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0.",
                    id="algo.E001",
                )
            )
    return problems
