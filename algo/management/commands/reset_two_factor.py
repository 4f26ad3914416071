"""`manage.py reset_two_factor USER`: for who lost the app and the recovery codes."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

from algo import exchanges
from algo.management._cli import CliCommand
from algo.services.audit import SHELL
from algo.services.second_factor import factor_reset


class Command(CliCommand):
    help = (
        "Take a user's second factor away: the password alone signs in again, and sessions that began with it end. "
        "Make sure first that it is really this person who asks. It is in the audit log."
    )
    kept = "Nothing was changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="The username.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user_model().objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}. {self.kept}")
        if factor_reset(user, by=SHELL, at=exchanges.CLOCK.now()):
            self.stdout.write(f"The second factor of {user} was taken away.")
        else:
            self.stdout.write(f"{user} has no second factor: nothing was changed.")
