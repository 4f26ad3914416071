"""Bring the catalogue of translations up to date with what the code says (docs/translating.md)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Write algo/locale: new sentences are added, vanished ones removed, and everything is compiled."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; fail where something is missing")

    def handle(self, *, check: bool, **options: Any) -> None:
        try:
            from algo.management import _messages  # noqa: PLC0415 - Babel comes with the packages of the tests
        except ModuleNotFoundError as exc:
            raise CommandError(
                f"{exc.name} is not installed: ./test --setup-only installs it. Nothing was written."
            ) from exc
        catalog = _messages.merged()
        missing = [message.id for message in catalog if message.id and not all(_strings(message.string))]
        if not check:
            path = _messages.catalogue_path()
            path.write_bytes(_messages.written(catalog))
            path.with_suffix(".mo").write_bytes(_messages.compiled(_messages.stored()))
        for text in missing:
            self.stdout.write(str(text))
        if missing and check:
            raise CommandError(f"{len(missing)} sentences are not translated.")
        self.stdout.write(f"{len(catalog)} sentences, {len(missing)} without a translation.")


def _strings(string: Any) -> list[str]:
    return [string] if isinstance(string, str) else list(string or [""])
