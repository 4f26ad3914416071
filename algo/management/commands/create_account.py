"""`manage.py create_account`: a key, proved and sealed."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import CommandError
from django.db import IntegrityError

from algo import exchanges
from algo.management._cli import CliCommand, to_moment
from algo.models import Account, Environment, Provider
from algo.selectors.rights import Role, role_of
from algo.services.accounts import account_create
from algo.services.audit import SHELL
from algo.services.refused import Refused
from providers.provider_factory import create_provider

WALLEX_KEY_LIFE = timedelta(days=90)  # contract: wallex 1


class Command(CliCommand):
    help = (
        "Store an exchange account. The key is read from WALLEX_API_KEY or NOBITEX_API_KEY, or asked for; never from "
        "the command line, where others could read it. Nothing is stored before the exchange accepted it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", required=True, help="Your name for the account.")
        parser.add_argument("--provider", required=True, choices=Provider.values)
        parser.add_argument("--owner", required=True, help="User name of its owner.")
        parser.add_argument("--environment", choices=Environment.values, default=Environment.PAPER.value)
        parser.add_argument("--expires", help="When the key expires: 2027-01-31. Wallex keys live at most 90 days.")

    def handle(self, *args: Any, **options: Any) -> None:
        name, provider = options["name"].strip(), options["provider"]
        _check_environment(options["environment"])
        _check_name(name)
        owner, expires_at = _owner(options["owner"]), _expiry(options["expires"], provider, exchanges.CLOCK.now())
        key = _read_key(provider)
        client = create_provider(provider, base_url=exchanges.base_url(provider), api_key=key)
        try:
            account, balances = account_create(
                name=name,
                owner=owner,
                environment=Environment(options["environment"]),
                provider=client,
                api_key=key,
                by=SHELL,
                at=exchanges.CLOCK.now(),
                key_expires_at=expires_at,
            )
        except Refused as exc:
            raise CommandError(str(exc)) from exc
        except IntegrityError:
            raise _name_taken(name) from None
        assets = ", ".join(sorted(balances)) or "no balance yet"
        self.stdout.write(
            f"Account {account.name} stored: {provider} accepted the key {account.api_key_hint} ({assets})."
        )
        if role_of(owner) not in (Role.TRADER, Role.ADMIN):
            self.stdout.write(
                f"{owner.get_username()} is no {Role.TRADER}: they see the account and do not act on it until an Admin "
                "gives them that role on their page in the admin."
            )
        if provider == Provider.WALLEX and expires_at is None:
            self.stdout.write(
                "Its expiry is not known (no --expires was given): Wallex keys stop working, silently, within 90 days."
            )


def _check_environment(environment: str) -> None:
    if environment != settings.EXCHANGE_ENVIRONMENT:
        raise CommandError(
            f"A {environment} account cannot be stored here: EXCHANGE_ENVIRONMENT is {settings.EXCHANGE_ENVIRONMENT}. "
            "Nothing was stored. Use --environment "
            f"{settings.EXCHANGE_ENVIRONMENT}, or set EXCHANGE_ENVIRONMENT={environment} with the addresses that "
            "belong to it."
        )


def _check_name(name: str) -> None:
    limit = Account._meta.get_field("name").max_length
    if not 0 < len(name) <= (limit or 0):
        raise CommandError(f"--name must have 1 to {limit} characters.")
    if Account.objects.filter(name=name).exists():
        raise _name_taken(name)


def _name_taken(name: str) -> CommandError:
    return CommandError(f"There is an account {name!r} already. Nothing was stored. Choose another --name.")


def _owner(username: str) -> User:
    owner = User.objects.filter(username=username).first()
    if owner is None:
        known = ", ".join(User.objects.order_by("pk").values_list("username", flat=True)[:10])
        advice = f"Known are: {known}." if known else "Make one with: python manage.py createsuperuser"
        raise CommandError(f"There is no user {username!r}. Nothing was stored. {advice}")
    return owner


def _expiry(text: str | None, provider: str, now: datetime) -> datetime | None:
    expires_at = to_moment(text)
    if expires_at is None:
        return None
    if expires_at <= now:
        raise CommandError(f"--expires {text} is past: make a new key at the exchange first.")
    if provider == Provider.WALLEX and expires_at > now + WALLEX_KEY_LIFE + timedelta(days=1):
        raise CommandError(f"--expires {text} cannot be: Wallex keys live at most 90 days. Look it up in your panel.")
    return expires_at


def _read_key(provider: str) -> str:
    variable = f"{provider.upper()}_API_KEY"
    key = str(getattr(settings, variable))
    if not key and sys.stdin.isatty():
        try:
            key = getpass.getpass(f"API key of {provider} (not shown): ")
        except EOFError:
            key = ""
    if not key.strip():
        raise CommandError(
            f"No key was given. Set {variable} in the environment, or run this in a terminal and type it in. "
            "Never put a key on the command line."
        )
    return key.strip()
