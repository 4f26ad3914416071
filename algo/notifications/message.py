"""What a sender is handed: one message for one channel, and how it says that the message was not taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from algo.models import NotificationChannel, OutboxEvent, Severity


@dataclass(frozen=True, slots=True)
class Message:
    """One event, or many that became one message. `id` is the same at every try, so that a repetition can be told."""

    id: str
    channel: NotificationChannel
    events: tuple[OutboxEvent, ...]  # in the order they happened
    at: datetime  # platform time of this try

    @property
    def is_group(self) -> bool:
        return len(self.events) > 1

    @property
    def severity(self) -> Severity:
        """Of the event that matters most."""
        return Severity(max(event.severity for event in self.events))

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind, the most frequent first."""
        return dict(Counter(event.kind for event in self.events).most_common())


class DeliveryFailed(Exception):
    """The receiver did not take a message; it is tried again later. The text holds no secret and no address.

    `status` is what the receiver answered, None where it did not. `of_receiver` says that it would take no other
    message either (it is away, refuses everybody, asks for patience): the whole channel waits, for `retry_seconds`
    where it named a time. Else only this message, and what follows it in its deal.
    """

    def __init__(
        self, text: str, *, status: int | None = None, of_receiver: bool = True, retry_seconds: float | None = None
    ) -> None:
        super().__init__(text)
        self.status, self.of_receiver, self.retry_seconds = status, of_receiver, retry_seconds


# Sends one message, in wall time bounded by SENDER_SECONDS, and returns the receiver's status where it has any. Raises
# DeliveryFailed. Called outside any transaction, and again with the same message where the worker died meanwhile.
Sender = Callable[[Message], int | None]
SENDER_SECONDS = 15.0
