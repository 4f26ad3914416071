"""`manage.py rotate_keys`: every stored secret, sealed with the newest encryption key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from algo import exchanges
from algo.management._cli import CliCommand
from algo.services.audit import SHELL
from algo.services.sealing import secrets_reseal


class Command(CliCommand):
    help = (
        "Seal every stored secret (exchange keys, addresses and secrets of channels, secrets of inbound keys, second "
        "factors) again with the first of FIELD_ENCRYPTION_KEYS. Put the new key in front and start every process anew "
        "before; drop the old one when this has succeeded. It may be repeated, and the platform may run meanwhile."
    )
    kept = "What was sealed again stays so; the rest is as it was. Run it again."

    def handle(self, *args: Any, **options: Any) -> None:
        result = secrets_reseal(by=SHELL, at=exchanges.CLOCK.now())
        self.stdout.write(
            f"{result.done} secrets were sealed again with the first key; {result.already} were sealed with it already."
        )
        if not result.unreadable:
            self.stdout.write("Every stored secret opens with the first of FIELD_ENCRYPTION_KEYS: the others may go.")
            return
        rows = "\n".join(f"  {each}" for each in result.unreadable)
        raise CommandError(f"{len(result.unreadable)} secrets were left as they are:\n{rows}\nKeep the old keys.")
