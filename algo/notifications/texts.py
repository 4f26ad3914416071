"""What is said about events, in words: each kind as a title and its lines, several as a summary of them.

Written for the active `Reader` (`algo.localised.reading`): language, calendar, digits and zone. Payloads are read
leniently, for an event may be older than the code that reads it: what is not there is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from algo.localised import Reader, duration, isolated, moment, money, number, percent
from algo.models import CloseReason, EventKind, KillSwitch, NotificationChannel, OutboxEvent, TicketAnswer, TicketKind
from algo.notifications.message import Message
from algo.selectors.preferences import preference_of, reader_from, reader_of_language

MOST_LISTED = 20  # events of a group that are named one by one


@dataclass(frozen=True, slots=True)
class Text:
    """A title of one line, and the lines below it."""

    title: str
    lines: tuple[str, ...] = ()

    @property
    def body(self) -> str:
        return "\n".join(self.lines)


def channel_reader(channel: NotificationChannel) -> Reader:
    """Who reads a channel: in its language and zone; calendar and digits are its owner's, where they chose some."""
    usual = reader_of_language(channel.language)
    if channel.owner is not None:
        chosen = preference_of(channel.owner)
        usual = reader_from(type(chosen)(calendar=chosen.calendar, digits=chosen.digits), channel.language)
    return Reader(usual.language, usual.calendar, usual.digits, ZoneInfo(channel.time_zone))


def message_text(message: Message) -> Text:
    """One event whole; of several, how many there are of each kind, then each in a line."""
    return group_text(message) if message.is_group else event_text(message.events[0])


def event_text(event: OutboxEvent) -> Text:
    label, payload = str(event.title), event.payload
    said = _OF_KIND.get(event.kind, _anything)
    about = _about(payload)
    title = f"{label}: {about}" if about else label
    lines = [line for line in said(payload) if line]
    if event.kind != EventKind.DAILY_SUMMARY:
        lines.append(moment(event.created_at))
    return Text(title, tuple(lines))


def group_text(message: Message) -> Text:
    """“12 events: 9 denials, 3 deals closed”."""
    counted = [
        _("%(count)s × %(kind)s") % {"count": number(count), "kind": _label(kind)}
        for kind, count in message.counts.items()
    ]
    total = len(message.events)
    title = ngettext("%(count)s event", "%(count)s events", total) % {"count": number(total)}
    listed = [_one_line(event) for event in message.events[:MOST_LISTED]]
    if (more := total - len(listed)) > 0:
        listed.append(ngettext("and %(count)s more", "and %(count)s more", more) % {"count": number(more)})
    return Text(f"{title}: {_and(counted)}", tuple(listed))


def _one_line(event: OutboxEvent) -> str:
    text = event_text(event)
    told = next(iter(text.lines[:-1]), "")
    return f"• {text.title}" + (f" – {told}" if told else "")


def _label(kind: str) -> str:
    return str(EventKind(kind).label) if kind in EventKind.values else kind


def _and(words: list[str]) -> str:
    return _(", ").join(words)


def _about(payload: Mapping[str, Any]) -> str:
    """Of which deal, strategy or account: the narrowest that is named."""
    if payload.get("market"):
        return isolated(f"{payload['market']} {payload.get('side', '')}".strip())
    return next((isolated(payload[name]) for name in ("strategy", "account", "exchange") if payload.get(name)), "")


# --- the kinds ------------------------------------------------------------------------------------------------------


def _deal_opened(told: Mapping[str, Any]) -> Iterator[str]:
    yield _("Bought or sold %(quantity)s at %(price)s.") % {
        "quantity": _amount(told, "entry_quantity"),
        "price": _price(told, "entry_price"),
    }
    yield _("Stop %(stop)s, target %(target)s.") % {
        "stop": _price(told, "stop_price"),
        "target": _price(told, "target_price"),
    }
    yield from _whose(told)


def _deal_closed(told: Mapping[str, Any]) -> Iterator[str]:
    yield _("Profit after fees: %(profit)s.") % {"profit": _price(told, "profit")}
    yield _("From %(entry)s to %(exit)s: %(reason)s.") % {
        "entry": _price(told, "entry_price"),
        "exit": _price(told, "exit_price"),
        "reason": _choice(CloseReason, told.get("close_reason")),
    }
    yield _unprotected(told)
    yield from _whose(told)


