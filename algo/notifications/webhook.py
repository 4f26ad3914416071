"""Webhooks: signed JSON to the address of a channel, and to the operator's own (WEBHOOK_URL, WEBHOOK_SECRET)."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import requests
from celery import Task, shared_task
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from urllib3.exceptions import HTTPError

from algo.models import OutboxEvent
from algo.notifications import addresses
from algo.notifications.addresses import AddressRefused
from algo.notifications.message import SENDER_SECONDS, DeliveryFailed, Message
from algo.standard_webhooks import ID, SIGNATURE, TIMESTAMP, signature

BODY_VERSION = 1
CONNECT_SECONDS = READ_SECONDS = 5.0
GROUP = "group"  # the `type` of a message that holds several events
# What says something about this one body; any other refusal says something about the receiver.
_ABOUT_THE_BODY = frozenset({400, 406, 409, 411, 413, 415, 422})
_LONGEST_PATIENCE = 3600.0


@shared_task(
    bind=True,
    name="algo.notifications.send_webhook_notification",
    queue="notifications",
    autoretry_for=(DeliveryFailed,),
    retry_backoff=10,
    retry_backoff_max=300,
    max_retries=5,
    time_limit=30,
)
def send_webhook_notification(self: Task, deal_data: dict[str, Any]) -> None:
    """POST `deal_data` to WEBHOOK_URL, signed; nothing where no URL is configured. Raises DeliveryFailed.

    Run by a worker it tries again for some minutes under the same id. What must survive a restart goes through the
    outbox instead.
    """
    if settings.WEBHOOK_URL:
        identity = f"task_{self.request.id or uuid.uuid4().hex}"
        webhook_send(
            deal_data,
            url=settings.WEBHOOK_URL,
            secret=settings.WEBHOOK_SECRET,
            event_id=identity,
            allow_private=private_allowed(is_operators=True),
        )


def webhook_message_send(message: Message) -> int:
    """The sender of channels that are webhooks. Returns the status; raises DeliveryFailed, SecretUnreadable."""
    channel, first = message.channel, message.events[0]
    return webhook_send(
        _group_data(message) if message.is_group else first.payload,
        url=channel.target(),
        secret=channel.secret(),
        event_id=message.id,
        kind=GROUP if message.is_group else first.kind,
        created_at=first.created_at,
        allow_private=private_allowed(is_operators=channel.is_operators),
    )


def _group_data(message: Message) -> dict[str, Any]:
    return {"counts": message.counts, "events": [_event_data(event) for event in message.events]}


def _event_data(event: OutboxEvent) -> dict[str, Any]:
    return {"id": f"event_{event.pk}", "type": event.kind, "created_at": event.created_at, "data": event.payload}


def private_allowed(*, is_operators: bool) -> bool:
    """Whether private addresses may be sent to: the operator's own while nothing is real, those that people type in
    only where the operator says so."""
    is_play = settings.DEBUG or settings.EXCHANGE_ENVIRONMENT == "paper"
    return bool(settings.NOTIFY_PRIVATE_ADDRESSES) or (is_operators and is_play)


def webhook_send(
    deal_data: Mapping[str, Any],
    *,
    url: str,
    secret: str,
    event_id: str = "",
    kind: str = "deal",
    created_at: datetime | None = None,
    allow_private: bool = False,
) -> int:
    """POST one signed document; the status once the receiver answered 2xx. Raises DeliveryFailed, without any secret.

    A receiver keeps `id` to recognise a repetition: delivery is at least once. Redirects are not followed.
    """
    event_id = event_id or uuid.uuid4().hex
    body = webhook_body(deal_data, event_id=event_id, kind=kind, created_at=created_at)
    headers = {"Content-Type": "application/json", "User-Agent": "algo_trade-webhook/1"}
    headers |= webhook_headers(body, event_id=event_id, timestamp=int(time.time()), secret=secret)
    status, answered = _post(url, body, headers, allow_private=allow_private)
    if not 200 <= status < 300:
        raise DeliveryFailed(
            f"the receiver answered {status}",
            status=status,
            of_receiver=status not in _ABOUT_THE_BODY,
            retry_seconds=_patience(answered.get("Retry-After", "")),
        )
    return status


def webhook_body(deal_data: Mapping[str, Any], *, event_id: str, kind: str, created_at: datetime | None) -> bytes:
    """The JSON that is sent and signed. Decimals and times are text."""
    document = {"version": BODY_VERSION, "id": event_id, "type": kind, "created_at": created_at, "data": deal_data}
    return json.dumps(document, cls=DjangoJSONEncoder, separators=(",", ":")).encode()


def webhook_headers(body: bytes, *, event_id: str, timestamp: int, secret: str) -> dict[str, str]:
    """The signature as the Standard Webhooks scheme has it: base64 HMAC-SHA256 over `id.timestamp.body`.

    The wall clock's unix seconds are signed too, so that a receiver can refuse what is old.
    """
    signed = signature(body, event_id=event_id, timestamp=timestamp, secret=secret)
    return {ID: event_id, TIMESTAMP: str(timestamp), SIGNATURE: signed}


def _patience(retry_after: str) -> float | None:
    """The seconds of a Retry-After header, bounded; None for none and for a date, which needs a common clock."""
    return min(float(retry_after), _LONGEST_PATIENCE) if retry_after.isascii() and retry_after.isdigit() else None


def _post(url: str, body: bytes, headers: dict[str, str], *, allow_private: bool) -> tuple[int, Mapping[str, str]]:
    """The status and headers of the answer."""
    timeout = (CONNECT_SECONDS, READ_SECONDS)
    try:
        return addresses.post(url, body, headers, allow_private=allow_private, timeout=timeout, seconds=SENDER_SECONDS)
    except AddressRefused as exc:
        raise DeliveryFailed(f"The address was refused: {exc}") from exc
    except (requests.RequestException, HTTPError) as exc:
        # Only the type: the text of these errors repeats the address, and addresses of chat services hold tokens.
        raise DeliveryFailed(f"the receiver could not be reached ({type(exc).__name__})") from None
