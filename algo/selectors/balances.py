"""What an account held when it was last read, and whether that still says what it may spend."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Q

from algo.models import Account, Order
from providers.types import Balance, OrderStatus

LONGEST_PENDING = timedelta(hours=1)  # an order planned longer ago was sent long ago, or never will be


def balances_kept(account: Account) -> dict[str, Balance]:
    """The last reading that is on the row, by asset."""
    return {asset: Balance(asset, Decimal(total), Decimal(lock)) for asset, (total, lock) in account.balances.items()}


def balances_unspent(account: Account, now: datetime, max_age: timedelta) -> dict[str, Balance] | None:
    """The last reading where it is at most `max_age` old and no order of ours can have spent of it: none was sent since
    it was read, and none is about to be. None otherwise, and for one from the future."""
    read_at = account.balances_read_at
    if read_at is None or not timedelta(0) <= now - read_at <= max_age:
        return None
    about_to_be_sent = Q(status__in=(OrderStatus.PENDING, OrderStatus.SUBMITTED))
    sent_since = Q(created_at__gte=read_at - LONGEST_PENDING, submitted_at__gte=read_at)
    if Order.objects.filter(about_to_be_sent | sent_since, account=account).exists():
        return None
    return balances_kept(account)
