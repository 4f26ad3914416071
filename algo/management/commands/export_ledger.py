"""`manage.py export_ledger`: every movement of an account's balances as CSV, adding up to what the exchange says."""

from __future__ import annotations

import csv
import os
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO, cast
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper
from persiantools.jdatetime import JalaliDate
from rich.table import Table

from algo import exchanges
from algo.localised import jalali_date
from algo.management._cli import CliCommand, rendered
from algo.models import Account
from algo.models.fields import plain
from algo.selectors.parity import day_bounds
from algo.selectors.statement import Kind, Movement, Reading, statement
from algo.services.accounts import balances_note
from providers.clock import CLOCKS_DIFFER
from providers.types import ZERO

COLUMNS = (
    "time", "account", "exchange", "kind", "asset", "amount", "balance",
    "market", "side", "quantity", "price", "deal", "order", "trade_id",
)  # fmt: skip
JALALI_COLUMNS = ("date_jalali", "time_of_day")
Sums = dict[str, dict[Kind, Decimal]]


class Command(CliCommand):
    help = (
        "Write every movement of an account's balances as CSV: opening balances, trades, fees, and what came or went "
        "outside the platform. The amounts of an asset add up to its balance. The exchange is asked for the balances "
        "of now, unless the statement ends earlier. Changes nothing at the exchange."
    )
    kept = "No file was written."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("account", help="The account's name.")
        parser.add_argument("--out", help="The file to write; default: standard output.")
        parser.add_argument("--from", dest="start", help="First day, as 2026-03-21 (with --jalali: 1405-01-01).")
        parser.add_argument("--to", dest="end", help="Last day, included; default: up to now.")
        parser.add_argument("--jalali", action="store_true", help="Days are Jalali; adds such a date to every row.")
        parser.add_argument("--offline", action="store_true", help="Do not ask the exchange for the balances of now.")

    def handle(self, *args: Any, **options: Any) -> None:
        account = _account(options["account"])
        start, end = _days(options)
        now = exchanges.CLOCK.now()
        closing = None if options["offline"] or (end and end <= now) else _read(account)
        around = exchanges.CLOCK.wall(CLOCKS_DIFFER.total_seconds())
        movements = statement(account, around=around, start=start, end=end, closing=closing)
        with _written(options["out"], self.stdout) as file:
            sums = _write(file, account, movements, jalali=options["jalali"])
        self.stderr.write(rendered(_summary(account, sums), colour=self.stderr.isatty()), ending="")
        self.stderr.write(_verdict(sums, closing))


def _account(name: str) -> Account:
    account = Account.objects.filter(name=name).first()
    if account is None:
        names = ", ".join(Account.objects.values_list("name", flat=True)) or "none yet"
        raise CommandError(f"There is no account named {name!r}. Accounts: {names}.")
    return account


def _days(options: dict[str, Any]) -> tuple[datetime | None, datetime | None]:
    first, last = (_day(options[name], jalali=options["jalali"]) for name in ("start", "end"))
    if first and last and last < first:
        raise CommandError("--to lies before --from. No file was written.")
    return day_bounds(first)[0] if first else None, day_bounds(last)[1] if last else None


def _day(text: str | None, *, jalali: bool) -> date | None:
    if not text:
        return None
    try:
        return jalali_date(text) if jalali else date.fromisoformat(text)
    except ValueError:
        example = "1405-01-01 (Jalali)" if jalali else "2026-03-21; for Jalali days add --jalali"
        raise CommandError(f"{text!r} is no day. Write it like {example}. No file was written.") from None


def _read(account: Account) -> Reading:
    """The balances of now. Raises CommandError, SecretUnreadable and ProviderError."""
    if account.environment != settings.EXCHANGE_ENVIRONMENT:
        raise CommandError(
            f"{account.name} is a {account.environment} account and EXCHANGE_ENVIRONMENT is "
            f"{settings.EXCHANGE_ENVIRONMENT}: its exchange cannot be asked. No file was written. Repeat with "
            "--offline."
        )
    read_at = exchanges.CLOCK.now()
    balances = exchanges.account_provider(account).balances()
    balances_note(account, balances, read_at=read_at)
    return Reading.of(read_at, {asset: each.total for asset, each in balances.items()})


@contextmanager
def _written(path: str | None, stdout: OutputWrapper) -> Iterator[TextIO]:
    """The file when all of it is written, readable by its owner alone; nothing where that fails."""
    if path is None:
        yield cast(TextIO, stdout)
        return
    target, draft = Path(path), Path(f"{path}.part")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
            yield file
        draft.replace(target)
    except OSError as exc:
        raise CommandError(f"{path} cannot be written: {exc.strerror}. Choose another place with --out.") from exc
    finally:
        draft.unlink(missing_ok=True)


def _write(file: TextIO, account: Account, movements: Iterator[Movement], *, jalali: bool) -> Sums:
    sums: Sums = defaultdict(lambda: dict.fromkeys(Kind, ZERO))
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow((*COLUMNS[:1], *JALALI_COLUMNS * jalali, *COLUMNS[1:]))
    for each in movements:
        sums[each.asset][each.kind] += each.amount
        rows.writerow((_utc(each.at), *(_jalali(each.at) if jalali else ()), *_row(account, each)))
    return sums


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _jalali(at: datetime) -> tuple[str, str]:
    """Date and time of day in the time zone of the trading day."""
    there = at.astimezone(ZoneInfo(settings.TRADING_DAY_TIME_ZONE))
    day = JalaliDate(there.date())
    return f"{day.year:04}-{day.month:02}-{day.day:02}", f"{there:%H:%M:%S}"


def _row(account: Account, movement: Movement) -> tuple[object, ...]:
    told = (account.name, account.provider, movement.kind, movement.asset)
    amounts = (plain(movement.amount), plain(movement.balance))
    fill = movement.fill
    if fill is None:
        return (*told, *amounts, *("",) * 7)
    order = fill.order
    about = (order.market.symbol, order.side, plain(fill.quantity), plain(fill.price))
    return (*told, *amounts, *about, order.deal_id, order.client_order_id, fill.trade_id)


def _summary(account: Account, sums: Sums) -> Table:
    table = Table(title=f"{account.name} ({account.provider})")
    table.add_column("asset")
    for name in (*Kind, "balance"):
        table.add_column(str(name), justify="right")
    for asset, kinds in sorted(sums.items()):
        amounts = (*(kinds[kind] for kind in Kind), sum(kinds.values(), ZERO))
        table.add_row(asset, *(str(plain(amount)) for amount in amounts))
    return table


def _verdict(sums: Sums, closing: Reading | None) -> str:
    outside = [asset for asset, kinds in sorted(sums.items()) if kinds[Kind.OUTSIDE]]
    said = (
        "The amounts add up to the balances that the exchange says now."
        if closing
        else "The exchange was not asked: the amounts add up to what the books say."
    )
    if outside:
        said += (
            f" Of {', '.join(outside)} something came or went outside the platform (deposits, withdrawals, trades by "
            "hand): each such row is dated by the reading that first saw it. What you cannot explain, look into."
        )
    return said
