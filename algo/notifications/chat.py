"""Chat through Apprise: Telegram, Bale, Discord, Slack and others whose servers everybody knows.

An address of Apprise may name any host, file or program of this machine. Here it names a service out of a list whose
hosts are written in Apprise itself: nobody chooses where this machine connects to. Others an operator may allow
(NOTIFY_CHAT_SERVICES); who has a channel then reaches what they reach.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from algo.localised import reading
from algo.models import Severity
from algo.notifications.addresses import AddressRefused
from algo.notifications.message import DeliveryFailed, Message
from algo.notifications.texts import channel_reader, message_text

# Each posts to hosts that its class names; tests/notifications/test_chat.py looks at every one of them.
SERVICES = frozenset(
    [
        "bale",
        "bulksms",
        "chanify",
        "clickatell",
        "dingtalk",
        "discord",
        "feishu",
        "flock",
        "gchat",
        "groupme",
        "guilded",
        "ifttt",
        "ilert",
        "join",
        "kook",
        "lark",
        "line",
        "msgbird",
        "notifiarr",
        "octopush",
        "onesignal",
        "pagertree",
        "pbul",
        "plivo",
        "pover",
        "prowl",
        "push",
        "pushed",
        "pushme",
        "pushy",
        "revolt",
        "seven",
        "signl4",
        "simplepush",
        "slack",
        "spike",
        "splunk",
        "spush",
        "telnyx",
        "tgram",
        "threema",
        "viber",
        "vonage",
        "webex",
        "wecombot",
        "whapi",
        "whatsapp",
        "wxpusher",
        "wxteams",
        "zalo",
    ]
)
# Programs, sockets and files of this machine: never, whatever an operator allows.
LOCAL = frozenset(["blink1", "dbus", "glib", "gnome", "growl", "kde", "macosx", "qt", "rsyslog", "syslog", "windows"])
_NATIVE = ("https://discord.com/api/webhooks/", "https://hooks.slack.com/services/")  # as these services show them
_SCHEME = re.compile(r"([a-z0-9]{1,16})://", re.IGNORECASE)
_STATUS = re.compile(r"error[= ]+(\d{3})\b", re.IGNORECASE)
CONNECT_SECONDS, READ_SECONDS = 4.0, 8.0
_ABOUT_THE_MESSAGE = frozenset({400, 413, 422})
_KINDS = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}

# What Apprise logs may hold chat ids and answers: nothing of it goes anywhere but to `_overheard`.
_log = logging.getLogger("apprise")
_log.propagate = False
_log.addHandler(logging.NullHandler())


def allowed_services() -> frozenset[str]:
    return (SERVICES | frozenset(settings.NOTIFY_CHAT_SERVICES)) - LOCAL


def chat_service(target: str) -> Any:
    """The service that an address names, ready to send. Raises AddressRefused, which never repeats the address."""
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - a second of start-up that only chat needs
    from apprise.common import OverflowMode  # noqa: PLC0415

    from algo.notifications.bale import bale_register  # noqa: PLC0415

    _require_allowed(target)
    bale_register()
    asset = AppriseAsset(app_id="algo_trade", app_desc="algo_trade", app_url="", http_redirects=False)
    service = Apprise.instantiate(target, asset=asset, suppress_exceptions=True)
    if service is None:
        raise AddressRefused(_("This is no address that the chat service knows: see its setup in the documentation."))
    if len(service) > 1:
        raise AddressRefused(_("Name one chat for each channel."))
    # Options of an address must not switch these off.
    service.verify_certificate, service.redirects = True, False
    service.socket_connect_timeout, service.socket_read_timeout = CONNECT_SECONDS, READ_SECONDS
    service.overflow_mode = OverflowMode.TRUNCATE
    return service


def _require_allowed(target: str) -> None:
    found = _SCHEME.match(target)
    name = found[1].lower() if found else ""
    if target.startswith(_NATIVE) or name in allowed_services():
        return
    raise AddressRefused(
        _("An address of a chat begins with the name of its service, as tgram://, bale://, discord:// or slack://.")
        if not name
        else _("Messages to %(service)s:// are not sent from here.") % {"service": name}
    )


def chat_message_send(message: Message) -> int | None:
    """The sender of channels that are chats. Raises DeliveryFailed, SecretUnreadable."""
    try:
        service = chat_service(message.channel.target())
    except AddressRefused as exc:
        raise DeliveryFailed(_("The address was refused: %(why)s") % {"why": exc}) from exc
    with reading(channel_reader(message.channel)):
        text = message_text(message)
    with _overheard() as heard:
        done = service.notify(
            body=text.body or text.title, title=text.title, notify_type=_KINDS[message.severity], body_format="text"
        )
    if done:
        return None
    status = next(iter(heard), None)
    raise DeliveryFailed(
        _("%(service)s answered %(status)s") % {"service": service.service_name, "status": status}
        if status
        else _("%(service)s could not be reached, or did not take the message") % {"service": service.service_name},
        status=status,
        of_receiver=status not in _ABOUT_THE_MESSAGE,
    )


class _Statuses(logging.Handler):
    """Of what one thread logs, the statuses of answers; nothing else is kept."""

    def __init__(self, heard: list[int]) -> None:
        super().__init__(logging.WARNING)
        self._heard, self._thread = heard, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and (found := _STATUS.search(record.getMessage())):
            self._heard.append(int(found[1]))


@contextmanager
def _overheard() -> Iterator[list[int]]:
    """Apprise says yes or no; why not, it only logs."""
    heard: list[int] = []
    handler = _Statuses(heard)
    _log.addHandler(handler)
    try:
        yield heard
    finally:
        _log.removeHandler(handler)
