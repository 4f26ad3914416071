"""What people do with their channels: make, change, delete. Addresses and secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.translation import gettext as _

from algo.models import ChannelType, NotificationChannel
from algo.models.event_kinds import CHOOSABLE
from algo.models.preference import zone_known
from algo.notifications.addresses import AddressRefused, require_web_address
from algo.notifications.chat import chat_service
from algo.notifications.mail import is_mail_set
from algo.notifications.webhook import private_allowed
from algo.selectors.rights import role_of
from algo.selectors.visible import accounts_visible, strategies_visible
from algo.services.audit import Actor, audit_record
from algo.services.channels import SINGLE_PER_MINUTE, ChannelRefused, must_be_theirs, new_secret
from algo.services.refused import name_once

PEOPLE_SET = (
    "name",
    "is_enabled",
    "kinds",
    "minimum_severity",
    "quiet_from",
    "quiet_to",
    "quiet_rule",
    "time_zone",
    "language",
    "groups",
    "most_per_minute",
    "daily_summary",
    "summary_at",
)
MOST_CHANNELS = 20  # of one person
_SEALED = ("target_sealed", "target_hint", "secret_sealed")


@transaction.atomic
def channel_create(
    channel_type: str, target: str, values: Mapping[str, Any], *, owner: Any, by: Actor, at: datetime
) -> tuple[NotificationChannel, str]:
    """A channel of `owner`, and the secret that signs it where it is a webhook, which nobody can be told again. Of
    `values` those of PEOPLE_SET, `accounts` and `strategies` count. Raises ChannelRefused, PermissionDenied."""
    if by.user_id != owner.pk:
        by.must_administer()
    if role_of(owner) is None:
        raise PermissionDenied(_("Who has no role sees no account, and needs no channel. Nothing was changed."))
    if NotificationChannel.objects.filter(owner=owner).count() >= MOST_CHANNELS:
        raise ChannelRefused(
            _("There are %(most)d channels already: delete one first. Nothing was changed.") % {"most": MOST_CHANNELS}
        )
    channel = NotificationChannel(owner=owner, type=channel_type)
    if channel_type == ChannelType.WEBHOOK:
        channel.groups, channel.most_per_minute = False, SINGLE_PER_MINUTE
    _set(channel, values)
    secret = new_secret() if channel_type == ChannelType.WEBHOOK else ""
    clean, hint = target_clean(channel_type, target)
    channel.set_target(clean, hint=hint)
    if secret:
        channel.set_secret(secret)
    with name_once(NotificationChannel.objects.filter(owner=owner), channel.name, _taken(channel.name)):
        channel.save()
    _choose(channel, values)
    _audit("channel.create", channel, by, at, sorted(values))
    return channel, secret


@transaction.atomic
def channel_update(
    channel: NotificationChannel, values: Mapping[str, Any], *, by: Actor, at: datetime, target: str = ""
) -> list[str]:
    """Set those of `values` that differ, and the address where one is given. Returns what changed. Raises as above."""
    row = _locked(channel, by)
    before = {name: getattr(row, name) for name in PEOPLE_SET}
    _set(row, values)
    changed = [name for name, value in before.items() if getattr(row, name) != value]
    if target:
        clean, hint = target_clean(row.type, target)
        row.set_target(clean, hint=hint)
        changed += ["target"]
    columns = [name for name in changed if name != "target"] + (list(_SEALED) if target else [])
    if columns:
        if target or ("is_enabled" in changed and row.is_enabled):
            row.failures, row.retry_at = 0, None
            columns += ["failures", "retry_at"]
        with name_once(NotificationChannel.objects.filter(owner=row.owner), row.name, _taken(row.name)):
            row.save(update_fields=columns)
    changed += _choose(row, values)
    if changed:
        _audit("channel.change", row, by, at, changed)
    return changed


@transaction.atomic
def channel_secret_renew(channel: NotificationChannel, *, by: Actor, at: datetime) -> str:
    """Another key that signs a webhook; the one before signs nothing any more. Told once. Raises ChannelRefused."""
    row = _locked(channel, by)
    if row.type != ChannelType.WEBHOOK:
        raise ChannelRefused(_("Only webhooks are signed. Nothing was changed."))
    secret = new_secret()
    row.set_secret(secret)
    row.save(update_fields=["secret_sealed"])
    _audit("channel.secret", row, by, at, ["secret"])
    return secret


@transaction.atomic
def channel_delete(channel: NotificationChannel, *, by: Actor, at: datetime) -> None:
    """With what waits for it. Raises as above."""
    row = _locked(channel, by)
    _audit("channel.delete", row, by, at, [])
    row.delete()


def target_clean(channel_type: str, target: str) -> tuple[str, str]:
    """The address as it is kept, and what of it may be shown. Raises ChannelRefused."""
    target = target.strip()
    try:
        match channel_type:
            case ChannelType.WEBHOOK:
                require_web_address(target, allow_private=private_allowed(is_operators=False))
                return target, urlsplit(target).hostname or ""
            case ChannelType.EMAIL:
                return _mail_clean(target)
            case _:
                return target, str(chat_service(target).service_name)
    except AddressRefused as exc:
        raise ChannelRefused(str(exc)[:1].upper() + str(exc)[1:], "target") from exc


def _mail_clean(target: str) -> tuple[str, str]:
    if not is_mail_set():
        raise ChannelRefused(_("No mail server is set (EMAIL_URL): ask the operator. Nothing was changed."))
    try:
        validate_email(target)
    except ValidationError as exc:
        raise ChannelRefused(_("This is no e-mail address."), "target") from exc
    name, _at, host = target.rpartition("@")
    return target, f"{name[:1]}…@{host}"


def _set(channel: NotificationChannel, values: Mapping[str, Any]) -> None:
    for name in PEOPLE_SET:
        if name in values:
            setattr(channel, name, values[name])
    if unknown := set(channel.kinds) - {kind for kind, _label in CHOOSABLE}:
        raise ChannelRefused(_("There are no such events: %(names)s.") % {"names": ", ".join(sorted(unknown))}, "kinds")
    if (channel.quiet_from is None) != (channel.quiet_to is None):
        raise ChannelRefused(_("Quiet hours have a beginning and an end, or neither."), "quiet_to")
    if channel.daily_summary and channel.summary_at is None:
        raise ChannelRefused(_("Say at what time of its zone the summary is to come."), "summary_at")
    if not 1 <= channel.most_per_minute <= SINGLE_PER_MINUTE:
        raise ChannelRefused(_("From 1 to %(most)d.") % {"most": SINGLE_PER_MINUTE}, "most_per_minute")
    try:
        zone_known(channel.time_zone)
    except ValidationError as exc:
        raise ChannelRefused(" ".join(exc.messages), "time_zone") from exc


def _choose(channel: NotificationChannel, values: Mapping[str, Any]) -> list[str]:
    """Accounts and strategies it is about: of those its owner may see."""
    changed = []
    for name, seen in (("accounts", accounts_visible), ("strategies", strategies_visible)):
        if name not in values:
            continue
        wanted = {row.pk for row in values[name]}
        if wanted - set(seen(channel.owner).filter(pk__in=wanted).values_list("pk", flat=True)):
            raise ChannelRefused(_("Not all of them are its owner's to see. Nothing was changed."), name)
        if wanted != set(getattr(channel, name).values_list("pk", flat=True)):
            getattr(channel, name).set(wanted)
            changed.append(name)
    return changed


def _locked(channel: NotificationChannel, by: Actor) -> NotificationChannel:
    row = NotificationChannel.objects.select_for_update(of=("self",)).select_related("owner").get(pk=channel.pk)
    if row.owner_id is None:
        by.must_administer()
        raise ChannelRefused(
            _("This is the channel of WEBHOOK_URL: it is set in the environment. Nothing was changed.")
        )
    must_be_theirs(row, by)
    return row


def _audit(act: str, channel: NotificationChannel, by: Actor, at: datetime, fields: list[str]) -> None:
    details = {"type": channel.type, "target": channel.target_hint, "owner": str(channel.owner), "fields": fields}
    audit_record(act, by=by, subject=channel, at=at, details=details)


def _taken(name: str) -> ChannelRefused:
    return ChannelRefused(_("Another channel is called %(name)s: choose another name.") % {"name": name}, "name")
