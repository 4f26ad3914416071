"""Parameters of strategies: bounds, titles and help texts. They are the form fields of the admin and the API.

Percents are Decimals in percent (0.3 is 0.3 %); `model_dump(mode="json")` gives them as text, and back without loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

WHOLE_FORM = "__all__"  # key of messages that belong to no single field


class InvalidParameters(ValueError):
    """Parameters that a schema refuses. `errors` maps each field to its messages; `__all__` holds the rest."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        self.errors = {name: list(messages) for name, messages in errors.items()}
        lines = [f"{name}: {message}" for name, messages in self.errors.items() for message in messages]
        super().__init__("the parameters are not valid; " + "; ".join(lines))


class StrategySchema(BaseModel):
    """The risk rules every strategy has. A strategy's own schema adds its fields to these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stop_loss_percent: Decimal = Field(
        Decimal("0.3"),
        gt=0,
        le=50,
        title="Stop loss (%)",
        description="Distance of the stop from the entry price. Every deal has one.",
    )
    take_profit_percent: Decimal = Field(
        Decimal("0.6"),
        gt=0,
        le=1000,
        title="Take profit (%)",
        description="Distance of the target from the entry price. It should pay the fees of entry and exit.",
    )
    trailing_stop_percent: Decimal = Field(
        Decimal(0),
        ge=0,
        le=50,
        title="Trailing stop (%)",
        description="The stop follows the best price since entry at this distance, and never back. 0 is off.",
    )
    trailing_step_percent: Decimal = Field(
        Decimal("0.1"),
        gt=0,
        le=50,
        title="Trailing step (%)",
        description="The stop is moved only by at least this much: each move leaves the deal unprotected for a moment.",
    )
    max_position_size_percent: Decimal = Field(
        Decimal("50.0"),
        gt=0,
        le=100,
        title="Largest position (%)",
        description="Share of the available balance that one deal may use, at full confidence.",
    )
    trade_cooldown_minutes: int = Field(
        30,
        ge=0,
        le=10_080,
        title="Cooldown (minutes)",
        description="Time between one entry and the next. 0 is off.",
    )
    max_daily_trades: int = Field(
        10, ge=1, le=1000, title="Entries per day", description="Entries allowed in one trading day."
    )
    max_daily_loss_percent: Decimal = Field(
        Decimal(5),
        ge=0,
        le=100,
        title="Daily loss limit (%)",
        description="No entry for the rest of the day after losing this share of the day's first equity. 0 is off.",
    )
    max_open_deals: int = Field(
        5, ge=1, le=100, title="Open deals of the account", description="No entry while the account has this many."
    )
    max_exposure_percent: Decimal = Field(
        Decimal(100),
        gt=0,
        le=100,
        title="Largest exposure of the account (%)",
        description="Share of the account's equity in the quote that its live deals together may stand for, this entry "
        "included. An order whose outcome is unknown counts in full.",
    )
    max_spread_percent: Decimal = Field(
        Decimal("0.5"),
        gt=0,
        le=20,
        title="Widest spread (%)",
        description="No entry while best bid and best ask of the exchange that trades are further apart.",
    )
    max_basis_percent: Decimal = Field(
        Decimal("1.0"),
        gt=0,
        le=20,
        title="Widest basis (%)",
        description="No entry while the exchange that trades is further from the exchange the candles come from.",
    )
    max_data_age_bars: int = Field(
        2, ge=1, le=20, title="Oldest data (candles)", description="No entry once the last candle closed longer ago."
    )
    exit_on_opposite_signal: bool = Field(
        False, title="Exit on opposite signal", description="Close an open deal when the strategy says the other side."
    )

    @property
    def needs_candles(self) -> bool:
        """False for a strategy that can decide by the order book alone."""
        return True

    @model_validator(mode="after")
    def _rules_fit_together(self) -> Self:
        self.check_fields()
        return self

    def check_fields(self) -> None:
        """Rules between fields; `refuse` what cannot work. Extend with super().check_fields()."""
        if self.trailing_stop_percent and self.trailing_step_percent >= self.trailing_stop_percent:
            refuse("trailing_step_percent", "must be smaller than trailing_stop_percent, or the stop hardly ever moves")


class BreakoutStrategySchema(StrategySchema):
    """Parameters of BreakoutStrategy."""

    ema_fast_period: int = Field(
        5, ge=2, le=100, title="Fast EMA", description="Candles of the fast average; must be below the slow one."
    )
    ema_slow_period: int = Field(13, ge=3, le=200, title="Slow EMA", description="Candles of the slow average.")
    rsi_period: int = Field(14, ge=2, le=100, title="RSI period", description="Candles of Wilder's RSI.")
    rsi_overbought: float = Field(
        75.0, gt=50, le=100, title="RSI overbought", description="No BUY at or above this value."
    )
    rsi_oversold: float = Field(25.0, ge=0, lt=50, title="RSI oversold", description="No SELL at or below this value.")
    volume_threshold: float = Field(
        1.2,
        ge=0,
        le=100,
        allow_inf_nan=False,
        title="Volume threshold",
        description="A breakout needs this many times the mean volume of the candles before it.",
    )
    volume_period: int = Field(20, ge=2, le=500, title="Volume period", description="Candles of the mean volume.")
    breakout_period: int = Field(
        20, ge=2, le=500, title="Breakout period", description="Candles whose highest high or lowest low must break."
    )
    momentum_period: int = Field(
        3, ge=1, le=100, title="Momentum period", description="Candles over which the momentum move is measured."
    )
    momentum_atr: float = Field(
        0.5,
        ge=0,
        le=20,
        allow_inf_nan=False,
        title="Momentum (ATR)",
        description="The momentum move must be larger than this many average true ranges.",
    )
    atr_period: int = Field(14, ge=2, le=100, title="ATR period", description="Candles of Wilder's ATR.")
    order_book_levels: int = Field(
        5, ge=1, le=50, title="Order book levels", description="Best levels of each side that are compared."
    )
    order_book_imbalance: Decimal = Field(
        Decimal("1.5"),
        gt=1,
        le=100,
        title="Order book imbalance",
        description="Bids over asks from here on are BUY, the reciprocal is SELL.",
    )
    breakout_confidence: float = Field(
        0.8, gt=0, le=1, title="Confidence of a breakout", description="Scales the size of the position."
    )
    momentum_confidence: float = Field(
        0.7, gt=0, le=1, title="Confidence of momentum", description="Scales the size of the position."
    )
    order_book_confidence: float = Field(
        0.6, gt=0, le=1, title="Confidence of the order book", description="Scales the size of the position."
    )
    need_historical_data: bool = Field(
        True,
        title="Needs candles",
        description="On: the order book can only veto an entry. Off: it may decide alone where candles say nothing.",
    )

    @property
    def needs_candles(self) -> bool:
        return self.need_historical_data

    def check_fields(self) -> None:
        super().check_fields()
        if self.ema_fast_period >= self.ema_slow_period:
            refuse("ema_fast_period", f"must be smaller than ema_slow_period ({self.ema_slow_period})")


SchemaT = TypeVar("SchemaT", bound=StrategySchema)


def refuse(field: str, message: str) -> None:
    """Refuse parameters that do not fit together, with the message beside `field`. For use in `check_fields`."""
    raise PydanticCustomError("parameters_do_not_fit", "{message}", {"field": field, "message": message})


def validate_parameters(
    schema: type[SchemaT], parameters: Mapping[str, Any] | StrategySchema | None = None, **overrides: Any
) -> SchemaT:
    """`parameters` as an instance of `schema`, defaults filled in. InvalidParameters tells what is wrong, per field."""
    if type(parameters) is schema and not overrides:
        return parameters  # frozen, so as valid as it was
    if isinstance(parameters, StrategySchema):
        parameters = parameters.model_dump()
    try:
        return schema.model_validate({**(parameters or {}), **overrides})
    except ValidationError as error:
        raise InvalidParameters(field_errors(error)) from error


def field_errors(error: ValidationError) -> dict[str, list[str]]:
    """The messages of a validation error by field name."""
    messages: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        field = (item.get("ctx") or {}).get("field") or ".".join(str(part) for part in item["loc"]) or WHOLE_FORM
        text = _in_our_words(item["type"], item.get("ctx") or {}) or item["msg"]
        messages.setdefault(str(field), []).append(text)
    return messages


_WHOLE, _NUMBER, _YES_NO = "must be a whole number", "must be a number", "must be true or false"
WORDS = {
    "extra_forbidden": "is not a parameter of this strategy",
    "missing": "is missing",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing", "decimal_type", "decimal_parsing"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), _YES_NO),
    "finite_number": "must be a finite number",
    "string_type": "must be text",
}


def _in_our_words(kind: str, context: Mapping[str, Any]) -> str:
    """What is wrong with one field, for people; empty for a kind that brings its own words."""
    return WORDS.get(kind, "").format(**context)
