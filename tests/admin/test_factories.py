from decimal import Decimal

import pytest

from algo.models import Deal
from tests import factories as make

pytestmark = pytest.mark.django_db


def test_factories_make_rows_that_the_database_accepts():
    config = make.make_config()
    closed = make.make_closed_deal(config)
    entry = make.make_order(closed, status="FILLED", filled_quantity=Decimal("0.01"))
    make.make_fill(entry)
    make.make_order_event(entry)
    make.make_order(make.make_open_deal(config), role="STOP", status="OPEN")
    make.make_deal(make.make_config(), side="SELL")
    make.make_signal(config)
    make.make_decision(config)
    make.make_ticket(config.account)
    make.make_outbox_event()
    assert Deal.objects.count() == 3
    assert closed.market.pair == config.data_market.pair == "BTC/USDT"
    assert config.account.provider == config.market.provider


def test_a_sell_deal_has_its_stop_above():
    deal = make.make_deal(side="SELL")
    assert (deal.stop_price, deal.target_price) == (Decimal(50150), Decimal(49700))
