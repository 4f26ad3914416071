"""Who sends what: one sender for each type of channel."""

from __future__ import annotations

from collections.abc import Mapping

from algo.models import ChannelType
from algo.notifications.chat import chat_message_send
from algo.notifications.mail import mail_message_send
from algo.notifications.message import Sender
from algo.notifications.webhook import webhook_message_send

SENDERS: Mapping[str, Sender] = {
    ChannelType.WEBHOOK: webhook_message_send,
    ChannelType.EMAIL: mail_message_send,
    ChannelType.CHAT: chat_message_send,
}
