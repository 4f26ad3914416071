"""Fields shared by the models: exact amounts and sealed secrets."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from enum import StrEnum
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

# The default context keeps 28 digits: fewer than the database does.
_ALL_DIGITS = Context(prec=60)


class AmountField(models.DecimalField):
    """An exact amount, price or rate: NUMERIC(38, 18). Trailing zeros are dropped when it is read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_digits"], kwargs["decimal_places"] = 38, 18
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_digits"], kwargs["decimal_places"]
        return name, path, args, kwargs

    def from_db_value(self, value: Decimal | None, *_: Any) -> Decimal | None:
        return None if value is None else plain(value)


def plain(value: Decimal) -> Decimal:
    """`value` without trailing zeros and without an exponent: 50000.00 is 50000, not 5E+4."""
    value = value.normalize(_ALL_DIGITS)
    return value.quantize(Decimal(1), context=_ALL_DIGITS) if value == value.to_integral_value() else value


def choices(values: Iterable[StrEnum]) -> list[tuple[str, str]]:
    """Model choices of an enum: ("PARTIALLY_FILLED", "Partially filled")."""
    return [(value.value, value.value.replace("_", " ").capitalize()) for value in values]


class SecretUnreadable(Exception):
    """A sealed secret cannot be opened with the keys at hand."""


def seal(secret: str, *, owner: str) -> str:
    """Encrypt `secret` for one row. `owner` is bound in, so that a token copied to another row does not open."""
    return _fernet().encrypt(f"{owner}\n{secret}".encode()).decode()


def unseal(token: str, *, owner: str) -> str:
    """The secret sealed for `owner`. Raises SecretUnreadable, which never contains the secret."""
    try:
        bound_to, _, secret = _fernet().decrypt(token.encode()).decode().partition("\n")
    except InvalidToken:
        raise SecretUnreadable(
            "A stored secret cannot be decrypted with FIELD_ENCRYPTION_KEYS. Nothing was sent. Put the key it was "
            "encrypted with back into FIELD_ENCRYPTION_KEYS (after the newest one), or enter the secret again."
        ) from None
    if bound_to != owner:
        raise SecretUnreadable("A stored secret belongs to another row and was not used. Enter it again.")
    return secret


def reseal(token: str, *, owner: str) -> str | None:
    """The same secret sealed with the first of FIELD_ENCRYPTION_KEYS; None where it is already. Raises
    SecretUnreadable."""
    secret = unseal(token, owner=owner)
    try:
        Fernet(settings.FIELD_ENCRYPTION_KEYS[0]).decrypt(token.encode())
    except InvalidToken:
        return seal(secret, owner=owner)
    return None


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.FIELD_ENCRYPTION_KEYS])
