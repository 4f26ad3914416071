"""What people do to a strategy beside starting and stopping it: create, change, clone, roll back, run now, delete.

Each is one transaction with its row of the history and its record in the audit log. None touches a deal that is open:
a deal carries its own copy of the rules. A version that was never checked for bias is checked before it decides; who
wants to tell a person at once calls `strategy_check_current` after the commit, for it takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext

from algo.models import Account, Market, StrategyConfig, StrategyStatus
from algo.sentences import sentence
from algo.services.audit import Actor, audit_record
from algo.services.deletion import deletion_refusal
from algo.services.refused import name_once
from algo.services.strategy_configs import Problems, config_problems, parameters_clean, parameters_to_store
from algo.services.strategy_history import told_by
from algo.strategies.strategy_factory import external_names
from providers.types import Resolution

WHOLE = "__all__"  # the key of what belongs to no field
PEOPLE_SET = (
    "name",
    "parameters",
    "account",
    "data_market",
    "market",
    "resolution",
    "allowed_sides",
    "ordering_enabled",
)
# Not rolled back: an old version must not begin to order where somebody has paused it since.
ROLLED_BACK = tuple(name for name in PEOPLE_SET if name != "ordering_enabled")


class StrategyRefused(ValueError):
    """It was not done, and nothing was changed. `errors` maps each field to its sentences, those of a parameter under
    the parameter's name, and what belongs to no field under `__all__`."""

    def __init__(self, errors: Mapping[str, list[str]] | str) -> None:
        self.errors: Problems = {WHOLE: [errors]} if isinstance(errors, str) else dict(errors)
        each = ((name, text) for name, texts in self.errors.items() for text in texts)
        super().__init__(" ".join(text if name == WHOLE else sentence(f"{name}: {text}") for name, text in each))


class ChangedMeanwhile(StrategyRefused):
    """Somebody else changed it since the caller looked. Look again, then decide anew."""


def strategy_problems(config: StrategyConfig) -> Problems:
    """Everything that keeps `config`, saved or not, from being saved: as StrategyRefused has them. Changes nothing."""
    problems = config_problems(config)
    if StrategyConfig.objects.filter(name=config.name).exclude(pk=config.pk).exists():
        problems["name"] = [_taken(config.name)]
    return problems


def strategy_create(config: StrategyConfig, *, by: Actor, at: datetime, why: str = "") -> StrategyConfig:
    """Save a config that is not saved yet; it is stopped until somebody starts it. Raises StrategyRefused, and
    PermissionDenied for who may not trade with its account: here and below."""
    config.status, config.last_bar_at = StrategyStatus.STOPPED, None
    _judge(config)
    _complete(config)
    return _insert(config, by, at, why)


@transaction.atomic
def strategy_update(
    config: StrategyConfig,
    values: Mapping[str, Any],
    *,
    by: Actor,
    at: datetime,
    why: str = "",
    some_parameters: Mapping[str, Any] | None = None,
    seen_version: int | None = None,
) -> list[str]:
    """Set those of `PEOPLE_SET` that differ, on the row as it stands now; of the parameters only some, where those are
    given instead. Returns the names; an empty list where it stood so already. Raises StrategyRefused, of which
    ChangedMeanwhile where its newest change is not the one that was seen."""
    row = _locked(config, by)
    if seen_version is not None and (newest := row.history.count()) != seen_version:
        raise ChangedMeanwhile(
            gettext(
                "%(row)s was changed meanwhile: its newest version is %(newest)s, not %(seen_version)s. "
                "Nothing was changed. Look again and decide anew."
            )
            % {"row": row.name, "newest": newest, "seen_version": seen_version}
        )
    if some_parameters:
        values = {**values, "parameters": {**row.parameters, **some_parameters}}
    before = {name: getattr(row, name) for name in PEOPLE_SET}
    for name in before.keys() & values.keys():
        setattr(row, name, values[name])
    _judge(row)
    if "parameters" in values:
        _complete(row)
    by.must_trade(row.account)
    changed = [name for name, value in before.items() if getattr(row, name) != value]
    if not changed:
        return []
    with _name_once(row.name), told_by(row, by, at=at, why=why):
        row.save(update_fields=[*changed, "updated_at"])
    audit_record("strategyconfig.change", by=by, subject=row, at=at, reason=why, details={"fields": changed})
    _follow(config, row, changed)
    return changed


def strategy_clone(config: StrategyConfig, *, by: Actor, at: datetime, name: str = "") -> StrategyConfig:
    """The same strategy once more, stopped, under `name` (or “… (copy)”). Raises StrategyRefused."""
    values = {each: getattr(config, each) for each in PEOPLE_SET if each != "name"}
    copy = StrategyConfig(name=name or _free_name(config.name), strategy=config.strategy, **values)
    return strategy_create(copy, by=by, at=at, why=f"Cloned from {config.name}.")


