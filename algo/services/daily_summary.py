"""The summary of a day, once for each channel and local day, whoever restarts when."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum

from algo.models import Account, Deal, DealStatus, EventKind, NotificationChannel, Signal, Ticket
from algo.selectors.visible import accounts_visible
from algo.services.outbox import event_record

KEYS_AHEAD = timedelta(days=14)  # as far ahead as keys are warned of
LONGEST = timedelta(days=7)  # that one summary tells of, after the platform was down


def summaries_record(now: datetime) -> int:
    """Put the summaries that are due in the outbox, each for its channel alone. Returns how many.

    What was missed while the platform was down is in the next one: it reaches from the last summary on, and there is
    one for a local day.
    """
    wanted = NotificationChannel.objects.filter(is_enabled=True, daily_summary=True, owner__is_active=True)
    return sum(_record(pk, now) for pk in wanted.values_list("pk", flat=True))


def due_day(now: datetime, at: time, zone: str) -> tuple[date, datetime]:
    """The local day whose summary was due last at `now`, and when it was due (UTC)."""
    local = now.astimezone(ZoneInfo(zone))
    day = local.date()
    moment = datetime.combine(day, at, tzinfo=ZoneInfo(zone))
    if moment > local:
        day -= timedelta(days=1)
        moment = datetime.combine(day, at, tzinfo=ZoneInfo(zone))
    return day, moment.astimezone(UTC)


@transaction.atomic
def _record(channel_id: int, now: datetime) -> bool:
    """The day is marked in the transaction of the event: both are there, or neither."""
    rows = NotificationChannel.objects.filter(pk=channel_id, is_enabled=True, daily_summary=True)
    channel = rows.select_for_update(of=("self",), skip_locked=True).select_related("owner").first()
    if channel is None or channel.summary_at is None:
        return False
    day, due = due_day(now, channel.summary_at, channel.time_zone)
    told = channel.summary_told_on
    if (told is not None and told >= day) or (told is None and due <= channel.created_at):
        return False
    since = due - timedelta(days=1)
    if told is not None:
        last = datetime.combine(told, channel.summary_at, tzinfo=ZoneInfo(channel.time_zone)).astimezone(UTC)
        since = max(min(since, last), due - LONGEST)
    event_record(EventKind.DAILY_SUMMARY, summary_figures(channel, since, due, now), at=now, channel=channel)
    channel.summary_told_on = day
    channel.save(update_fields=["summary_told_on"])
    return True


def summary_figures(channel: NotificationChannel, since: datetime, until: datetime, now: datetime) -> dict[str, Any]:
    """What happened in [since, until) on the accounts the channel tells of, and what stands open now."""
    accounts = _accounts(channel)
    pks = accounts.values("pk")
    deals = Deal.objects.filter(account__in=pks)
    closed = deals.filter(status=DealStatus.CLOSED, closed_at__gte=since, closed_at__lt=until)
    counts = closed.aggregate(
        count=Count("pk"), won=Count("pk", filter=Q(profit__gt=0)), bare=Sum("unprotected_seconds")
    )
    profit = closed.order_by().values("market__quote").annotate(total=Sum("profit")).order_by("market__quote")
    denied = Signal.objects.exclude(denial_code="").filter(
        config__account__in=pks, created_at__gte=since, created_at__lt=until
    )
    by_code = denied.order_by().values("denial_code").annotate(times=Count("pk")).order_by("-times", "denial_code")
    return {
        "since": since,
        "until": until,
        "opened": deals.filter(opened_at__gte=since, opened_at__lt=until).count(),
        "closed": counts["count"],
        "profit": {row["market__quote"]: format(row["total"] or Decimal(0), "f") for row in profit},
        "win_rate_percent": round(100 * counts["won"] / counts["count"], 1) if counts["count"] else None,
        "unprotected_seconds": format(counts["bare"] or Decimal(0), "f"),
        "denials": {row["denial_code"]: row["times"] for row in by_code},
        "tickets": Ticket.objects.filter(account__in=pks, resolved_at=None).count(),
        "keys": [
            {"account": account.name, "expires_at": account.key_expires_at}
            for account in accounts.filter(key_expires_at__lte=now + KEYS_AHEAD).order_by("key_expires_at", "pk")
        ],
    }


def _accounts(channel: NotificationChannel) -> QuerySet[Account]:
    """Those its owner may see now; of these the chosen ones, where some were chosen."""
    seen = accounts_visible(channel.owner)
    chosen = channel.accounts.values_list("pk", flat=True)
    return seen.filter(pk__in=list(chosen)) if chosen else seen
