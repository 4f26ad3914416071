"""What can go wrong at an exchange. A type tells its catcher what to *do*, not only what happened.

ProviderError
├── Unavailable            nothing was accepted: safe to try again later
│   └── RateLimited        ... after `retry_after` seconds
│       └── CircuitOpen    ... because the exchange has not been answering
├── OutcomeUnknown         a write may have been accepted: ask the exchange, never assume
│   └── AlreadySubmitted   the exchange says it holds this order already: look it up
├── OrderRejected          a definite no: the order does not exist
├── OrderNotFound          the exchange does not know the order (evidence, not proof)
├── AuthFailed             the key is wrong, expired or lacks a permission: stop using it
└── BadPayload             an answer to a read that we cannot understand: treat as no answer
"""

from __future__ import annotations

from enum import StrEnum


class RejectReason(StrEnum):
    """Why an exchange refused an order, in our words; the exchange's own code stays in `OrderRejected.code`."""

    INSUFFICIENT_BALANCE = "insufficient_balance"
    BELOW_MINIMUM = "below_minimum"
    PRICE_OUT_OF_BAND = "price_out_of_band"
    STOP_ALREADY_CROSSED = "stop_already_crossed"
    MARKET_CLOSED = "market_closed"
    INVALID = "invalid"
    OTHER = "other"


class ProviderError(Exception):
    """Root of everything an exchange client raises."""


class Unavailable(ProviderError):
    """Nothing was accepted (refused connection, failed name lookup, failed read): safe to try again."""


class RateLimited(Unavailable):
    """Refused for calling too often; nothing was accepted. Do not call this endpoint before `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CircuitOpen(RateLimited):
    """Not even tried: the exchange has not been answering for a while. Nothing was sent."""


class OutcomeUnknown(ProviderError):
    """A write was sent, or may have been, and no usable answer came back. Only the exchange can tell."""


class AlreadySubmitted(OutcomeUnknown):
    """The exchange refuses a duplicate: evidence that an order like this one is there. Look it up."""


class OrderRejected(ProviderError):
    """The exchange understood and refused: no order exists."""

    def __init__(self, message: str, *, reason: RejectReason = RejectReason.OTHER, code: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code


class OrderNotFound(ProviderError):
    """The exchange does not know this order. Absence in one answer is evidence, not proof."""


class AuthFailed(ProviderError):
    """The key is missing, wrong, expired or not permitted. Every further call makes it worse: stop."""


class BadPayload(ProviderError):
    """The answer to a read does not have the agreed form. It counts as no answer."""
