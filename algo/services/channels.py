"""What all that is done with notification channels shares: whose they are, their secrets, and the operator's own."""

from __future__ import annotations

import base64
import secrets
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from algo.models import ChannelType, NotificationChannel
from algo.services.audit import Actor
from algo.services.refused import Refused

SINGLE_PER_MINUTE = 600  # of a webhook, which gets each event alone
NO_RECEIVER = _("There is no receiver: set WEBHOOK_URL and WEBHOOK_SECRET, and start the platform again.")


class ChannelRefused(Refused):
    """Nothing was sent or changed."""


def must_be_theirs(channel: NotificationChannel, by: Actor) -> None:
    """Raises PermissionDenied for who neither owns it nor is an Admin. The operator's own is nobody's."""
    if by.may_administer() or (channel.owner_id is not None and channel.owner_id == by.user_id):
        return
    raise PermissionDenied(gettext("Only the owner of a channel, or an Admin, may do this. Nothing was changed."))


def new_secret() -> str:
    """A key that signs webhooks, as the Standard Webhooks scheme spells it. Show it once."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def operators_channel() -> NotificationChannel | None:
    """The channel of WEBHOOK_URL, made and switched with it; None where it never was set."""
    host = urlsplit(settings.WEBHOOK_URL).hostname or ""
    wanted: dict[str, Any] = {"is_enabled": bool(settings.WEBHOOK_URL), "target_hint": host[:120]}
    found = NotificationChannel.objects.filter(owner=None, type=ChannelType.WEBHOOK).first()
    if found is None:
        if not settings.WEBHOOK_URL:
            return None
        fixed = {"name": "WEBHOOK_URL", "groups": False, "most_per_minute": SINGLE_PER_MINUTE}
        return NotificationChannel.objects.get_or_create(
            owner=None, type=ChannelType.WEBHOOK, defaults={**fixed, **wanted}
        )[0]
    changed = {name: value for name, value in wanted.items() if getattr(found, name) != value}
    if changed:
        NotificationChannel.objects.filter(pk=found.pk).update(**changed)
        for name, value in changed.items():
            setattr(found, name, value)
    return found
