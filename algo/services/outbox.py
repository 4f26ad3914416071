"""Events for the world outside, recorded together with the fact that they report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from algo.models import Account, Deal, EventKind, NotificationChannel, OutboxEvent, Severity, StrategyConfig
from algo.models.event_kinds import severity_of


def event_record(
    kind: EventKind,
    payload: Mapping[str, Any],
    *,
    at: datetime,
    deal: Deal | None = None,
    config: StrategyConfig | None = None,
    account: Account | None = None,
    channel: NotificationChannel | None = None,
    severity: Severity | None = None,
) -> OutboxEvent:
    """Put an event in the outbox. Call it inside the transaction of the fact: both are there, or neither.

    What it is about decides who may hear of it: name the narrowest of `deal`, `config` and `account`; the others
    follow. Without any of them the kind decides. Events of one deal are told in the order of their rows, so write them
    while the deal's row is locked. `channel` is the only one that hears of it. Decimals and times become text.
    """
    plain = json.loads(json.dumps(payload, cls=DjangoJSONEncoder))
    config_id = deal.config_id if deal is not None else (config.pk if config is not None else None)
    owned = deal or config
    return OutboxEvent.objects.create(
        kind=kind,
        payload=plain,
        severity=severity_of(kind) if severity is None else severity,
        created_at=at,
        deal=deal,
        config_id=config_id,
        account_id=owned.account_id if owned is not None else (account.pk if account is not None else None),
        channel=channel,
    )
