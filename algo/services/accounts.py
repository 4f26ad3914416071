"""Writes of accounts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.contrib.auth.models import User

from algo.models import Account, Environment
from providers.interface import ExchangeProvider
from providers.types import Balance


def account_create(
    *,
    name: str,
    owner: User,
    environment: Environment,
    provider: ExchangeProvider,
    api_key: str,
    key_expires_at: datetime | None = None,
) -> tuple[Account, Mapping[str, Balance]]:
    """Store an account whose key the exchange accepts, and the balances that proved it.

    The exchange is asked first: raises `ProviderError` (AuthFailed for a wrong key) with nothing stored, and
    IntegrityError for a name that is taken.
    """
    balances = provider.balances()
    account = Account(
        name=name, owner=owner, provider=provider.name, environment=environment, key_expires_at=key_expires_at
    )
    account.set_api_key(api_key)
    account.save()
    return account, balances
