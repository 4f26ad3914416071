"""What the platform tells people: every kind of event, what it is called, how much it matters, and to whom."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Severity(models.IntegerChoices):
    """How much an event matters. A critical one is about money at risk now, and comes through quiet hours."""

    INFO = 10, _("Everything")
    WARNING = 20, _("Warnings and critical events")
    CRITICAL = 30, _("Critical events only")


class EventKind(models.TextChoices):
    """The kinds, as they stand in the outbox and in the field `type` of a webhook. A name once given stays."""

    DEAL_OPENED = "deal.opened", _("Deal opened")
    DEAL_CLOSED = "deal.closed", _("Deal closed")
    DEAL_REOPENED = "deal.reopened", _("Deal reopened")
    STOP_MOVED = "stop.moved", _("Stop moved")
    PROTECTION_LOST = "protection.lost", _("Protection lost")
    PROTECTION_RESTORED = "protection.restored", _("Protection restored")
    DENIED_OFTEN = "strategy.denied_often", _("A strategy is denied often")
    STRATEGY_STOPPED = "strategy.stopped", _("Strategy stopped")
    LIMIT_REACHED = "limit.reached", _("A limit of the day is reached")
    KEY_EXPIRING = "account.key_expiring", _("An API key ends soon")
    KEY_EXPIRED = "account.key_expired", _("An API key has ended")
    ACCOUNT_STOPPED = "account.stopped", _("Account stopped")
    ACCOUNT_PAUSED = "account.paused", _("Account paused")
    ACCOUNT_ACTIVATED = "account.activated", _("Account activated")
    ACCOUNT_FAILING = "account.failing", _("An account cannot be looked after")
    ACCOUNT_FLAT = "account.flat", _("Account proved flat")
    ACCOUNT_NOT_FLAT = "account.not_flat", _("Account is not flat any more")
    EXCHANGE_DOWN = "exchange.down", _("An exchange does not answer")
    EXCHANGE_UP = "exchange.up", _("An exchange answers again")
    KILL_SWITCH = "kill_switch.changed", _("Kill switch turned")
    TICKET_OPENED = "ticket.opened", _("Ticket opened")
    TICKET_ANSWERED = "ticket.answered", _("Ticket answered")
    TICKET_RESOLVED = "ticket.resolved", _("Ticket resolved")
    TICKET_REFUSED = "ticket.refused", _("The answer to a ticket could not be carried out")
    GUARDIAN_EVICTED = "guardian.evicted", _("A silent guardian was replaced")
    SIGN_IN_LOCKED = "sign_in.locked", _("Wrong passwords locked a sign-in")
    TEST = "webhook.test", _("Test")
    DAILY_SUMMARY = "summary.daily", _("Daily summary")


# What a kind matters where `event_record` is not told otherwise. What is in neither is for information.
_WARNINGS = {
    EventKind.DEAL_REOPENED,
    EventKind.DENIED_OFTEN,
    EventKind.STRATEGY_STOPPED,
    EventKind.LIMIT_REACHED,
    EventKind.KEY_EXPIRING,
    EventKind.ACCOUNT_PAUSED,
    EventKind.ACCOUNT_NOT_FLAT,
    EventKind.EXCHANGE_DOWN,
    EventKind.TICKET_OPENED,
    EventKind.TICKET_REFUSED,
    EventKind.GUARDIAN_EVICTED,
    EventKind.SIGN_IN_LOCKED,
}
_CRITICAL = {
    EventKind.PROTECTION_LOST,
    EventKind.KEY_EXPIRED,
    EventKind.ACCOUNT_STOPPED,
    EventKind.ACCOUNT_FAILING,
    EventKind.KILL_SWITCH,
}
# Events that belong to no account: these are everybody's, all others an Admin's alone.
OF_EVERYBODY = frozenset({EventKind.EXCHANGE_DOWN, EventKind.EXCHANGE_UP, EventKind.KILL_SWITCH})
# Said to one channel only, and never chosen: somebody asked for them there.
OF_ONE_CHANNEL = frozenset({EventKind.TEST, EventKind.DAILY_SUMMARY})
# What a person may choose for a channel.
CHOOSABLE = [(kind.value, kind.label) for kind in EventKind if kind not in OF_ONE_CHANNEL]


def severity_of(kind: EventKind) -> Severity:
    if kind in _CRITICAL:
        return Severity.CRITICAL
    return Severity.WARNING if kind in _WARNINGS else Severity.INFO
