"""What is said about events: in words, in the channel's language, whole where something is missing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from algo.localised import reading
from algo.models import EventKind
from algo.notifications.message import Message
from algo.notifications.texts import channel_reader, event_text, message_text
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db

CLOSED = {
    "deal_id": 7,
    "strategy": "breakout BTC",
    "account": "main",
    "market": "BTCUSDT",
    "side": "BUY",
    "entry_price": "50000",
    "entry_quantity": "0.01",
    "exit_price": "50300",
    "stop_price": "49850",
    "target_price": "50300",
    "close_reason": "take_profit",
    "profit": "0.6",
    "quote": "USDT",
    "unprotected_seconds": "0.4",
}


def message(*events, channel=None):
    return Message("m", channel or make.make_channel(make.make_trader()), tuple(events), NOW)


def test_a_closed_deal_is_told_with_its_profit_its_prices_and_whose_it_is():
    text = event_text(make.make_outbox_event("deal.closed", payload=CLOSED))
    assert text.title == "Deal closed: BTCUSDT BUY"
    assert text.lines == (
        "Profit after fees: 0.6 USDT.",
        "From 50,000 USDT to 50,300 USDT: Take profit.",
        "Unprotected: 0.4 s.",
        "Strategy breakout BTC, account main.",
        "2026-11-02 10:00:00",
    )


def test_it_is_written_in_the_language_calendar_digits_and_zone_of_the_channel():
    channel = make.make_channel(make.make_trader(), language="fa", time_zone="Asia/Tehran")
    event = make.make_outbox_event("deal.closed", payload=CLOSED)
    with reading(channel_reader(channel)):
        text = message_text(message(event, channel=channel))
    assert "۵۰٬۰۰۰" in text.body
    assert text.lines[-1] == "۱۴۰۵/۰۸/۱۱ ۱۳:۳۰:۰۰"  # 10:00 UTC is 13:30 in Tehran
    assert "BTCUSDT BUY" in text.title


def test_the_digits_and_the_calendar_of_the_owner_count_where_they_chose_some():
    from algo.models import UserPreference

    owner = make.make_trader()
    UserPreference.objects.create(user=owner, digits="latin", calendar="gregorian")
    reader = channel_reader(make.make_channel(owner, language="fa", time_zone="Europe/Berlin"))
    assert (reader.language, str(reader.digits), str(reader.calendar)) == ("fa", "latin", "gregorian")
    assert str(reader.zone) == "Europe/Berlin"


@pytest.mark.parametrize("kind", EventKind.values)
@pytest.mark.parametrize("language", ["en", "fa"])
def test_every_kind_is_told_whatever_its_payload_lacks(kind, language):
    channel = make.make_channel(make.make_trader(), language=language)
    odd = {name: "?" for name in CLOSED} | {"since": "?", "times": None, "codes": None, "expires_at": 7, "keys": None}
    for payload in ({}, CLOSED, odd):
        with reading(channel_reader(channel)):
            text = event_text(make.make_outbox_event(kind, payload=payload))
        assert text.title
        assert "None" not in text.title + text.body
        assert "%(" not in text.title + text.body
        assert "\n" not in text.title


def test_a_storm_is_one_text_that_counts_it_and_names_the_first_twenty():
    denied = [
        make.make_outbox_event("strategy.denied_often", payload={"strategy": f"s{n}", "times": 5, "minutes": 60})
        for n in range(22)
    ]
    closed = [make.make_outbox_event("deal.closed", payload=CLOSED) for _ in range(3)]
    text = message_text(message(*denied, *closed))
    assert text.title == "25 events: 22 × A strategy is denied often, 3 × Deal closed"
    assert len(text.lines) == 21
    assert text.lines[0] == "• A strategy is denied often: s0 – 5 signals were denied within 60 minutes."
    assert text.lines[-1] == "and 5 more"


def test_the_summary_of_a_day_is_told_in_figures():
    payload = {
        "since": (NOW - timedelta(days=1)).isoformat(),
        "until": NOW.isoformat(),
        "opened": 4,
        "closed": 3,
        "profit": {"USDT": "12.5", "TMN": "-1500000"},
        "win_rate_percent": 66.7,
        "unprotected_seconds": "1.25",
        "denials": {"cooldown": 12, "thin_book": 1},
        "tickets": 1,
        "keys": [{"account": "main", "expires_at": "2026-11-09T00:00:00Z"}],
    }
    text = event_text(make.make_outbox_event("summary.daily", payload=payload))
    assert text.lines == (
        "From 2026-11-01 10:00:00 to 2026-11-02 10:00:00.",
        "Deals opened: 4. Closed: 3.",
        "Profit after fees: 12.5 USDT.",
        "Profit after fees: -1,500,000 TMN.",
        "Won: 66.7 % of the deals that closed.",
        "Unprotected: 1.2 s.",
        "Signals denied: 12 × cooldown, 1 × thin_book.",
        "Open tickets: 1.",
        "The key of main ends at 2026-11-09 00:00:00.",
    )
