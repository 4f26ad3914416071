"""The auditor finds every difference between the exchange's ledger and ours, and none where there is none."""

from __future__ import annotations

import copy
from decimal import Decimal

import pytest

from algo.selectors.audit import ledger_difference
from tests.factories import make_deal, make_fill, make_order

pytestmark = pytest.mark.django_db


@pytest.fixture
def books():
    """Bought 0.01 BTC at 50,000 with a fee of 0.00003 BTC, sold 0.00997 at 50,300 with a fee of 1.504473 USDT.

    USDT: 10000 - 500 + 501.491 - 1.504473 = 9999.986527; BTC: 0.5 + 0.01 - 0.00003 - 0.00997 = 0.5.
    """
    deal = make_deal()
    entry = make_order(deal, status="FILLED", exchange_order_id="A", filled_quantity=Decimal("0.01"))
    make_fill(entry)
    sold = Decimal("0.00997")
    stop = make_order(deal, role="STOP", status="FILLED", exchange_order_id="B", quantity=sold, filled_quantity=sold)
    make_fill(stop, price=Decimal("50300"), fee=Decimal("1.504473"), fee_asset="USDT")
    truth = {
        "deposits": {"USDT": "10000", "BTC": "0.5", "IRT": "7"},
        "balances": {
            "USDT": {"total": "9999.986527", "locked": "0"},
            "BTC": {"total": "0.5", "locked": "0"},
            "IRT": {"total": "7", "locked": "0"},
        },
        "orders": [
            {"exchange_order_id": "A", "filled_quantity": "0.01"},
            {"exchange_order_id": "B", "filled_quantity": "0.00997"},
        ],
    }
    return deal.account, truth


def test_books_that_agree_differ_by_nothing(books):
    assert ledger_difference(*books) == 0


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda truth: truth["balances"]["USDT"].update(total="9999.986526"), "0.000001"),
        (lambda truth: truth["balances"].pop("IRT"), "7"),
        (lambda truth: truth["orders"][1].update(filled_quantity="0.00996"), "0.00001"),
        (lambda truth: truth["orders"].pop(), "1"),
        (lambda truth: truth["orders"].append({"exchange_order_id": "C", "filled_quantity": "0"}), "1"),
    ],
    ids=["a balance", "an asset", "a filled quantity", "an order of ours they lack", "an order of theirs we lack"],
)
def test_every_difference_is_counted(books, change, difference):
    account, truth = books
    wrong = copy.deepcopy(truth)
    change(wrong)
    assert ledger_difference(account, wrong) == Decimal(difference)


def test_toman_is_one_asset_under_all_its_names():
    deal = make_deal()
    order = make_order(deal, status="FILLED", exchange_order_id="A", filled_quantity=Decimal("0.01"))
    order.market.quote = "TMN"
    order.market.save()
    make_fill(order, price=Decimal("5000"), fee=Decimal("0.00003"))
    truth = {
        "deposits": {"IRT": "100"},
        "balances": {"IRT": {"total": "50"}, "BTC": {"total": "0.00997"}},
        "orders": [{"exchange_order_id": "A", "filled_quantity": "0.01"}],
    }
    assert ledger_difference(deal.account, truth) == 0
