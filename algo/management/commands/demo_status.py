"""manage.py demo_status: what the demonstration has proven so far, compared with the paper exchange's own ledger."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any

import requests
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q, Sum

from algo.exchanges import CLOCK
from algo.management.commands.seed_demo import demo_account
from algo.models import Account, CloseReason, Deal, DealStatus, Fill, Order
from algo.selectors.audit import ledger_difference
from algo.selectors.health import stream_health
from providers.types import ZERO

BY_PROTECTION = (CloseReason.STOP_LOSS, CloseReason.TAKE_PROFIT, CloseReason.TRAILING_STOP)


class Command(BaseCommand):
    help = "Deals, orders, fills, unprotected seconds, and the difference to the paper exchange's ledger."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        status = self._status()
        if options["json"]:
            self.stdout.write(json.dumps(status))
            return
        for name, value in status.items():
            self.stdout.write(f"{name.replace('_', ' '):22} {value}")

    def _status(self) -> dict[str, Any]:
        opened = Deal.objects.filter(opened_at__isnull=False)
        closed = opened.filter(status=DealStatus.CLOSED)
        reasons = Counter(closed.values_list("close_reason", flat=True))
        by_protection = sum(reasons[reason] for reason in BY_PROTECTION)
        return {
            "deals_opened": opened.count(),
            "deals_closed": closed.count(),
            "closed_protected": by_protection,
            "closed_by": dict(reasons),
            "opened_with_stop": _stop_confirmed().exists(),
            "orders": Order.objects.count(),
            "fills": Fill.objects.count(),
            "unprotected_seconds": format(opened.aggregate(total=Sum("unprotected_seconds"))["total"] or ZERO, "f"),
            "ledger_difference": format(self._difference(), "f"),
            "streams": {each.name: each.is_up for each in stream_health(CLOCK.now(), speed=CLOCK.speed)},
        }

    def _difference(self) -> Decimal:
        venues = self._truth()["venues"]
        names = [demo_account(provider) for provider in venues]  # other accounts have wallets of their own
        accounts = Account.objects.filter(environment="paper", name__in=names)
        return sum((ledger_difference(account, venues[account.provider]) for account in accounts), ZERO)

    def _truth(self) -> dict[str, Any]:
        if not settings.PAPER_URL:
            raise CommandError("There is no paper exchange to compare with: PAPER_URL is not set. Start ./run first.")
        url = f"{settings.PAPER_URL}/paper/accounts/demo"
        try:
            response = requests.get(url, headers={"x-paper-control": settings.PAPER_CONTROL_TOKEN}, timeout=5)
            response.raise_for_status()
        except requests.RequestException as exc:
            raise CommandError(f"The paper exchange did not answer: {exc}. Is ./run up?") from exc
        answer: dict[str, Any] = response.json()
        return answer


def _stop_confirmed() -> Any:
    """Deals of which a stop was accepted by the exchange and read back."""
    return Deal.objects.filter(
        Q(orders__role="STOP", orders__accepted_at__isnull=False, orders__checked_at__isnull=False),
        opened_at__isnull=False,
    )