def _stop_moved(told: Mapping[str, Any]) -> Iterator[str]:
    yield _("The stop stands at %(stop)s now.") % {"stop": _price(told, "stop_price")}
    yield from _whose(told)


def _protection(told: Mapping[str, Any]) -> Iterator[str]:
    if since := _time(told.get("since")):
        yield _("Some of the position is under no stop since %(since)s.") % {"since": moment(since)}
    if until := _time(told.get("until")):
        yield _("It was protected again at %(until)s.") % {"until": moment(until)}
    yield _unprotected(told)
    yield from _whose(told)


def _denied_often(told: Mapping[str, Any]) -> Iterator[str]:
    if told.get("times"):
        yield _("%(times)s signals were denied within %(minutes)s minutes.") % {
            "times": number(told["times"]),
            "minutes": number(told.get("minutes") or 0),
        }
    yield _counts(told.get("codes"))
    yield from _whose(told)


def _limit(told: Mapping[str, Any]) -> Iterator[str]:
    if told.get("limit"):
        yield _("The limit %(limit)s denies entries until the trading day ends.") % {"limit": isolated(told["limit"])}
    yield str(told.get("message") or "")
    yield from _whose(told)


def _key(told: Mapping[str, Any]) -> Iterator[str]:
    if ends := _time(told.get("expires_at")):
        yield _("Ends at %(at)s.") % {"at": moment(ends)}
    yield _(
        "Make a new key at the exchange and enter it on the account's page. In its last day it opens no position; "
        "after it nothing can be done at the exchange, exits included."
    )


def _account(told: Mapping[str, Any]) -> Iterator[str]:
    yield _said("reason", told)
    yield _by(told)
    if told.get("failures"):
        yield _("It failed %(count)s times in a row (%(error)s). What rests at the exchange stays there.") % {
            "count": number(told["failures"]),
            "error": isolated(told.get("error", "")),
        }
    yield _said("proof", told)


def _exchange(told: Mapping[str, Any]) -> Iterator[str]:
    if since := _time(told.get("since")):
        yield _("Since %(since)s.") % {"since": moment(since)}
    yield _("Stops that rest at the exchange stay there.")


def _kill_switch(told: Mapping[str, Any]) -> Iterator[str]:
    yield _("%(scope)s: %(to)s.") % {
        "scope": isolated(told.get("scope") or ""),
        "to": _choice(KillSwitch, told.get("to")),
    }
    yield _said("reason", told)
    yield _by(told)


def _ticket(told: Mapping[str, Any]) -> Iterator[str]:
    yield _choice(TicketKind, told.get("kind"))
    yield _said("summary", told)
    if told.get("answer"):
        yield _("Answer: %(answer)s.") % {"answer": _choice(TicketAnswer, told["answer"])}
    yield _said("outcome", told)
    if not told.get("answer") and not told.get("outcome"):
        yield _("No new entries on its market until somebody answers it.")


def _guardian(told: Mapping[str, Any]) -> Iterator[str]:
    yield _("It was silent for %(length)s; another one looks after the account now.") % {
        "length": duration(float(told.get("silent_seconds") or 0))
    }


def _sign_in(told: Mapping[str, Any]) -> Iterator[str]:
    if told.get("user") and told.get("address"):
        yield _("User %(user)s, from %(address)s.") % {
            "user": isolated(told["user"]),
            "address": isolated(told["address"]),
        }
    yield _("Nobody signs in as this user from there for %(length)s. If it was not you, somebody tries passwords.") % {
        "length": duration(60 * float(told.get("minutes") or 0))
    }


def _test(told: Mapping[str, Any]) -> Iterator[str]:
    yield _("This is a test. Nothing happened.")
    yield _by(told)


