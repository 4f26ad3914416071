"""Events for the world outside, recorded together with the fact that they report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from algo.models import OutboxEvent


def event_record(kind: str, payload: Mapping[str, Any], *, at: datetime) -> OutboxEvent:
    """Put an event in the outbox. Call it inside the transaction of the fact: both are there, or neither.

    `kind` is dotted, `deal.closed`. Decimals and times in `payload` become text.
    """
    plain = json.loads(json.dumps(payload, cls=DjangoJSONEncoder))
    return OutboxEvent.objects.create(kind=kind, payload=plain, created_at=at, next_attempt_at=at)
