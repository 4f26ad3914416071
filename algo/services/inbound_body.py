"""What an inbound signal may say. Nothing else is taken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from algo.strategies.external import ExternalSignalsSchema
from algo.strategies.schemas import InvalidParameters, StrategySchema, field_errors

MOST_BYTES = 4096
Percent = Annotated[Decimal, Field(gt=0, le=1000, max_digits=12)]


class AlertBody(BaseModel):
    """One signal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[!-~]{1,64}$", description="Unique for the strategy: the same id acts once.")
    time: AwareDatetime = Field(description="When it was given, with its zone. TradingView: `{{timenow}}`.")
    action: Literal["buy", "sell", "close"] = Field(description="`close` closes what the strategy has open.")
    market: str = Field(
        pattern=r"^[0-9A-Za-z/_-]{1,32}$", description="The strategy's own market: symbol or pair. A safeguard."
    )
    stop_loss_percent: Percent | None = Field(None, description="Instead of the strategy's, within its bounds.")
    take_profit_percent: Percent | None = Field(None, description="Instead of the strategy's, within its bounds.")
    confidence: Annotated[Decimal, Field(gt=0, le=1, max_digits=12)] | None = Field(
        None, description="Scales the size of the position, up to the strategy's bound."
    )
    price: Annotated[Decimal, Field(gt=0, lt=Decimal("1e15"), max_digits=30)] | None = Field(
        None, description="Where the sender saw the price: no entry where the market's is too far from it (basis)."
    )
    secret: str | None = Field(None, max_length=200, description="Instead of a signature in the headers.")

    @field_validator("time", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        if not isinstance(value, str | datetime):
            raise ValueError("must be text, as 2026-11-02T10:00:00Z")  # noqa: TRY004 - pydantic's way
        return value

    def told(self) -> dict[str, Any]:
        """As it is kept: without the secret."""
        return self.model_dump(mode="json", exclude={"secret"}, exclude_none=True)

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.told(), sort_keys=True).encode()).hexdigest()


class BodyInvalid(ValueError):
    """What was sent is no signal. `errors` has the messages of each field."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        self.errors = dict(errors)
        super().__init__("; ".join(f"{name}: {text}" for name, texts in errors.items() for text in texts))


def body_read(body: bytes) -> AlertBody:
    """Raises BodyInvalid; its words never repeat what was sent."""
    try:
        return AlertBody.model_validate_json(body)
    except ValidationError as error:
        raise BodyInvalid(field_errors(error)) from None


def rules_of(body: Mapping[str, Any], parameters: ExternalSignalsSchema) -> tuple[StrategySchema, Decimal]:
    """The rules of a deal by this signal, and its confidence. Raises BodyInvalid where it wants more than the strategy
    allows."""
    bounds = {
        "stop_loss_percent": parameters.largest_stop_loss_percent,
        "take_profit_percent": parameters.largest_take_profit_percent,
        "confidence": parameters.largest_confidence,
    }
    wanted = {name: Decimal(str(body[name])) for name in bounds if body.get(name) is not None}
    if beyond := {
        name: [f"is beyond what the strategy allows a signal: at most {bounds[name]}"]
        for name, value in wanted.items()
        if value > bounds[name]
    }:
        raise BodyInvalid(beyond)
    confidence = wanted.pop("confidence", parameters.largest_confidence)
    try:
        return type(parameters).model_validate({**parameters.model_dump(), **wanted}), confidence
    except ValidationError as error:
        raise BodyInvalid(InvalidParameters(field_errors(error)).errors) from None