def _summary(told: Mapping[str, Any]) -> Iterator[str]:
    since, until = _time(told.get("since")), _time(told.get("until"))
    if since and until:
        yield _("From %(since)s to %(until)s.") % {"since": moment(since), "until": moment(until)}
    yield _("Deals opened: %(opened)s. Closed: %(closed)s.") % {
        "opened": number(told.get("opened") or 0),
        "closed": number(told.get("closed") or 0),
    }
    for quote, profit in _mapping(told.get("profit")).items():
        yield _("Profit after fees: %(profit)s.") % {"profit": money(_decimal(profit), quote)}
    if told.get("win_rate_percent") is not None:
        yield _("Won: %(share)s of the deals that closed.") % {
            "share": percent(_decimal(told["win_rate_percent"]), 1),
        }
    yield _unprotected(told)
    if told.get("denials"):
        yield _("Signals denied: %(counts)s.") % {"counts": _counts(told["denials"])}
    yield _("Open tickets: %(count)s.") % {"count": number(told.get("tickets") or 0)}
    for key in told.get("keys") or ():
        yield _("The key of %(account)s ends at %(at)s.") % {
            "account": isolated(key.get("account", "")),
            "at": moment(_time(key.get("expires_at"))),
        }


def _anything(told: Mapping[str, Any]) -> Iterator[str]:
    for name in ("reason", "summary", "message", "text", "outcome", "proof", "error"):
        yield _said(name, told)
    yield _by(told)
    yield from _whose(told)


Lines = Callable[[Mapping[str, Any]], Iterator[str]]
_OF_KIND: Mapping[str, Lines] = {
    EventKind.DEAL_OPENED: _deal_opened,
    EventKind.DEAL_CLOSED: _deal_closed,
    EventKind.STOP_MOVED: _stop_moved,
    **dict.fromkeys((EventKind.PROTECTION_LOST, EventKind.PROTECTION_RESTORED), _protection),
    EventKind.DENIED_OFTEN: _denied_often,
    EventKind.LIMIT_REACHED: _limit,
    **dict.fromkeys((EventKind.KEY_EXPIRING, EventKind.KEY_EXPIRED), _key),
    **dict.fromkeys(
        (
            EventKind.ACCOUNT_STOPPED,
            EventKind.ACCOUNT_PAUSED,
            EventKind.ACCOUNT_ACTIVATED,
            EventKind.ACCOUNT_FAILING,
            EventKind.ACCOUNT_FLAT,
            EventKind.ACCOUNT_NOT_FLAT,
        ),
        _account,
    ),
    **dict.fromkeys((EventKind.EXCHANGE_DOWN, EventKind.EXCHANGE_UP), _exchange),
    EventKind.KILL_SWITCH: _kill_switch,
    **dict.fromkeys(
        (EventKind.TICKET_OPENED, EventKind.TICKET_ANSWERED, EventKind.TICKET_RESOLVED, EventKind.TICKET_REFUSED),
        _ticket,
    ),
    EventKind.GUARDIAN_EVICTED: _guardian,
    EventKind.SIGN_IN_LOCKED: _sign_in,
    EventKind.TEST: _test,
    EventKind.DAILY_SUMMARY: _summary,
}


# --- words and figures ----------------------------------------------------------------------------------------------


def _whose(told: Mapping[str, Any]) -> Iterator[str]:
    if told.get("strategy") and told.get("account"):
        yield _("Strategy %(strategy)s, account %(account)s.") % {
            "strategy": isolated(told["strategy"]),
            "account": isolated(told["account"]),
        }


def _said(name: str, told: Mapping[str, Any]) -> str:
    """What people or the platform wrote themselves; it is in the language it was written in."""
    return str(told.get(name) or "")


def _by(told: Mapping[str, Any]) -> str:
    return _("By %(name)s.") % {"name": isolated(told["by"])} if told.get("by") else ""


def _unprotected(told: Mapping[str, Any]) -> str:
    seconds = _decimal(told.get("unprotected_seconds"))
    return _("Unprotected: %(seconds)s s.") % {"seconds": number(seconds, 1)} if seconds is not None else ""


def _counts(counts: Any) -> str:
    return _and([f"{number(count)} × {isolated(code)}" for code, count in _mapping(counts).items()])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _price(told: Mapping[str, Any], name: str) -> str:
    return money(_decimal(told.get(name)), str(told.get("quote") or ""))


def _amount(told: Mapping[str, Any], name: str) -> str:
    return number(_decimal(told.get(name)))


def _choice(kinds: Any, value: Any) -> str:
    return str(kinds(value).label) if value in kinds.values else str(value or "")


def _time(value: Any) -> datetime | None:
    try:
        return parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _decimal(value: Any) -> Decimal | None:
    try:
        return None if value in (None, "") else Decimal(str(value))
    except InvalidOperation:
        return None
