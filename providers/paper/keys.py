"""Keys of the paper exchange's accounts beyond "known or not": what they may do, from where, and until when."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from providers.paper.store import AnyStore

WALLEX, NOBITEX, NOBITEX_TOKEN = "wallex", "nobitex", "nobitex-token"  # kinds of keys, not secrets
PERMISSIONS = ("READ", "TRADE", "WITHDRAW", "DEPOSIT", "ADDRESS_BOOK", "OTP", "VIP_CREDIT")  # nobitex 3.2


@dataclass(slots=True)
class ApiKey:
    """One key. `id` is a public key (Nobitex), else the digest of a secret; no private half is ever kept."""

    kind: str
    id: str
    account: str
    permissions: frozenset[str]
    created_at: datetime
    updated_at: datetime
    name: str = ""
    description: str = ""
    addresses: tuple[str, ...] = ()  # empty: from anywhere
    expires_at: datetime | None = None
    is_disabled: bool = False

    def is_live(self, now: datetime) -> bool:
        return not self.is_disabled and (self.expires_at is None or now < self.expires_at)

    def may_come_from(self, address: str) -> bool:
        return not self.addresses or address in self.addresses

    def row(self) -> tuple[str, str, str, str]:
        facts = {
            "permissions": sorted(self.permissions), "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(), "name": self.name, "description": self.description,
            "addresses": self.addresses, "is_disabled": self.is_disabled,
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
        }  # fmt: skip
        return self.kind, self.id, self.account, json.dumps(facts)

    @classmethod
    def from_row(cls, kind: str, key_id: str, account: str, facts: str) -> ApiKey:
        row = json.loads(facts)
        return cls(
            kind, key_id, account, frozenset(row["permissions"]), datetime.fromisoformat(row["created_at"]),
            datetime.fromisoformat(row["updated_at"]), row["name"], row["description"], tuple(row["addresses"]),
            time_of(row["expires_at"]), row["is_disabled"],
        )  # fmt: skip


class KeyRing:
    """All keys, kept by the store. A key belongs to one account for ever."""

    def __init__(self, store: AnyStore) -> None:
        self._store = store
        self._keys = {(row[0], row[1]): ApiKey.from_row(*row) for row in store.api_keys()}

    def get(self, kind: str, key_id: str) -> ApiKey | None:
        return self._keys.get((kind, key_id))

    def of(self, kind: str, account: str) -> list[ApiKey]:
        """Oldest first."""
        found = [key for key in self._keys.values() if key.kind == kind and key.account == account]
        return sorted(found, key=lambda key: key.created_at)

    def put(self, key: ApiKey) -> ApiKey:
        """Add or replace. Raises `ValueError` for another account's key."""
        old = self.get(key.kind, key.id)
        if old is not None and old.account != key.account:
            raise ValueError("this key belongs to another account")
        self._keys[key.kind, key.id] = key
        self._store.save_key(key.row())
        return key

    def remove(self, key: ApiKey) -> None:
        self._keys.pop((key.kind, key.id), None)
        self._store.delete_key(key.kind, key.id)


def new_pair() -> tuple[str, str]:
    """(public key, private key) as Nobitex writes them: URL-safe Base64 of 32 bytes each (nobitex 3.2)."""
    private = Ed25519PrivateKey.generate()
    raw = private.public_key().public_bytes_raw(), private.private_bytes_raw()
    return base64.urlsafe_b64encode(raw[0]).decode(), base64.urlsafe_b64encode(raw[1]).decode()


def public_bytes(key: str) -> bytes:
    """The 32 bytes of a public key. Raises `ValueError`."""
    try:
        raw = base64.b64decode(key.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise ValueError("a public key is URL-safe Base64") from exc
    if len(raw) != 32:
        raise ValueError("a public key has 32 bytes")
    return raw


def permissions_of(text: str) -> frozenset[str]:
    """`READ,TRADE` as a set. Raises `ValueError` for none or an unknown one."""
    asked = frozenset(name.strip().upper() for name in text.split(",") if name.strip())
    if not asked or asked - set(PERMISSIONS):
        raise ValueError(f"permissions are one or more of {', '.join(PERMISSIONS)}")
    return asked


def addresses_of(rows: object) -> tuple[str, ...]:
    """A list of IP addresses. Raises `ValueError`."""
    if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes)):
        raise ValueError("a list of IP addresses is needed")  # noqa: TRY004 - what a caller sent
    return tuple(str(ip_address(str(row))) for row in rows)


def time_of(text: object) -> datetime | None:
    """ISO-8601, UTC where no zone is named; None for null. Raises `ValueError`."""
    if text is None:
        return None
    at = datetime.fromisoformat(str(text))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
