"""What is told, to whom, and how it looks on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EVERYBODY, ADMINS = "*", "admins"  # audiences; any other is the id of an account, as text
RESET, SYSTEM, HELLO, BEGIN = "reset", "system", "hello", "begin"

Place = tuple[int, int]  # in the stream: milliseconds of Redis' clock, and a count within one
NOWHERE: Place = (0, 0)


def place_of(text: str) -> Place | None:
    """From `1764469200000-0`; None where it is no place in a stream."""
    before, _, after = text.partition("-")
    if not (before.isascii() and before.isdigit() and after.isascii() and after.isdigit()) or len(text) > 40:
        return None
    return int(before), int(after)


def text_of(place: Place) -> str:
    return f"{place[0]}-{place[1]}"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `data` is JSON in one line; `changes` are the keys of the changes it stands for."""

    kind: str
    data: str
    audience: str = EVERYBODY
    changes: tuple[str, ...] = ()

    def fields(self) -> dict[str, str]:
        """As it stands in the Redis stream."""
        return {"kind": self.kind, "data": self.data, "to": self.audience, "changes": ",".join(self.changes)}


def event_of(fields: Mapping[str, str]) -> Event:
    changes = tuple(key for key in fields["changes"].split(",") if key)
    return Event(fields["kind"], fields["data"], fields["to"], changes)


def reset(why: str, changes: Sequence[str] = ()) -> Event:
    """Something may have been missed: read everything anew over REST."""
    return Event(RESET, as_json({"why": why}), EVERYBODY, tuple(changes))


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def frame(kind: str, data: str, place: Place | None = None) -> bytes:
    """One event on the wire. With its place, a client that comes back says how far it was."""
    named = f"id: {text_of(place)}\n" if place else ""
    return f"{named}event: {kind}\ndata: {data}\n\n".encode()


def alive(place: Place) -> bytes:
    """Nothing happened; a client that comes back need not look at what others were told meanwhile."""
    return f": alive\nid: {text_of(place)}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who listens, and whose rows may be told: an Admin all, everybody else those of `accounts`."""

    user_id: int
    sees_all: bool
    accounts: frozenset[int]

    def may_hear(self, audience: str) -> bool:
        if audience == EVERYBODY or self.sees_all:
            return True
        return audience != ADMINS and int(audience) in self.accounts
