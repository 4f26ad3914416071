"""What became of an event stands in its deliveries, one for each channel; so far there was the operator's alone.

What was delivered or given up becomes a delivery of that channel; what waits gets its deliveries at the next tick.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import migrations
from django.db.models import F, Q

MOST_ATTEMPTS = 30  # after which an event was given up


def move(apps, schema_editor) -> None:
    OutboxEvent, Delivery = apps.get_model("algo", "OutboxEvent"), apps.get_model("algo", "Delivery")
    Channel = apps.get_model("algo", "NotificationChannel")
    ended = OutboxEvent.objects.filter(Q(delivered_at__isnull=False) | Q(attempts__gte=MOST_ATTEMPTS))
    if settings.WEBHOOK_URL and ended.exists():  # without a receiver events only counted as delivered
        channel, _ = Channel.objects.get_or_create(
            owner=None,
            type="webhook",
            defaults={"name": "WEBHOOK_URL", "groups": False, "most_per_minute": 600},
        )
        rows = (
            Delivery(
                event=event,
                channel=channel,
                state="given_up" if event.delivered_at is None else "delivered",
                created_at=event.created_at,
                attempts=event.attempts,
                next_attempt_at=event.created_at,
                expires_at=event.created_at + timedelta(days=1),
                last_error=event.last_error,
                delivered_at=event.delivered_at,
            )
            for event in ended.iterator()
        )
        Delivery.objects.bulk_create(rows, batch_size=1000)
    ended.update(fanned_out_at=F("created_at"))
    schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # the tables are altered in this very transaction


class Migration(migrations.Migration):
    dependencies = [("algo", "0024_preferences")]

    operations = [
        migrations.RunPython(move, migrations.RunPython.noop),
        migrations.RemoveField("outboxevent", "delivered_at"),
        migrations.RemoveField("outboxevent", "attempts"),
        migrations.RemoveField("outboxevent", "next_attempt_at"),
        migrations.RemoveField("outboxevent", "last_error"),
    ]
