"""`manage.py database_role`: a role for the platform that has no more rights than it needs."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import ProgrammingError

from algo.management._cli import CliCommand
from algo.management._database_role import RoleRefused, role_make

PASSWORD = "APP_ROLE_PASSWORD"  # noqa: S105 - the name of a variable


class Command(CliCommand):
    help = (
        "Make the database role under which the platform is to run (in DATABASE_URL), or bring it up to date: it reads "
        "and writes rows, and can neither make, change or drop a table, nor change the audit log. Run it as the owner "
        f"of the tables (MIGRATE_DATABASE_URL), after migrate. A new password is read from {PASSWORD}, or from the "
        f"file that {PASSWORD}_FILE names."
    )
    kept = "Nothing was changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--role", default="algo_app", help="Its name (algo_app).")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            role_make(options["role"], _password())
        except RoleRefused as exc:
            raise CommandError(str(exc)) from exc
        except ProgrammingError as exc:
            raise CommandError(
                f"The database refused it ({str(exc).strip()}): a role is made by a superuser, or by one with "
                f"CREATEROLE. {self.kept}"
            ) from exc
        self.stdout.write(f"The role {options['role']} reads and writes rows, and no more: name it in DATABASE_URL.")


def _password() -> str:
    """Empty where there is none: the role keeps its own. Raises CommandError."""
    path = os.environ.get(f"{PASSWORD}_FILE")
    if not path:
        return os.environ.get(PASSWORD, "")
    try:
        return Path(path).read_text().strip()
    except OSError as exc:
        why = f"{PASSWORD}_FILE is {path}, which cannot be read: {exc.strerror}."
        raise CommandError(f"{why} Nothing was changed.") from exc
