"""The history of a strategy: every change people made, with who, when, and the difference field by field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext

from algo.models import Account, Door, Market, StrategyConfig

NEWEST = 100  # changes that are told at once
_PLAIN = ("name", "strategy", "resolution", "allowed_sides", "ordering_enabled")
_KINDS = {"+": "created", "~": "changed", "-": "deleted"}


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field before and after, as JSON values: accounts and markets by their names, None where there was nothing. A
    parameter's name begins with `parameters.`."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One change. `version` counts from 1, the oldest; `id` is what `strategy_roll_back` takes; `who` is a user's name,
    empty where `door` says that it was a shell or the platform itself."""

    id: int
    version: int
    at: datetime
    who: str
    door: Door
    kind: str  # created, changed or deleted
    why: str
    changes: tuple[FieldChange, ...]
    values: dict[str, Any]  # everything as it was then, by the names of `changes`

    @property
    def by(self) -> str:
        """Who, in words for people."""
        return self.who or (gettext("the platform") if self.door == Door.PLATFORM else gettext("the shell"))


def config_changes(config: StrategyConfig, *, seen: QuerySet[Account], newest: int = NEWEST) -> list[ConfigChange]:
    """Its newest changes, newest first, in four queries. What the first of all says has no difference to tell. Accounts
    it once was on are named where they are among `seen`: those that the reader may see."""
    history = StrategyConfig.history.filter(id=config.pk).order_by("-history_id")
    count, rows = history.count(), list(history[: newest + 1])
    told = _values_of(rows, seen)
    before = [*told[1:], {}]
    return [
        ConfigChange(
            id=row.history_id,
            version=count - number,
            at=row.history_date,
            who=row.username,
            door=Door(row.door),
            kind=_KINDS[row.history_type],
            why=row.history_change_reason or "",
            changes=_difference(before[number], told[number]) if before[number] else (),
            values=told[number],
        )
        for number, row in enumerate(rows[:newest])
    ]


def roll_back_difference(
    config: StrategyConfig, history_id: int, *, seen: QuerySet[Account]
) -> tuple[FieldChange, ...] | None:
    """What rolling back to that version would change of `config` as it stands; None where it has no such version.
    `seen` as above."""
    version = StrategyConfig.history.filter(id=config.pk, history_id=history_id).first()
    if version is None:
        return None
    now, then = _values_of([config, version], seen)
    return tuple(each for each in _difference(now, then) if each.field != "ordering_enabled")


def _values_of(rows: Sequence[Any], seen: QuerySet[Account]) -> list[dict[str, Any]]:
    accounts = seen.in_bulk({row.account_id for row in rows})
    markets = Market.objects.in_bulk({pk for row in rows for pk in (row.market_id, row.data_market_id)})
    return [_values(row, accounts, markets) for row in rows]


def _values(row: Any, accounts: dict[int, Account], markets: dict[int, Market]) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in _PLAIN}
    for name, found in (
        ("account", accounts.get(row.account_id)),
        ("data_market", markets.get(row.data_market_id)),
        ("market", markets.get(row.market_id)),
    ):
        values[name] = (
            str(found)
            if found
            else gettext("not there, or not yours to see (%(id)s)") % {"id": getattr(row, name + "_id")}
        )
    return values | {f"parameters.{name}": value for name, value in (row.parameters or {}).items()}


def _difference(before: dict[str, Any], after: dict[str, Any]) -> tuple[FieldChange, ...]:
    names = [*after, *(name for name in before if name not in after)]
    return tuple(
        FieldChange(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    )


def version_count(config: StrategyConfig) -> int:
    """The number of its newest version; 0 where nothing is kept of it."""
    return int(StrategyConfig.history.filter(id=config.pk).count())


def version_id(config: StrategyConfig, version: int) -> int | None:
    """What `strategy_roll_back` takes for a `version` that counts from 1; None where there is none of that number."""
    ids = StrategyConfig.history.filter(id=config.pk).order_by("history_id").values_list("history_id", flat=True)
    return ids[version - 1 : version].first() if version > 0 else None
