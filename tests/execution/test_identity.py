"""The name of an order is a function of its intent, valid at both exchanges."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from algo.execution.identity import client_order_id, is_ours
from algo.execution.ledger_rows import order_plan
from algo.models import Deal, Order, Role
from providers.types import OrderType, Side
from tests.factories import NOW, make_config, make_deal

parts = st.lists(st.text(max_size=20), min_size=1, max_size=6)


@given(parts)
def test_every_name_is_valid_at_both_exchanges_and_known_as_ours(key):
    name = client_order_id("live", *key)
    assert re.fullmatch(r"[A-Z0-9_]{1,32}", name)
    assert is_ours(name)
    assert name == client_order_id("live", *key)


def test_paper_and_live_never_share_a_name():
    assert client_order_id("paper", "a")[:2] == "P1"
    assert client_order_id("live", "a")[:2] == "T1"


@pytest.mark.parametrize("foreign", [None, "", "order1", "LIMIT-670f7c34-d609-40d3-b98e-0150640d79cb", "T1SHORT"])
def test_foreign_names_are_not_ours(foreign):
    assert not is_ours(foreign)


def _plan(deal: Deal, role: Role = Role.ENTRY, leg: int = 1) -> Order:
    return order_plan(
        deal,
        role=role,
        leg=leg,
        side=Side.BUY,
        kind=OrderType.MARKET,
        quantity=deal.planned_quantity,
        price=None,
        stop_price=None,
        reason="test",
        now=NOW,
    )


@pytest.mark.django_db
def test_after_a_restore_a_deal_that_gets_an_old_number_gets_no_old_name():
    """Row numbers repeat after a restore; an order of the lost deal must not be taken for one of the new deal."""
    config = make_config()
    with transaction.atomic():
        lost = make_deal(config)
        number, bar, name = lost.pk, lost.bar_open_at, _plan(lost).client_order_id
        transaction.set_rollback(True)

    again = make_deal(config, pk=number, bar_open_at=bar + timedelta(minutes=1))
    assert again.pk == number
    assert _plan(again).client_order_id != name


@pytest.mark.django_db
def test_the_same_decision_gets_the_same_name_and_every_leg_its_own():
    deal = make_deal()
    entry, first, second = _plan(deal), _plan(deal, Role.EXIT), _plan(deal, Role.STOP, 2)
    assert len({order.client_order_id for order in (entry, first, second)}) == 3
    bar = int(deal.bar_open_at.timestamp())
    account = deal.account
    expected = client_order_id(
        "paper", account.public_id, deal.config_id, deal.market_id, bar, deal.side, Role.ENTRY, 1
    )
    assert entry.client_order_id == expected
