"""Names of our orders: the same intent always gets the same client order id, in whatever process it is minted."""

from __future__ import annotations

import base64
import hashlib

PREFIXES = {"live": "T1", "paper": "P1"}


def client_order_id(environment: str, *parts: object) -> str:
    """26 characters of `[A-Z0-9]`, valid at both exchanges, a pure function of the intent's key. Paper and live differ
    in the prefix, so that one can never be taken for the other."""
    digest = hashlib.blake2s("|".join(map(str, parts)).encode(), digest_size=15).digest()
    return PREFIXES[environment] + base64.b32encode(digest).decode()


def is_ours(client_order_id: str | None) -> bool:
    """Whether an order at the exchange carries one of our names."""
    return client_order_id is not None and len(client_order_id) == 26 and client_order_id[:2] in PREFIXES.values()
