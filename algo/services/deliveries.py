"""What people do with deliveries: a test of a channel, and one more try."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from algo.models import Delivery, DeliveryState, EventKind, NotificationChannel
from algo.services.audit import Actor, audit_record
from algo.services.channels import ChannelRefused, must_be_theirs
from algo.services.fan_out import RETRIED_FOR, delivery_of
from algo.services.outbox import event_record


@transaction.atomic
def channel_test(channel: NotificationChannel, *, by: Actor, at: datetime, speed: float = 1.0) -> Delivery:
    """An event that says nothing, for this channel alone, on the way of all others. Raises ChannelRefused where the
    channel is switched off, PermissionDenied for who neither owns it nor is an Admin."""
    must_be_theirs(channel, by)
    _must_be_on(channel)
    payload = {"by": by.name, "text": "This is a test. Nothing happened."}
    event = event_record(EventKind.TEST, payload, at=at, channel=channel)
    delivery = delivery_of(event, channel, at, speed=speed)
    delivery.save()
    event.fanned_out_at = at
    event.save(update_fields=["fanned_out_at"])
    NotificationChannel.objects.filter(pk=channel.pk).update(retry_at=None)
    audit_record("channel.test", by=by, subject=channel, at=at)
    return delivery


@transaction.atomic
def delivery_redeliver(delivery: Delivery, *, by: Actor, at: datetime, speed: float = 1.0) -> bool:
    """Send one event once more, alone, with a whole day of tries, under the event's id. False where it waits and is due
    already. Raises as `channel_test`."""
    row = Delivery.objects.select_for_update(of=("self",)).select_related("channel").get(pk=delivery.pk)
    must_be_theirs(row.channel, by)
    _must_be_on(row.channel)
    if row.state == DeliveryState.WAITING and row.next_attempt_at <= at:
        return False
    row.state, row.delivered_at, row.attempts = DeliveryState.WAITING, None, 0
    row.last_error, row.status_code = "", None
    row.next_attempt_at, row.expires_at, row.group_key = at, at + RETRIED_FOR * speed, ""
    row.save()
    NotificationChannel.objects.filter(pk=row.channel_id).update(retry_at=None)
    audit_record("webhook.redeliver", by=by, subject=row, at=at, details={"channel": row.channel.name})
    return True


def _must_be_on(channel: NotificationChannel) -> None:
    if not channel.is_enabled:
        raise ChannelRefused(
            _("The channel %(name)s is switched off, nothing was sent. Switch it on first.") % {"name": channel.name}
        )
