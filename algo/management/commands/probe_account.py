"""`manage.py probe_account`: can this account be traded with, and what protects a position on it?"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict, replace
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from rich.table import Table
from rich.text import Text

from algo import exchanges
from algo.execution.probe import OrdersProbed, ProbeRefused, account_probe_orders
from algo.management._cli import CliCommand
from algo.models import Account, Environment
from algo.models.fields import plain
from algo.services.accounts import account_note, account_stop
from algo.services.audit import SHELL
from algo.services.probe import PROTECTION, Findings, account_probe, unknown_of
from providers.errors import AuthFailed
from providers.interface import ExchangeProvider
from providers.types import Capabilities


class Command(CliCommand):
    help = (
        "Ask an exchange what an account's key may do and until when, its balances, fees and clock. Changes nothing "
        "at the exchange, unless --orders is given: that places two tiny stops far from the market, reads them back, "
        "takes them down again and stores what the account can really do."
    )
    kept = "Nothing was changed at the exchange."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="The account's name.")
        parser.add_argument("--orders", action="store_true", help="Also try stop orders, and store what that showed.")
        parser.add_argument("--symbol", help="With --orders: the market to try them on; default: one that is paid for.")
        parser.add_argument("--yes-real-money", action="store_true", help="With --orders, on a live account.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        account = _account(options["name"])
        _check(account, options)
        provider = _client(account)
        findings = account_probe(account, provider, clock=exchanges.CLOCK)
        probed: OrdersProbed | None = None
        if options["orders"] and not findings.errors:
            # before the first order: whatever becomes of this process, the record says who placed it
            account_note(account, "account.probe_orders", by=SHELL, at=exchanges.CLOCK.now())
            self.kept = "Look at the open orders of the account at the exchange."
            try:
                probed = account_probe_orders(
                    account, provider, clock=exchanges.CLOCK, symbol=(options["symbol"] or "").upper() or None
                )
            except ProbeRefused as exc:
                raise CommandError(str(exc)) from exc
            findings = replace(findings, unknown=tuple(unknown_of(account, findings.key, findings.clock_difference)))
        if options["json"]:
            self.stdout.write(json.dumps(as_json(account, findings, probed)))
        else:
            self._tell(account, findings, probed)
        if failures := [*findings.errors, *(probed.left if probed else ())]:
            raise CommandError(" ".join(failures))

    def _tell(self, account: Account, findings: Findings, probed: OrdersProbed | None) -> None:
        table = Table(show_header=False, box=None, title=f"{account.name} at {account.get_provider_display()}")
        for name, value in _lines(account, findings, probed):
            table.add_row(name, Text(value))
        self.show(table)
        for title, sentences in (("Warning", findings.warnings), ("Not known", findings.unknown)):
            for sentence in sentences:
                self.stdout.write(f"{title}: {sentence}")
        for sentence in probed.left if probed else ():
            self.stderr.write(f"STILL AT THE EXCHANGE? {sentence}")


def _account(name: str) -> Account:
    try:
        return Account.objects.get(name=name)
    except Account.DoesNotExist:
        known = ", ".join(Account.objects.values_list("name", flat=True)[:10]) or "none yet"
        raise CommandError(f"There is no account {name!r}. Known are: {known}.") from None


def _client(account: Account) -> ExchangeProvider:
    try:
        return exchanges.account_provider(account)
    except AuthFailed as exc:  # what is stored cannot be a key
        account_stop(account, str(exc), at=exchanges.CLOCK.now())
        raise


def _check(account: Account, options: dict[str, Any]) -> None:
    """Before its key is sent anywhere."""
    if account.environment != settings.EXCHANGE_ENVIRONMENT:
        raise CommandError(
            f"{account.name} is a {account.environment} account, and EXCHANGE_ENVIRONMENT is "
            f"{settings.EXCHANGE_ENVIRONMENT}: its key was not sent anywhere. Nothing was changed."
        )
    if options["orders"] and account.environment == Environment.LIVE.value and not options["yes_real_money"]:
        raise CommandError(
            "--orders places two real orders with real money, far from the market and as small as the exchange takes "
            "them, and cancels them. Nothing was sent. Add --yes-real-money if that is what you want."
        )


def _lines(account: Account, findings: Findings, probed: OrdersProbed | None) -> list[tuple[str, str]]:
    key, difference = findings.key, findings.clock_difference
    expires = findings.expires_at
    lines = [
        ("environment", account.environment),
        ("state", f"{account.state} {account.state_reason}".strip()),
        ("key", f"{account.api_key_hint or 'of the environment'}, {_scopes(key.scopes)}"),
        ("key expires", f"{expires:%Y-%m-%d %H:%M} UTC" if expires else "not known"),
        ("answered in", f"{findings.latency_seconds * 1000:.0f} ms"),
        ("clock", "not known" if difference is None else f"theirs is {difference.total_seconds():+.1f} s from ours"),
    ]
    for asset, held in sorted(findings.balances.items()):
        lines.append((f"balance {asset}", f"{plain(held.total):f}, {plain(held.locked):f} of it locked"))
    for fee in findings.fees:
        rates = f"maker {fee.maker:.3%}, taker {fee.taker:.3%}"
        lines.append((f"fees in {fee.quote}", f"{rates} ({fee.markets} markets)"))
    for tried in probed.tried if probed else ():
        lines.append((f"tried {tried.type}", "; ".join(tried.notes)))
    if probed and probed.capabilities is None:
        lines.append(("stored", "nothing: not every answer was clear"))
    capabilities = (probed and probed.capabilities) or findings.capabilities
    known = "probed" if account.capabilities_probed_at else "as documented, not probed"
    lines.append(("protection", f"{_protection(capabilities)} [{known}]"))
    return lines


def _protection(capabilities: Capabilities) -> str:
    mode = capabilities.protection_mode
    return f"mode {mode.value}: {PROTECTION[mode]}"


def _scopes(scopes: frozenset[str] | None) -> str:
    return "permissions not told" if scopes is None else f"may {', '.join(sorted(scopes)) or 'nothing'}"


def as_json(account: Account, findings: Findings, probed: OrdersProbed | None) -> dict[str, Any]:
    """Everything that was found, for machines: amounts are text, times ISO 8601."""
    capabilities = (probed and probed.capabilities) or findings.capabilities
    difference, expires = findings.clock_difference, findings.expires_at
    probed_at = account.capabilities_probed_at
    return {
        "account": account.name,
        "provider": account.provider,
        "environment": account.environment,
        "state": account.state,
        "key_scopes": sorted(findings.key.scopes) if findings.key.scopes is not None else None,
        "key_expires_at": expires.isoformat() if expires else None,
        "balances": {
            asset: {"total": f"{plain(held.total):f}", "locked": f"{plain(held.locked):f}"}
            for asset, held in sorted(findings.balances.items())
        },
        "fees": [
            {"quote": fee.quote, "maker": f"{fee.maker:f}", "taker": f"{fee.taker:f}", "markets": fee.markets}
            for fee in findings.fees
        ],
        "clock_difference_seconds": None if difference is None else round(difference.total_seconds(), 1),
        "latency_seconds": round(findings.latency_seconds, 4),
        "capabilities": asdict(capabilities),
        "capabilities_probed_at": probed_at.isoformat() if probed_at else None,
        "protection_mode": capabilities.protection_mode.name,
        "errors": list(findings.errors),
        "warnings": list(findings.warnings),
        "unknown": list(findings.unknown),
        "orders": None if probed is None else _orders_json(probed),
    }


def _orders_json(probed: OrdersProbed) -> dict[str, Any]:
    tried = [
        {"type": each.type, "works": each.works, "locks_balance": each.locks, "notes": list(each.notes)}
        for each in probed.tried
    ]
    return {
        "symbol": probed.symbol,
        "tried": tried,
        "stored": probed.capabilities is not None,
        "left_at_the_exchange": list(probed.left),
    }
