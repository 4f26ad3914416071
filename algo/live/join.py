"""What a process does that works beside others: spend from common call budgets.

Called by workers, web and commands when they start; never by the guardian, which must not need Redis.
"""

from __future__ import annotations

from django.conf import settings

from algo import exchanges
from algo.live.budgets import shared_budgets


def join_other_processes() -> None:
    """Count calls to the exchanges together with every other process."""
    exchanges.share_budgets(shared_budgets(settings.REDIS_URL))
