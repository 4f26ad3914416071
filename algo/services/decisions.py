"""Writes of the journal: what strategies decided over a candle, many of them at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from algo.models import Decision, Outcome, StrategyConfig

_INSERT = f"""
    INSERT INTO {Decision._meta.db_table} (config_id, bar_open_at, decided_at, outcome, journal)
    SELECT row.config_id, row.bar_open_at, %s, row.outcome, row.journal::jsonb
    FROM unnest(%s::bigint[], %s::timestamptz[], %s::text[], %s::text[])
        AS row (config_id, bar_open_at, outcome, journal)
    ON CONFLICT (config_id, bar_open_at) DO NOTHING
"""  # noqa: S608 - our own name


@dataclass(frozen=True, slots=True)
class Noted:
    """What one strategy decided over the candle that opened at `bar_open_at`. `journal` is JSON, see `as_json`.
    `counts`: whether that candle was really there, so that the strategy has seen it."""

    config_id: int
    bar_open_at: datetime
    outcome: Outcome
    journal: str
    counts: bool = True


def as_json(journal: dict[str, Any]) -> str:
    """As it is kept. Raises TypeError or ValueError for what JSON does not know."""
    return json.dumps(journal, allow_nan=False)


@transaction.atomic
def decisions_record(notes: Sequence[Noted], *, now: datetime) -> None:
    """Keep them all, or none, in as many statements as for one. What was decided before stays as it was; a strategy
    that is gone is left out, and no newest candle is wound back by a worker that was held up. Raises DataError for a
    journal that PostgreSQL cannot keep (a zero byte in a text)."""
    ids = sorted({note.config_id for note in notes})
    # In one order everywhere: two workers that write for the same strategies wait for each other, and not in a circle.
    rows = StrategyConfig.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk")
    there = set(rows.values_list("pk", flat=True))
    notes = [note for note in notes if note.config_id in there]
    if not notes:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT,
            [
                now,
                [note.config_id for note in notes],
                [note.bar_open_at for note in notes],
                [str(note.outcome) for note in notes],
                [note.journal for note in notes],
            ],
        )
    for bar in {note.bar_open_at for note in notes if note.counts}:
        seen = [note.config_id for note in notes if note.counts and note.bar_open_at == bar]
        older = Q(last_bar_at=None) | Q(last_bar_at__lt=bar)
        StrategyConfig.objects.filter(older, pk__in=seen).update(last_bar_at=bar)
