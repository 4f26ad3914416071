"""Every ticket says what happened, what is safe and what to do, within the length of its column."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from algo.execution import questions
from algo.execution.views import OrderView
from algo.models import Role, Ticket
from providers.types import Fill, OrderReport, OrderStatus, OrderType, Side

AT = datetime(2026, 11, 2, 10, tzinfo=UTC)
LONGEST = Decimal("123456789.12345678")
ORDER = OrderView(
    1, Role.TARGET, 1, Side.SELL, OrderType.STOP_MARKET, OrderStatus.SUBMITTED, LONGEST, "P1" + "A" * 30, AT
)
REPORT = OrderReport("1000SHIBUSDT", Side.SELL, OrderStatus.OPEN, LONGEST, Decimal(0))
TRADE = Fill("t", "1000SHIBUSDT", Side.SELL, LONGEST, LONGEST, Decimal(0), "USDT", AT)
DOUBT = "123456789.12345678 USDT left the account as by an order of this size"


@pytest.mark.parametrize(
    ("said", "to_do"),
    [
        (questions.unknown_order("nobitex", REPORT), "Adopt it, close it, or ignore it"),
        (questions.order_in_doubt(ORDER, DOUBT), "ignore this with a note"),
        (questions.order_missing(ORDER), "ignore this with a note"),
        (questions.position_gone(1_000_000, LONGEST, "1000SHIB"), "ignore this with a note"),
        (questions.closed_too_much(1_000_000, LONGEST, "1000SHIB"), "Settle it at the exchange"),
        (questions.unlisted_trade(TRADE, "1000SHIBUSDT"), "ignore this with a note"),
        (questions.unexplained_trades([TRADE], "1000SHIBUSDT", Side.SELL, Decimal("0.5")), "ignore this with a note"),
        (questions.probe_executed(Side.SELL, LONGEST, "1000SHIBUSDT"), "ignore this with a note"),
    ],
)
def test_a_ticket_says_what_is_safe_and_what_to_do(said, to_do):
    assert to_do in said
    assert "positions stay protected" in said
    assert len(said) <= Ticket._meta.get_field("summary").max_length


def test_amounts_are_told_without_trailing_zeros():
    assert "with 0.3 BTC still open" in questions.position_gone(7, Decimal("0.300000"), "BTC")


@pytest.mark.parametrize(("provider", "name"), [("nobitex", "Nobitex"), ("wallex", "Wallex")])
def test_a_ticket_calls_an_exchange_by_its_name(provider, name):
    assert questions.unknown_order(provider, REPORT).startswith(f"{name} shows a SELL order")
