"""Is it really from who has the secret? A signature in the headers, or, for senders that can neither sign nor set a
header (TradingView), the secret in the body. Compared in a time that tells nothing.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from algo.standard_webhooks import ID, SIGNATURE, TIMESTAMP, is_signed


class NotProven(Exception):
    """Unknown address, revoked key, wrong secret, wrong signature: all the same to who asks."""


def signed_at(headers: Mapping[str, str]) -> datetime | None:
    """When it was signed, as the headers say; None where they do not."""
    text = headers.get(TIMESTAMP, "")
    return datetime.fromtimestamp(int(text), UTC) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def proof_demand(body: bytes, headers: Mapping[str, str], secret: str) -> None:
    """Raises NotProven unless `body` is signed with `secret`, or holds it. A wrong signature is not healed by a right
    secret in the body. `headers` have names in lower case."""
    if SIGNATURE in headers:
        proven = signed_at(headers) is not None and is_signed(
            body,
            event_id=headers.get(ID, ""),
            timestamp=headers[TIMESTAMP],
            signatures=headers[SIGNATURE],
            secret=secret,
        )
    else:
        proven = hmac.compare_digest(_secret_in(body).encode(), secret.encode())
    if not proven:
        raise NotProven


def _secret_in(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    found = document.get("secret") if isinstance(document, dict) else None
    return found.encode(errors="replace").decode() if isinstance(found, str) else ""
