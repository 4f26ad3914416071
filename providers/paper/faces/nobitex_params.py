"""What a Nobitex request says: its parameters read, its lists filtered and sorted, and how a refusal is spelled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import Request

from providers.paper import keys
from providers.paper.faces import nobitex_wire as wire
from providers.paper.faces.common import JSON, amount, json_object, positive_int
from providers.paper.orders import Order, OrderRefused, Refusal
from providers.types import ZERO, Side

T = TypeVar("T")

_CODES = {
    Refusal.UNKNOWN_PAIR: "InvalidMarketPair",
    Refusal.NO_PRICE_YET: "MarketClosed",
    Refusal.BELOW_MIN_QUANTITY: "SmallOrder",
    Refusal.BELOW_MIN_NOTIONAL: "SmallOrder",
    Refusal.INSUFFICIENT_BALANCE: "OverValueOrder",
    Refusal.PRICE_MISSING: "InvalidOrderPrice",
    Refusal.STOP_MISSING: "InvalidOrderPrice",
    Refusal.STOP_UNEXPECTED: "InvalidOrderPrice",
    Refusal.STOP_ALREADY_CROSSED: "PriceConditionFailed",
    Refusal.LIMIT_BETTER_THAN_STOP: "BadPrice",
    Refusal.OUTSIDE_PRICE_BAND: "BadPrice",
    Refusal.UNEXPECTED_MARKET_PRICE: "UnexpectedMarketPrice",
    Refusal.OCO_CONDITION: "PriceConditionFailed",
    Refusal.DUPLICATE_CLIENT_ID: "DuplicateClientOrderId",
    Refusal.DUPLICATE_ORDER: "DuplicateOrder",
}


class Failure(Exception):
    """A refusal in Nobitex' shape; business failures travel with HTTP 200 (nobitex 2)."""

    def __init__(self, code: str, message: str, status: int = 200, **more: Any) -> None:
        super().__init__(message)
        self.code, self.status, self.more = code, status, more


def read_body(request: Request, raw: bytes, *, forms: bool = False) -> dict[str, Any]:
    """The parameters of a POST: JSON, and where `forms` are read too (only orders/add: nobitex 1) those of a form."""
    if request.method != "POST":
        return {}
    kind = request.headers.get("content-type", "")
    try:
        if forms and kind.startswith("application/x-www-form-urlencoded"):
            return dict(parse_qsl(raw.decode(), keep_blank_values=True))
        if forms and kind.startswith("multipart/form-data"):
            return _multipart(kind, raw)
        return json_object(raw)
    except ValueError as exc:
        raise Failure("ParseError", str(exc), 400) from exc


def _multipart(kind: str, raw: bytes) -> dict[str, Any]:
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw)
    if not message.is_multipart():
        raise ValueError("the form is not multipart")
    names = ((part.get_param("name", header="content-disposition"), part) for part in message.iter_parts())
    return {str(name): str(part.get_content()).strip("\r\n") for name, part in names if name}


def asset_of(code: Any) -> str:
    asset = str(code or "").upper()
    known = "IRT" if asset == "RLS" else asset
    if asset == "IRT" or known not in wire.NAMES:
        raise Failure("InvalidMarketPair", "Market Validation Failed")
    return known


def side_of(body: dict[str, Any]) -> Side:
    try:
        return Side(str(body.get("type", "")).upper())
    except ValueError as exc:
        raise Failure("ParseError", "Missing choices value", 400) from exc


def number_of(value: Any) -> Decimal | None:
    try:
        return amount(value)
    except ValueError as exc:
        raise Failure("ParseError", f"Invalid monetary value: {exc}", 400) from exc


def required(body: dict[str, Any], field: str) -> Decimal:
    value = number_of(body.get(field))
    if value is None:
        raise Failure("ParseError", f"Missing monetary value: {field}", 400)
    return value


def price_of(body: dict[str, Any], field: str, quote: str) -> Decimal | None:
    value = number_of(body.get(field))
    return None if value is None else value / wire.unit(quote)


def int_of(text: str | None, field: str, default: int) -> int:
    try:
        return default if text is None else int(text)
    except ValueError as exc:
        raise Failure("ParseError", f"Invalid integer value: {field}", 400) from exc


def time_of(text: str | None, field: str) -> datetime | None:
    """An ISO time, UTC where no zone is named."""
    try:
        return keys.time_of(text)
    except ValueError as exc:
        raise Failure("ParseError", f"Invalid datetime value: {field}", 400) from exc


_STATUSES: dict[str, Callable[[Order], bool]] = {
    "all": lambda order: True,
    "open": lambda order: order.state.is_working,
    "done": lambda order: bool(order.filled),
    "close": lambda order: not order.state.is_working,
}


def matches(order: Order, query: Any) -> bool:
    status = _STATUSES.get(query.get("status") or "open")
    if status is None:
        raise Failure("ParseError", "Missing choices value", 400)
    base, quote = order.pair.split("/")
    facts = {
        "type": order.side.value.lower(),
        "execution": next(name for name, kind in wire.EXECUTIONS.items() if kind is order.type),
        "tradeType": "spot",
        "srcCurrency": wire.code_of(base),
        "dstCurrency": wire.code_of(quote),
    }
    return status(order) and all((query.get(name) or fact) == fact for name, fact in facts.items())


def sort_orders(orders: list[Order], query: Any) -> None:
    """The exchange's default orders are odd on purpose (6.6)."""
    default = {"buy": "-price", "sell": "price"}.get(query.get("type", ""), "-created_at")
    asked = query.get("order") or ("-id" if "fromId" in query else default)
    keys: dict[str, Callable[[Order], Any]] = {
        "id": lambda order: order.id,
        "created_at": lambda order: (order.created_at, order.id),
        "price": lambda order: (order.price or ZERO, order.id),
    }
    key = keys.get(asked.removeprefix("-"))
    if key is None:
        raise Failure("ParseError", "Missing choices value", 400)
    orders.sort(key=key, reverse=asked.startswith("-"))


def page_of(rows: list[T], query: Any, *, default: int) -> tuple[list[T], bool]:
    """(the rows of the asked page, whether more follow). Raises `Failure` outside 1..100 (2.3)."""
    try:
        page = positive_int(query.get("page"), 1, 1_000_000)
        size = positive_int(query.get("pageSize"), default, 100)
    except ValueError as exc:
        raise Failure("ParseError", f"page or pageSize {exc}", 400) from exc
    return rows[(page - 1) * size : page * size], len(rows) > page * size


def refusal(refused: OrderRefused) -> Failure:
    code = _CODES.get(refused.refusal, "InvalidOrderPrice")
    return Failure(code, "Market Validation Failed" if code == "InvalidMarketPair" else "Order Validation Failed")


def failed(failure: Failure, body: dict[str, Any] | None = None) -> JSON:
    return JSON(failed_row(failure, body), failure.status)


def failed_row(failure: Failure, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is told of a refusal; orders add the client id they were sent with."""
    answer: dict[str, Any] = {"status": "failed", "code": failure.code, "message": str(failure), **failure.more}
    if body is not None:
        client_id = body.get("clientOrderId")
        answer["clientOrderId"] = client_id if isinstance(client_id, str) else None
    return answer
