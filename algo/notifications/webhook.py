"""Webhooks: signed JSON to one address of the operator's choice (WEBHOOK_URL, WEBHOOK_SECRET)."""

from __future__ import annotations

import base64
import hashlib
import hmac
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
from algo.notifications.addresses import AddressRefused, require_web_address, session
from algo.notifications.outbox import DeliveryFailed

BODY_VERSION = 1
CONNECT_SECONDS = READ_SECONDS = 5.0


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
        webhook_send(deal_data, url=settings.WEBHOOK_URL, secret=settings.WEBHOOK_SECRET, event_id=identity)


def event_send(event: OutboxEvent) -> None:
    """The outbox's sender: the event to WEBHOOK_URL; nothing to do, and so delivered, where none is configured."""
    if settings.WEBHOOK_URL:
        webhook_send(
            event.payload,
            url=settings.WEBHOOK_URL,
            secret=settings.WEBHOOK_SECRET,
            event_id=f"event_{event.pk}",
            kind=event.kind,
            created_at=event.created_at,
        )


def webhook_send(
    deal_data: Mapping[str, Any],
    *,
    url: str,
    secret: str,
    event_id: str = "",
    kind: str = "deal",
    created_at: datetime | None = None,
) -> None:
    """POST one signed event; returns once the receiver answered 2xx. Raises DeliveryFailed, without any secret.

    A receiver keeps `id` to recognise a repetition: delivery is at least once. Redirects are not followed. Private
    addresses are refused in live operation.
    """
    event_id = event_id or uuid.uuid4().hex
    body = webhook_body(deal_data, event_id=event_id, kind=kind, created_at=created_at)
    headers = {"Content-Type": "application/json", "User-Agent": "algo_trade-webhook/1"}
    headers |= webhook_headers(body, event_id=event_id, timestamp=int(time.time()), secret=secret)
    status = _post(url, body, headers)
    if not 200 <= status < 300:
        raise DeliveryFailed(f"the receiver answered {status}")


def webhook_body(deal_data: Mapping[str, Any], *, event_id: str, kind: str, created_at: datetime | None) -> bytes:
    """The JSON that is sent and signed. Decimals and times are text."""
    document = {"version": BODY_VERSION, "id": event_id, "type": kind, "created_at": created_at, "data": deal_data}
    return json.dumps(document, cls=DjangoJSONEncoder, separators=(",", ":")).encode()


def webhook_headers(body: bytes, *, event_id: str, timestamp: int, secret: str) -> dict[str, str]:
    """The signature as the Standard Webhooks scheme has it: base64 HMAC-SHA256 over `id.timestamp.body`.

    The wall clock's unix seconds are signed too, so that a receiver can refuse what is old.
    """
    signed = f"{event_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": event_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def _key(secret: str) -> bytes:
    """The scheme's own secrets are base64 behind `whsec_`; any other text is taken as it is."""
    return base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer; its body is not read."""
    allow_private = settings.DEBUG or settings.EXCHANGE_ENVIRONMENT == "paper"
    try:
        require_web_address(url, allow_private=allow_private)
        with (
            session(allow_private=allow_private) as http,
            http.post(
                url,
                data=body,
                headers=headers,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as answer,
        ):
            return answer.status_code
    except AddressRefused as exc:
        raise DeliveryFailed(f"WEBHOOK_URL was refused: {exc}") from exc
    except (requests.RequestException, HTTPError) as exc:
        # Only the type: the text of these errors repeats the address, and addresses of chat services hold tokens.
        raise DeliveryFailed(f"the receiver could not be reached ({type(exc).__name__})") from None
