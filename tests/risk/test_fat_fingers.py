"""A slip of the hand is refused where it is typed, and by the database where it was not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from algo.models import Deal
from algo.strategies.schemas import BreakoutStrategySchema, InvalidParameters, validate_parameters
from providers.types import Side
from tests.factories import NOW, make_deal, make_signal


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_position_size_percent", "50000"),  # x 1000
        ("max_position_size_percent", "0"),
        ("max_position_size_percent", "-1"),
        ("max_exposure_percent", "0"),
        ("max_exposure_percent", "100.01"),
        ("stop_loss_percent", "0"),
        ("stop_loss_percent", "-0.3"),
        ("stop_loss_percent", "51"),
        ("stop_loss_percent", "NaN"),
        ("stop_loss_percent", "Infinity"),
        ("take_profit_percent", "0"),
        ("take_profit_percent", "1001"),
        ("trailing_stop_percent", "-1"),
        ("trailing_step_percent", "0"),
        ("trade_cooldown_minutes", "-1"),
        ("max_daily_trades", "0"),
        ("max_daily_trades", "10000"),
        ("max_daily_loss_percent", "-5"),
        ("max_daily_loss_percent", "101"),
        ("max_open_deals", "0"),
        ("max_open_deals", "1000"),
        ("max_spread_percent", "100"),
    ],
)
def test_a_parameter_beyond_reason_is_refused_beside_its_field(name, value):
    with pytest.raises(InvalidParameters) as refused:
        validate_parameters(BreakoutStrategySchema, {name: value})
    assert list(refused.value.errors) == [name]


def sql(row: Deal, name: str, value: Any) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # the constraint alone, without the triggers
        cursor.execute(f"UPDATE algo_deal SET {name} = %s WHERE id = %s", [value, row.pk])


def planned(side: Side) -> Deal:
    """50,000 with a stop 150 behind and a target 300 ahead, decided by a strategy."""
    signal = make_signal(side=side)
    return make_deal(signal.config, signal=signal, side=side)


WRONG = [
    (Side.BUY, "initial_stop_price", "50000"),
    (Side.BUY, "initial_stop_price", "50001"),
    (Side.BUY, "initial_stop_price", "0"),
    (Side.BUY, "target_price", "50000"),
    (Side.BUY, "target_price", "49000"),
    (Side.BUY, "planned_price", "60000"),
    (Side.SELL, "initial_stop_price", "50000"),
    (Side.SELL, "initial_stop_price", "49999"),
    (Side.SELL, "target_price", "50000"),
    (Side.SELL, "target_price", "0"),
    (Side.SELL, "target_price", "-1"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("side", "name", "value"), WRONG)
def test_the_database_refuses_a_plan_with_its_stop_or_target_on_the_wrong_side(side, name, value):
    deal = planned(side)
    with pytest.raises(IntegrityError, match="deal_plan_is_sound"):
        sql(deal, name, value)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", ["planned_quantity", "planned_price", "initial_stop_price", "stop_price", "target_price"]
)
def test_the_database_refuses_what_is_no_number(name):
    deal = planned(Side.BUY)
    with pytest.raises(IntegrityError, match=r"deal_amounts_are_numbers|deal_plan_is_sound"):
        sql(deal, name, "NaN")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "value"), [("planned_quantity", "0"), ("planned_quantity", "-1"), ("planned_price", "0")]
)
def test_the_database_refuses_a_plan_of_nothing(name, value):
    with pytest.raises(IntegrityError):
        sql(make_deal(), name, value)


@pytest.mark.django_db
def test_nothing_here_stands_between_an_open_deal_and_its_stop():
    # The entry slipped through the planned stop: the stop of the real entry may stand anywhere.
    deal = planned(Side.BUY)
    Deal.objects.filter(pk=deal.pk).update(status="ENTERING")
    Deal.objects.filter(pk=deal.pk).update(
        status="OPEN", opened_at=NOW, initial_stop_price=Decimal(51_000), stop_price=Decimal(51_000)
    )
    deal.refresh_from_db()
    assert deal.stop_price == 51_000
