"""The signature of the Standard Webhooks scheme: of what we send, and of what is sent to us. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


def signature(body: bytes, *, event_id: str, timestamp: int | str, secret: str) -> str:
    """Base64 HMAC-SHA256 over `id.timestamp.body`, behind the scheme's version: `v1,…`."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def is_signed(body: bytes, *, event_id: str, timestamp: str, signatures: str, secret: str) -> bool:
    """Whether one of the `signatures`, with spaces between them, is that of `secret`. All are compared, each in a time
    that does not tell how much of it is right."""
    expected = signature(body, event_id=event_id, timestamp=timestamp, secret=secret).encode()
    return bool(sum(hmac.compare_digest(expected, each.encode()) for each in signatures.split(" ")))


def _key(secret: str) -> bytes:
    """The scheme's own secrets are base64 behind `whsec_`; any other text is taken as it is."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return secret.encode()
