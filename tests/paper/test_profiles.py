"""Every habit has a name, a default and a place in the contract, and takes no value that cannot be."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest

from providers.paper.coins import MOST
from providers.paper.feeds.synthetic import SPECS, Listing
from providers.paper.profiles import NOBITEX, WALLEX, known, meaning, switches, venue_profiles
from tests.paper.world import ROOT

PROFILES = pytest.mark.parametrize("profile", [WALLEX, NOBITEX], ids=lambda profile: profile.name)


@PROFILES
def test_every_switch_names_its_section_and_what_it_does(profile):
    rows = switches(profile)
    assert [name for name, _, _ in rows] == known(profile)
    for name, value, section in rows:
        assert re.search(r"(wallex|nobitex) \d", section), name
        assert len(meaning(profile, name)) > 10
        json.dumps(value)


@PROFILES
def test_what_is_listed_can_be_set_again(profile):
    assert switches(profile.with_switches(**{name: value for name, value, _ in switches(profile)})) == switches(profile)


@PROFILES
def test_every_switch_of_the_wire_is_asked_for_somewhere(profile):
    code = "".join(path.read_text() for path in (ROOT / "providers/paper").rglob("*.py") if path.name != "profiles.py")
    names = {name: name.removeprefix("stream_") for name in known(profile)}  # streams ask without their prefix
    unused = [name for name, short in names.items() if not re.search(rf"\b({name}|{short})\b", code)]
    assert unused == []


def test_values_come_as_json_or_as_python_has_them():
    changed = NOBITEX.with_switches(duplicate_guard=2.5, market_band="0.05", price_band=None, async_cancel_batch=True)
    assert (changed.duplicate_guard, changed.market_band) == (timedelta(seconds=2.5), Decimal("0.05"))
    assert (changed.price_band, changed.switch("async_cancel_batch")) == (None, True)
    assert NOBITEX.switch("async_cancel_batch") is False


@pytest.mark.parametrize(
    "change",
    [
        {"nothing": 1},
        {"async_cancel_batch": True},  # Nobitex' own
        {"stops_lock": "yes"},
        {"stops_lock": 1},
        {"market_band": "x"},
        {"market_band": 0},
        {"market_band": None},
        {"duplicate_guard": -1},
        {"precision_mode": 4},
        {"candle_quirks": 1},
        {"orders_per_10s": -1},
        {"orders_per_10s": True},
        {"orders_per_10s": "20"},
        {"partial_status": "DONE"},
        {"market_type_disabled": None},
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        WALLEX.with_switches(**change)


@PROFILES
def test_each_venue_trades_every_pair_of_the_feed_on_grids_that_fit(profile):
    assert set(profile.markets) == set(SPECS)
    assert len(profile.markets) == 21
    _grids_fit(profile, SPECS)


@pytest.mark.parametrize("number", [0, 1], ids=["wallex", "nobitex"])
def test_each_venue_trades_as_many_made_up_coins_as_the_feed_has(number):
    specs = Listing.of(MOST).specs
    profile = venue_profiles(tuple(specs))[number]
    assert set(profile.markets) == set(specs)
    assert len(profile.markets) == 161
    assert len(profile.assets) == 82
    _grids_fit(profile, specs)


def _grids_fit(profile, specs):
    for pair, market in profile.markets.items():
        spec = specs[pair]
        assert spec.tick % market.tick_size == 0  # every price of the feed is on the venue's grid
        assert market.min_quantity % market.step_size == 0
        assert 0 < market.maker_fee_rate <= market.taker_fee_rate < Decimal("0.01")
