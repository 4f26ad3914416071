"""How Wallex says no, and how it pages (contract: wallex 1.1 to 1.3)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from providers.paper.faces.common import positive_int
from providers.paper.orders import OrderRefused, Refusal

_FIELDS = {
    Refusal.UNKNOWN_PAIR: "symbol",
    Refusal.NO_PRICE_YET: "symbol",
    Refusal.PRICE_PRECISION: "price",
    Refusal.PRICE_MISSING: "price",
    Refusal.STOP_PRECISION: "stop_Price",
    Refusal.STOP_MISSING: "stop_Price",
    Refusal.STOP_UNEXPECTED: "stop_Price",
    Refusal.STOP_EQUALS_LAST: "stop_Price",
    Refusal.DUPLICATE_CLIENT_ID: "client_id",
}
_CODES = {Refusal.BELOW_MIN_NOTIONAL: 1003, Refusal.INSUFFICIENT_BALANCE: 1006}


class Failure(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: int, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.result = {} if result is None else result


def invalid(field: str, text: str, code: int | None = None) -> Failure:
    """The validation envelope: the specific code, if any, is in `error_code` (1.3)."""
    result: dict[str, Any] = {field: [text]}
    if code is not None:
        result["error_code"] = [code]
    return Failure(422, 422, "The given data was invalid.", result)


def refusal_of(refused: OrderRefused) -> Failure:
    return invalid(_FIELDS.get(refused.refusal, "quantity"), str(refused), _CODES.get(refused.refusal))


def page_in(request: Request, *, default: int) -> tuple[int, int]:
    """(rows to skip, rows to show) of `page` and `per_page`. Raises `Failure`."""
    try:
        page = positive_int(request.query_params.get("page"), 1, 1_000_000)
        size = positive_int(request.query_params.get("per_page"), default, 100)
    except ValueError as exc:
        raise invalid("page", str(exc)) from exc
    return (page - 1) * size, size
