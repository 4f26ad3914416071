"""Parameters: defaults promised to users, bounds, messages, and the way to JSON and back."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from pydantic import ValidationError

from algo.strategies import (
    BreakoutStrategy,
    BreakoutStrategySchema,
    InvalidParameters,
    StrategySchema,
    UnknownStrategy,
    create_strategy,
    schema_for,
    strategy_names,
    validate_parameters,
)


def test_the_defaults_are_those_users_were_promised():
    schema = BreakoutStrategySchema()
    promised = {
        "ema_fast_period": 5,
        "ema_slow_period": 13,
        "rsi_period": 14,
        "rsi_overbought": 75.0,
        "rsi_oversold": 25.0,
        "volume_threshold": 1.2,
        "breakout_period": 20,
        "stop_loss_percent": Decimal("0.3"),
        "take_profit_percent": Decimal("0.6"),
        "max_position_size_percent": Decimal("50.0"),
        "trade_cooldown_minutes": 30,
        "max_daily_trades": 10,
    }
    assert {name: getattr(schema, name) for name in promised} == promised


@pytest.mark.parametrize("schema", [StrategySchema, BreakoutStrategySchema])
def test_every_field_has_a_title_a_help_text_and_a_default(schema):
    for name, field in schema.model_fields.items():
        assert field.title, name
        assert field.description, name
        assert not field.is_required(), name


def test_json_and_back_loses_nothing():
    schema = BreakoutStrategySchema(stop_loss_percent=Decimal("0.123456789123456789"), trailing_stop_percent="1.10")
    text = json.dumps(schema.model_dump(mode="json"))
    assert BreakoutStrategySchema.model_validate(json.loads(text)) == schema
    assert '"0.123456789123456789"' in text


@pytest.mark.parametrize(
    ("change", "field", "word"),
    [
        ({"ema_fast_period": 13}, "ema_fast_period", "ema_slow_period"),
        ({"trailing_stop_percent": "0.1", "trailing_step_percent": "0.1"}, "trailing_step_percent", "smaller"),
        ({"rsi_overbought": 40}, "rsi_overbought", "greater than 50"),
        ({"rsi_oversold": 60}, "rsi_oversold", "less than 50"),
        ({"stop_loss_percent": 0}, "stop_loss_percent", "greater than 0"),
        ({"max_position_size_percent": "100.1"}, "max_position_size_percent", "at most 100"),
        ({"volume_threshold": "inf"}, "volume_threshold", "finite"),
        ({"stop_loss_percent": "NaN"}, "stop_loss_percent", "finite"),
        ({"order_book_imbalance": 1}, "order_book_imbalance", "greater than 1"),
        ({"breakout_period": 20.5}, "breakout_period", "whole number"),
        ({"colour": "red"}, "colour", "not a parameter"),
    ],
)
def test_what_cannot_work_is_refused_beside_its_field(change, field, word):
    with pytest.raises(InvalidParameters) as caught:
        create_strategy("BreakoutStrategy", change)
    assert list(caught.value.errors) == [field]
    assert word in caught.value.errors[field][0]
    assert field in str(caught.value)


def test_a_trailing_step_does_not_matter_while_trailing_is_off():
    assert BreakoutStrategySchema(trailing_step_percent=5).trailing_stop_percent == 0


def test_every_wrong_field_gets_its_message_at_once():
    with pytest.raises(InvalidParameters) as caught:
        validate_parameters(BreakoutStrategySchema, {"rsi_period": 1, "max_daily_trades": "many"})
    assert set(caught.value.errors) == {"rsi_period", "max_daily_trades"}


def test_parameters_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        BreakoutStrategySchema().rsi_period = 3


def test_a_schema_instance_is_taken_as_it_is():
    schema = BreakoutStrategySchema(rsi_period=9)
    assert create_strategy("BreakoutStrategy", schema).parameters == schema


def test_the_factory_knows_its_names():
    assert "BreakoutStrategy" in strategy_names()
    assert schema_for("BreakoutStrategy") is BreakoutStrategySchema
    assert isinstance(create_strategy("BreakoutStrategy"), BreakoutStrategy)
    with pytest.raises(UnknownStrategy, match=r"'Breakdown'.*BreakoutStrategy"):
        create_strategy("Breakdown")


def test_only_a_strategy_with_history_needs_candles():
    assert BreakoutStrategySchema().needs_candles
    assert not BreakoutStrategySchema(need_historical_data=False).needs_candles
