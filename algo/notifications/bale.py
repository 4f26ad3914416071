"""Bale for Apprise, which has no service of that name: its bot API takes what Telegram's takes, at a host of its own
(https://docs.bale.ai). A text to one chat; nothing else is needed here.
"""

from __future__ import annotations

import re
from typing import Any

import requests
from apprise import NotifyType
from apprise.manager_plugins import NotificationManager
from apprise.plugins.base import NotifyBase

_ADDRESS = re.compile(r"bale://(?P<token>[0-9]+:[A-Za-z0-9_-]+)/(?P<chat>@?[A-Za-z0-9_-]+)/?")


class NotifyBale(NotifyBase):
    """`bale://<bot token>/<chat id>`."""

    service_name = "Bale"
    service_url = "https://bale.ai"
    setup_url = "https://docs.bale.ai"
    secure_protocol = "bale"
    notify_url = "https://tapi.bale.ai/bot"
    title_maxlen = 0  # it goes into the text
    body_maxlen = 4096
    templates = ("{schema}://{bot_token}/{chat}",)
    template_tokens = {
        "bot_token": {"name": "Bot Token", "type": "string", "private": True, "required": True},
        "chat": {"name": "Chat ID", "type": "string", "required": True},
    }

    def __init__(self, bot_token: str, chat: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bot_token, self.chat = bot_token, chat

    def send(self, body: str, title: str = "", notify_type: NotifyType = NotifyType.INFO, **kwargs: Any) -> bool:
        self.throttle()
        try:
            answer = requests.post(
                f"{self.notify_url}{self.bot_token}/sendMessage",
                json={"chat_id": self.chat, "text": body},
                timeout=self.request_timeout,
                verify=self.verify_certificate,
                allow_redirects=self.redirects,
            )
        except requests.RequestException as exc:
            self.logger.warning("Bale could not be reached (%s)", type(exc).__name__)
            return False
        if answer.status_code != requests.codes.ok:
            self.logger.warning("Bale refused the message: error=%d.", answer.status_code)
        return bool(answer.status_code == requests.codes.ok)

    def url(self, privacy: bool = False, *args: Any, **kwargs: Any) -> str:
        return f"bale://{self.pprint(self.bot_token, privacy, safe='')}/{self.chat}/"

    @staticmethod
    def parse_url(url: str) -> dict[str, Any] | None:
        found = _ADDRESS.fullmatch(url.partition("?")[0])
        return found and {"schema": "bale", "bot_token": found["token"], "chat": found["chat"]}


def bale_register() -> None:
    """Let Apprise know it; safe to repeat."""
    services = NotificationManager()
    if "bale" not in services:
        services.add(NotifyBale, schemas="bale")
