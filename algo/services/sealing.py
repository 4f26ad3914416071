"""Every sealed secret of the database, sealed again with the newest key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.apps import apps
from django.db import models, transaction

from algo.models.fields import SecretUnreadable, reseal
from algo.services.audit import Actor, audit_record

BATCH = 50  # rows of one transaction: nobody waits long for one of them
LOOKS = 5  # at a row that somebody else writes at the same moment
SEALED = "_sealed"  # how every column ends that holds a sealed secret; its row has the public_id to which it is bound


@dataclass(slots=True)
class Resealed:
    """How many secrets were sealed again, how many were already, and which rows could not be opened, each with why."""

    done: int = 0
    already: int = 0
    unreadable: list[str] = field(default_factory=list)


def sealed_columns() -> list[tuple[type[models.Model], list[str]]]:
    """The models that hold sealed secrets, and the columns in which they do."""
    found = ((model, [each.name for each in model._meta.concrete_fields]) for model in apps.get_models())
    named = ((model, [name for name in names if name.endswith(SEALED)]) for model, names in found)
    return [(model, names) for model, names in named if names]


def secrets_reseal(*, by: Actor, at: datetime) -> Resealed:
    """Seal every secret with the first of FIELD_ENCRYPTION_KEYS. Safe to repeat, and while the platform runs: a secret
    that somebody enters meanwhile stays. A row that no key opens stays as it is and is named."""
    result = Resealed()
    for model, columns in sealed_columns():
        keys = list(model._default_manager.order_by("pk").values_list("pk", flat=True))
        for first in range(0, len(keys), BATCH):
            _reseal_rows(model, columns, keys[first : first + BATCH], result, by, at)
    return result


@transaction.atomic
def _reseal_rows(
    model: type[models.Model], columns: list[str], keys: Sequence[Any], result: Resealed, by: Actor, at: datetime
) -> None:
    before = result.done
    for key, column in ((key, column) for key in keys for column in columns):
        if not any(_reseal(model, column, key, result) for _look in range(LOOKS)):
            result.unreadable.append(f"{_named(model, key)}: it is being written all the time. Run this again.")
    if sealed := result.done - before:
        details = {"kind": model._meta.model_name, "secrets": sealed}
        audit_record("secrets.reseal", by=by, subject=None, at=at, details=details)


def _reseal(model: type[models.Model], column: str, key: Any, result: Resealed) -> bool:
    """False where the secret was replaced between reading and writing."""
    rows = model._default_manager.filter(pk=key)
    row = rows.values("public_id", column).first()
    if row is None or not row[column]:
        return True
    try:
        fresh = reseal(row[column], owner=str(row["public_id"]))
    except SecretUnreadable as exc:
        result.unreadable.append(f"{_named(model, key)}: {exc}")
        return True
    if fresh is None:
        result.already += 1
        return True
    if not rows.filter(**{column: row[column]}).update(**{column: fresh}):
        return False
    result.done += 1
    return True


def _named(model: type[models.Model], key: Any) -> str:
    row = model._default_manager.filter(pk=key).first()
    return f"{model._meta.verbose_name} {key} ({row})"
