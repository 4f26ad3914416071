"""The role under which the platform works: it reads and writes rows, and makes, changes and drops nothing."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from psycopg2.extensions import encrypt_password
from psycopg2.sql import SQL, Identifier, Literal

from algo.services.optuna_studies import SCHEMA as STUDIES
from algo.services.optuna_studies import study_storage

# What stays as it was written, beside the trigger that keeps it so: the owner could drop the trigger, this role cannot.
APPEND_ONLY = ("algo_auditrecord",)
READ_ONLY = ("django_migrations",)
OURS, ROWS = "public", "SELECT, INSERT, UPDATE, DELETE"


class RoleRefused(Exception):
    """The role was not made; why, and what to do."""


def role_make(role: str, password: str) -> None:
    """Make `role`, or bring it up to what the tables are now; without a password it keeps the one it has. Runs as the
    owner of the tables. Safe to repeat, and after every upgrade."""
    with study_storage():  # its tables are made by who asks first: here, by their owner
        pass
    with transaction.atomic(), connection.cursor() as cursor:
        owner = _owner(cursor, role)
        _login(cursor, role, password)
        names = {"role": Identifier(role), "owner": Identifier(owner), "ours": Identifier(OURS)}
        names |= {"studies": Identifier(STUDIES), "database": Identifier(connection.settings_dict["NAME"])}
        for statement in (*_RIGHTS, *_of_schema("ours"), *_of_schema("studies")):
            cursor.execute(SQL(statement).format(**names))
        for tables, rights in ((APPEND_ONLY, "UPDATE, DELETE"), (READ_ONLY, "INSERT, UPDATE, DELETE")):
            for table in tables:
                words = SQL(f"REVOKE {rights} ON {{}} FROM {{}}")
                cursor.execute(words.format(Identifier(OURS, table), names["role"]))


_RIGHTS = (
    "ALTER ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
    "REVOKE ALL ON DATABASE {database} FROM {role}",
    "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}",
    "REVOKE CREATE ON SCHEMA {ours} FROM PUBLIC",
)


def _of_schema(schema: str) -> tuple[str, ...]:
    """Rows of the tables that are there, and of those that the owner makes later. No TRUNCATE, no REFERENCES."""
    at = f"SCHEMA {{{schema}}}"
    return (
        f"REVOKE ALL ON {at} FROM {{role}}",
        f"GRANT USAGE ON {at} TO {{role}}",
        f"REVOKE ALL ON ALL TABLES IN {at} FROM {{role}}",
        f"GRANT {ROWS} ON ALL TABLES IN {at} TO {{role}}",
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN {at} TO {{role}}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {{owner}} IN {at} GRANT {ROWS} ON TABLES TO {{role}}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {{owner}} IN {at} GRANT USAGE, SELECT ON SEQUENCES TO {{role}}",
    )


def _owner(cursor: Any, role: str) -> str:
    cursor.execute("SELECT tableowner, current_user FROM pg_tables WHERE tablename = %s", [APPEND_ONLY[0]])
    row = cursor.fetchone()
    if row is None:
        raise RoleRefused("There are no tables yet: run manage.py migrate first. Nothing was changed.")
    owner, me = map(str, row)
    if role == owner:
        raise RoleRefused(f"{role} owns the tables: give the platform a role of another name. Nothing was changed.")
    if me != owner and not _is_superuser(cursor):
        raise RoleRefused(
            f"The tables belong to {owner}, and this is {me}: set MIGRATE_DATABASE_URL to the address with their "
            "owner. Nothing was changed."
        )
    return owner


def _is_superuser(cursor: Any) -> bool:
    cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    return bool(cursor.fetchone()[0])


def _login(cursor: Any, role: str, password: str) -> None:
    """The server is told the SCRAM verifier, never the password: statements may stand in its log."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
    is_there = cursor.fetchone() is not None
    if not is_there and not password:
        raise RoleRefused("A new role needs a password: set APP_ROLE_PASSWORD. Nothing was changed.")
    if not is_there:
        cursor.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(role)))
    if password:
        verifier = encrypt_password(password, role, scope=connection.connection, algorithm="scram-sha-256")
        cursor.execute(SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(Identifier(role), Literal(verifier)))