@transaction.atomic
def strategy_roll_back(
    config: StrategyConfig, history_id: int, *, by: Actor, at: datetime, reason: str = ""
) -> list[str]:
    """Set what people set to what it was in one version of its history; ordering and running stay as they are. Returns
    what changed. Raises StrategyRefused where that version cannot work any more."""
    version = StrategyConfig.history.filter(id=config.pk, history_id=history_id).first()
    if version is None:
        raise StrategyRefused(
            gettext("%(config)s has no version %(history_id)s. Nothing was changed.")
            % {"config": config.name, "history_id": history_id}
        )
    account = Account.objects.filter(pk=version.account_id).first()
    markets = Market.objects.in_bulk([version.market_id, version.data_market_id])
    if account is None or not {version.market_id, version.data_market_id} <= markets.keys():
        raise StrategyRefused(
            gettext(
                "%(config)s was not rolled back: the account or a market of that version is gone. Nothing was changed."
            )
            % {"config": config.name}
        )
    values = {name: getattr(version, name) for name in ROLLED_BACK if name not in ("account", "market", "data_market")}
    values |= {
        "account": account,
        "market": markets[version.market_id],
        "data_market": markets[version.data_market_id],
    }
    why = f"Rolled back to what it was at {version.history_date:%Y-%m-%d %H:%M:%S} UTC. {reason}".strip()
    return strategy_update(config, values, by=by, at=at, why=why)


@transaction.atomic
def strategy_run_now(config: StrategyConfig, *, by: Actor, at: datetime) -> bool:
    """Record that somebody wants it to decide over its newest closed candle at once; the caller hands it to a worker
    (`queues.evaluate_hint`). False, with nothing recorded, where it has decided about that candle: a candle is decided
    about once. Raises StrategyRefused where it does not run."""
    row = _locked(config, by)
    if row.strategy in external_names():
        raise StrategyRefused(f"{row.name} decides when a signal is sent to it, and by no candle. Nothing was done.")
    if row.status != StrategyStatus.RUNNING:
        raise StrategyRefused(
            gettext("%(row)s is stopped: start it, and it decides over its newest closed candle at once.")
            % {"row": row.name}
        )
    if row.last_bar_at is not None and at < row.last_bar_at + 2 * Resolution(row.resolution).duration:
        return False
    audit_record("strategy.run", by=by, subject=row, at=at)
    return True


@transaction.atomic
def strategy_delete(config: StrategyConfig, *, by: Actor, at: datetime) -> None:
    """Remove a config that never traded; its history stays. Raises StrategyRefused with what to do instead."""
    by.must_trade(config.account)
    if why := deletion_refusal(config):
        raise StrategyRefused(why)
    audit_record("strategyconfig.delete", by=by, subject=config, at=at)
    with told_by(config, by, at=at):
        config.delete()


@transaction.atomic
def _insert(config: StrategyConfig, by: Actor, at: datetime, why: str) -> StrategyConfig:
    by.must_trade(config.account)
    with _name_once(config.name), told_by(config, by, at=at, why=why):
        config.save(force_insert=True)
    audit_record("strategyconfig.create", by=by, subject=config, at=at, reason=why)
    return config


def _judge(config: StrategyConfig) -> None:
    """Raises StrategyRefused where it cannot work as it is."""
    problems = strategy_problems(config)
    if problems:
        raise StrategyRefused(problems)


def _taken(name: str) -> str:
    return gettext("Another strategy is called %(name)s: choose another name.") % {"name": name}


def _name_once(name: str) -> AbstractContextManager[None]:
    return name_once(StrategyConfig.objects.all(), name, StrategyRefused({"name": [_taken(name)]}))


def _complete(config: StrategyConfig) -> None:
    """Every parameter is stored: a later change of a default leaves this config as it is."""
    config.parameters = parameters_to_store(parameters_clean(config.strategy, config.parameters))


def _locked(config: StrategyConfig, by: Actor) -> StrategyConfig:
    """Its row as it stands now, kept from other writers until the commit."""
    rows = StrategyConfig.objects.select_for_update(no_key=True, of=("self",))
    row = rows.select_related("account", "market", "data_market").get(pk=config.pk)
    by.must_trade(row.account)
    return row


def _follow(config: StrategyConfig, row: StrategyConfig, names: list[str]) -> None:
    """The caller's object says what its row says now."""
    for name in (*names, "updated_at"):
        setattr(config, name, getattr(row, name))


def _free_name(name: str) -> str:
    longest = StrategyConfig._meta.get_field("name").max_length or 80
    number = 1
    while True:
        end = " (copy)" if number == 1 else f" (copy {number})"
        wanted = name[: longest - len(end)] + end
        if not StrategyConfig.objects.filter(name=wanted).exists():
            return wanted
        number += 1
