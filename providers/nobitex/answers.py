"""What an answer of Nobitex means before its content is read: errors come with any status, mostly 200, and their code
decides, never their message (contract: nobitex 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from providers.errors import (
    AlreadySubmitted,
    BadPayload,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    RejectReason,
)
from providers.http import Answer, stated_wait
from providers.nobitex import mapping
from providers.nobitex.schemas import FailureSchema
from providers.redaction import redact
from providers.wire import as_mapping, parse


def said_ok(answer: Answer) -> Mapping[str, Any]:
    """The body of a successful answer to a read."""
    return ok_or(answer, lambda failure: BadPayload(f"refused with {reason_of(answer, failure)}"))


def is_refusal(answer: Answer, payload: Mapping[str, Any]) -> bool:
    """Whether the exchange clearly said no: not a body that merely fails to say yes."""
    return payload.get("status") == "failed" or answer.status in (400, 404, 422)


def accepted(answer: Answer, is_stop: bool) -> Mapping[str, Any]:
    """The body of an accepted order; otherwise what the refusal means."""
    return ok_or(answer, lambda failure: refusal(answer, failure, is_stop))


def ok_or(answer: Answer, error: Callable[[FailureSchema], ProviderError]) -> Mapping[str, Any]:
    """The body of an answer that says ok; otherwise raises `RateLimited` where it says too often, else `error`."""
    payload = as_mapping(answer.payload, "the answer")
    if answer.ok and payload.get("status") == "ok":
        return payload
    failure = parse(FailureSchema, payload)
    raise_if_limited(failure, payload)
    raise error(failure)


def refusal(answer: Answer, failure: FailureSchema, is_stop: bool) -> ProviderError:
    """A definite no needs a code of the table or a status that says so; anything else leaves the outcome open."""
    code, detail = failure.code_text, reason_of(answer, failure)
    if code in mapping.DUPLICATES:
        return AlreadySubmitted(f"nobitex holds this order, or one like it, already: look it up; {detail}")
    if code in mapping.REASONS or answer.status in (400, 404, 405, 422):
        reason = mapping.REASONS.get(code, RejectReason.INVALID if answer.status in (400, 422) else RejectReason.OTHER)
        if code == "PriceConditionFailed" and not is_stop:
            reason = RejectReason.PRICE_OUT_OF_BAND
        return OrderRejected(f"nobitex refused the order: {detail}", reason=reason, code=code)
    return OutcomeUnknown(f"nobitex refused with a code that proves nothing: look the order up; {detail}")


def raise_if_limited(failure: FailureSchema, payload: Mapping[str, Any]) -> None:
    if failure.code_text == "TooManyRequests":
        seconds = stated_wait({}, payload)
        raise RateLimited(
            "nobitex: called too often; nothing was done", retry_after=10.0 if seconds is None else seconds
        )


def reason_of(answer: Answer, failure: FailureSchema) -> str:
    """Status, code and the exchange's own words, masked and short."""
    said = (failure.detail, failure.error, failure.message)
    text = next((words for words in said if words is not None), None)
    return redact(f"HTTP {answer.status} code {failure.code_text or 'none'}: {text}")[:300]
