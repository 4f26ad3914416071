"""`manage.py kill_switch`: the switches from a shell, for the hour in which nothing else answers."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from rich.table import Table
from rich.text import Text

from algo import exchanges
from algo.management._cli import CliCommand
from algo.models import Account, KillSwitch, StrategyConfig
from algo.selectors.halts import SwitchState, Target, level_of, scope_name, switch_of, switch_states
from algo.selectors.markets import market_get
from algo.services.audit import SHELL
from algo.services.control import ControlRefused, kill_switch_set

LEVELS = [level.value for level in KillSwitch]


class Command(CliCommand):
    help = (
        "Show how the kill switches stand (status), or turn one (set LEVEL --reason WHY): of the whole system, or of "
        f"one account, strategy or market. Levels, milder first: {', '.join(LEVELS)}. No level stops the protection "
        "of open positions; flatten closes them at the market."
    )
    kept = "Nothing was changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=("status", "set"))
        parser.add_argument("level", nargs="?", choices=LEVELS)
        parser.add_argument("--reason", help="With set: why, for those who find it turned.")
        scope = parser.add_mutually_exclusive_group()
        scope.add_argument("--account", metavar="NAME")
        scope.add_argument("--strategy", metavar="NAME", help="A configured strategy, by its name in admin.")
        scope.add_argument("--market", metavar="PROVIDER:SYMBOL", help="For example wallex:BTCTMN.")
        parser.add_argument("--unproven", action="store_true", help="Leave flatten though it is not proved flat.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "set":
            self._set(options)
        elif options["level"]:
            raise CommandError(f"To turn the switch: kill_switch set {options['level']} --reason WHY. {self.kept}")
        self._status()

    def _set(self, options: dict[str, Any]) -> None:
        if not options["level"]:
            raise CommandError(f"Say the level: one of {', '.join(LEVELS)}. {self.kept}")
        target = _target(options)
        before = switch_of(target)
        try:
            row = kill_switch_set(
                options["level"],
                reason=options["reason"] or "",
                by=SHELL,
                at=exchanges.CLOCK.now(),
                target=target,
                seen_version=before.version,
                unproven_ok=options["unproven"],
            )
        except ControlRefused as exc:
            hint = " (--unproven)" if "without one" in str(exc) else ""
            raise CommandError(f"{exc}{hint}") from exc
        if row.version == before.version:
            self.stdout.write(f"{_named(target)} stood at {level_of(row)}: nothing was changed.")
        else:
            self.stdout.write(f"{_named(target)} was turned: {level_of(before)} -> {level_of(row)}.")

    def _status(self) -> None:
        for state in switch_states(exchanges.CLOCK):
            row = state.row
            since = f", since {row.changed_at:%Y-%m-%d %H:%M:%S} UTC: {row.reason}" if row.version else ""
            self.stdout.write(f"{_named(state.target)} stands at {level_of(row)}{since}")
            if state.accounts:
                self.show(_flat_table(state))


def _flat_table(state: SwitchState) -> Table:
    table = Table("account", "flat", "checked (UTC)", "why", box=None)
    for each in state.accounts:
        checked = f"{each.checked_at:%H:%M:%S}" if each.checked_at else "never"
        table.add_row(each.account.name, "proved" if each.is_flat else "NOT PROVEN", checked, Text(each.why))
    return table


def _named(target: Target | None) -> str:
    return f"The kill switch of {scope_name(target)}"


def _target(options: dict[str, Any]) -> Target | None:
    if name := options["account"]:
        return _named_row(Account, "account", name)
    if name := options["strategy"]:
        return _named_row(StrategyConfig, "strategy", name)
    if not (name := options["market"]):
        return None
    provider, colon, symbol = name.partition(":")
    if not colon:
        raise CommandError(f"Name a market as PROVIDER:SYMBOL, for example wallex:BTCTMN; {name!r} is none.")
    return market_get(provider, symbol.upper())


def _named_row(model: type[Account | StrategyConfig], kind: str, name: str) -> Account | StrategyConfig:
    found = model._default_manager.filter(name=name).first()
    if found is None:
        known = ", ".join(model._default_manager.values_list("name", flat=True)[:10]) or "none yet"
        raise CommandError(f"There is no {kind} {name!r}; nothing was changed. Known are: {known}.")
    return found
