"""What waits for a client, and how little a slow one may hold."""

from __future__ import annotations

import asyncio

import pytest

from algo.live.updates.events import ADMINS, EVERYBODY, Event, Visitor, frame, place_of
from algo.live.updates.hub import Client, Full, Hub

OWN, OTHER = "7", "8"
TRADER = Visitor(1, sees_all=False, accounts=frozenset({7}))
ADMIN = Visitor(2, sees_all=True, accounts=frozenset())


def client(visitor: Visitor = TRADER, *markets: int, most: int = 1_000) -> Client:
    return Client(visitor, frozenset(markets), most_waiting=most)


def event(number: int, audience: str = OWN) -> tuple[str, Event]:
    return f"{number}-0", Event("deal", f'{{"id":{number}}}', audience)


def waiting(one: Client) -> str:
    return asyncio.run(one.next(0)).decode()


def hub(*clients: Client, most: int = 10, most_of_user: int = 10) -> Hub:
    made = Hub(most=most, most_of_user=most_of_user)
    for one in clients:
        made.add(one)
    return made


@pytest.mark.parametrize(
    ("audience", "heard_by"),
    [(OWN, "trader admin"), (OTHER, "admin"), (ADMINS, "admin"), (EVERYBODY, "trader admin")],
)
def test_who_hears_what(audience, heard_by):
    trader, admin = client(TRADER), client(ADMIN)
    hub(trader, admin).tell([event(1, audience)])
    heard = " ".join(name for name, one in (("trader", trader), ("admin", admin)) if "event: deal" in waiting(one))
    assert heard == heard_by


def test_what_waited_goes_out_in_order_and_once():
    one = client()
    hub(one).tell([event(1), event(2)])
    assert waiting(one) == 'id: 1-0\nevent: deal\ndata: {"id":1}\n\nid: 2-0\nevent: deal\ndata: {"id":2}\n\n'
    assert waiting(one) == ""


def test_of_prices_only_the_newest_waits_and_only_for_those_who_look():
    looks, other = client(TRADER, 5), client(TRADER, 6)
    place = hub(looks, other)
    for bid in range(1_000):
        place.tell_price(5, (5, "quote"), frame("quote", f'{{"bid":"{bid}"}}'))
    assert waiting(looks) == 'event: quote\ndata: {"bid":"999"}\n\n'
    assert waiting(other) == ""


def test_who_reads_too_slowly_is_sent_away_and_begins_anew_from_there():
    slow = client(most=3)
    hub(slow).tell([event(number) for number in range(1, 11)])
    assert slow.is_ending
    assert waiting(slow) == 'id: 4-0\nevent: reset\ndata: {"why":"this connection was too slow"}\n\n'


def test_room_is_bounded_together_and_for_each_user():
    place = hub(client(), client(), most=3, most_of_user=2)
    with pytest.raises(Full) as full:
        place.add(client())
    assert full.value.whose == "user"
    last = client(ADMIN)
    place.add(last)
    with pytest.raises(Full) as full:
        place.add(client(ADMIN))
    assert full.value.whose == "everybody"
    place.remove(last)
    place.add(client(ADMIN))


def test_markets_are_looked_at_as_long_as_anybody_looks():
    one, two = client(TRADER, 5), client(TRADER, 5, 6)
    place = hub(one, two)
    place.remove(two)
    assert set(place.markets) == {5}
    place.remove(one)
    assert set(place.markets) == set()


def test_all_are_told_when_events_cease_and_flow_again():
    one = client()
    place = hub(one)
    for is_flowing in (True, True, False):
        place.flowing(is_flowing)
    assert waiting(one).count("event: system") == 2


@pytest.mark.parametrize("text", ["", "-", "5", "5-", "a-0", "5-0-0x", "٥-0", "1" * 50 + "-0"])
def test_what_is_no_place_in_a_stream(text):
    assert place_of(text) is None
