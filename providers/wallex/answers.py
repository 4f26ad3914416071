"""What an answer of Wallex means: a value, or one of our errors (contract: wallex 1.3, 5, 6)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from providers.errors import (
    AlreadySubmitted,
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RejectReason,
)
from providers.http import Answer
from providers.redaction import redact
from providers.types import OrderRef, OrderReport, OrderRequest
from providers.wallex import mapping
from providers.wallex.schemas import FeeSchema, OrderSchema, TradeSchema
from providers.wire import UdfHistory, as_list, as_mapping, parse

OUR_ID = re.compile(r"[A-Z0-9_]{1,32}")
_THEIR_ID = re.compile(r"[A-Z_]{3,12}-[0-9A-Fa-f-]{32,36}")  # made by the exchange: LIMIT-<uuid>

logger = logging.getLogger("providers.wallex")

T = TypeVar("T")


def result_of(answer: Answer) -> Any:
    """`result` of a successful answer. An error where no error has a meaning of its own is BadPayload or AuthFailed."""
    payload = as_mapping(answer.payload, "the answer")
    if answer.ok and payload.get("success") is True:
        return payload.get("result")
    raise failure(answer, payload)


def mapping_of(answer: Answer) -> Mapping[str, Any]:
    return as_mapping(result_of(answer), "result")


def is_its_word(answer: Answer) -> bool:
    """Whether the exchange itself said no, and not a gateway or a page in front of it (contract: wallex 1.3, 1.5)."""
    return isinstance(answer.payload, dict) and answer.payload.get("success") is False


def failure(answer: Answer, payload: Mapping[str, Any]) -> ProviderError:
    if "1201" in mapping.error_codes(payload):
        return AuthFailed("wallex: code 1201, the API key is missing or malformed; nothing was done")
    return BadPayload(f"refused with {told(answer, payload)}")


def told(answer: Answer, payload: Mapping[str, Any]) -> str:
    """The refusal in one line. A gateway says `message` or `detail` and nothing else (contract: wallex 1.3)."""
    codes = ",".join(mapping.error_codes(payload)) or "none"
    fields = ",".join(mapping.error_fields(payload)) or "none"
    return redact(
        f"HTTP {answer.status} code {codes} fields {fields}: {payload.get('message') or payload.get('detail')}"
    )[:300]


def rows_of(payloads: Iterable[tuple[str, Any]], read: Callable[[Any], T], what: str) -> list[T]:
    """What could be read of many entries. One that cannot is left out and logged; none at all is BadPayload."""
    found = []
    for name, payload in payloads:
        try:
            found.append(read(payload))
        except BadPayload as exc:
            logger.warning("%s left out provider=wallex name=%s reason=%s", what, redact(name)[:40], exc)
    if not found:
        raise BadPayload(f"not one readable {what}")
    return found


def chart(answer: Answer) -> UdfHistory:
    """The chart has no envelope (contract: wallex 3.6); an error may have one."""
    payload = as_mapping(answer.payload, "the answer")
    if not answer.ok or "s" not in payload:
        raise failure(answer, payload)
    return parse(UdfHistory, payload)


def fees(answer: Answer) -> dict[str, FeeSchema]:
    """Rates by market; `default` and `metaData` stand between them (contract: wallex 4)."""
    entries = mapping_of(answer).items()
    return {symbol: parse(FeeSchema, fee) for symbol, fee in entries if isinstance(fee, dict) and "takerFeeRate" in fee}


def order_rows(result: Any) -> list[Any]:
    """Orders from `{"orders": []}`, a bare list, or a map of lists (contract: wallex 5.4)."""
    if isinstance(result, list):
        return result
    groups = as_mapping(result, "result")
    lists = [groups["orders"]] if "orders" in groups else [g for key, g in groups.items() if key != "result_info"]
    return [row for group in lists for row in as_list(group, "orders")]


def own_trade_rows(result: Any) -> list[Any]:
    return as_list(as_mapping(result, "result").get("AccountLatestTrades"), "trades")


def public_trades(answer: Answer) -> list[TradeSchema]:
    return [parse(TradeSchema, trade) for trade in as_list(mapping_of(answer).get("latestTrades"), "trades")]


def symbols(answer: Answer) -> Iterable[tuple[str, Any]]:
    """The markets by symbol of the list that has their minimums."""
    return as_mapping(mapping_of(answer).get("symbols"), "symbols").items()


def named_rows(result: Any) -> list[tuple[str, Any]]:
    """(name, row) of a list, or of a map by name."""
    if isinstance(result, list):
        return [(str(number), row) for number, row in enumerate(result)]
    return list(as_mapping(result, "result").items())


def total_count(payload: Mapping[str, Any]) -> int | None:
    info = payload.get("result_info")
    total = info.get("total_count") if isinstance(info, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) else None


def order_body(request: OrderRequest) -> dict[str, str]:
    """Checked before anything is sent: what cannot be an order is rejected here."""
    if not OUR_ID.fullmatch(request.client_order_id):
        raise OrderRejected("client_order_id must match [A-Z0-9_]{1,32}: not sent", reason=RejectReason.INVALID)
    try:
        return mapping.to_wire_order(request)
    except ValidationError as exc:
        detail = "; ".join(error["msg"] for error in exc.errors()[:3])
        raise OrderRejected(f"not a possible Wallex order, not sent: {detail}", reason=RejectReason.INVALID) from None


def created(answer: Answer, request: OrderRequest) -> OrderReport:
    payload = as_mapping(answer.payload, "the answer")
    if not (answer.ok and payload.get("success") is True):
        raise refusal(answer, payload)
    raw = as_mapping(payload.get("result"), "result")
    order = parse(OrderSchema, raw)
    same_order = (order.symbol, order.side, order.type) == (request.symbol, request.side, request.type)
    same_id = order.clientOrderId == request.client_order_id
    if not same_order or not (
        same_id or (_THEIR_ID.fullmatch(order.clientOrderId) and order.origQty == request.quantity)
    ):
        raise BadPayload(f"the answer is about order {redact(order.clientOrderId)[:40]}")
    return mapping.to_report(order, raw, client_order_id=request.client_order_id)


def refusal(answer: Answer, payload: Mapping[str, Any]) -> ProviderError:
    """A definite no needs a status or a code that says so; anything else leaves the outcome open."""
    codes, detail = mapping.error_codes(payload), told(answer, payload)
    if "1201" in codes:
        return failure(answer, payload)
    if "client_id" in mapping.error_fields(payload):
        return AlreadySubmitted(f"wallex knows this client id already: look the order up; {detail}")
    reason = mapping.reject_reason(codes)
    definite = answer.status in (400, 422) or (answer.status in (404, 405) and is_its_word(answer))
    if definite or reason is not RejectReason.OTHER:
        return OrderRejected(f"wallex refused the order: {detail}", reason=reason, code=codes[0] if codes else "")
    return OutcomeUnknown(f"wallex neither took nor clearly refused the order: look it up; {detail}")


def canceled(answer: Answer, ref: OrderRef) -> OrderReport | bool:
    """The order after the cancel. Not found (404, 405) is no order: True where the exchange itself says so, False where
    something in front of it does not know the call."""
    if answer.status in (404, 405):
        return is_its_word(answer)
    payload = as_mapping(answer.payload, "the answer")
    if answer.status in (400, 422):
        raise OrderNotFound(f"wallex has no such open order: {told(answer, payload)}")
    return one_order(result_of(answer), ref)


def one_order(raw: Any, ref: OrderRef) -> OrderReport:
    order = parse(OrderSchema, as_mapping(raw, "result"))
    if order.clientOrderId not in (ref.exchange_order_id, ref.client_order_id) or order.symbol != ref.symbol:
        raise BadPayload(f"the answer is about order {redact(order.clientOrderId)[:40]} on {redact(order.symbol)[:20]}")
    return mapping.to_report(order, raw, client_order_id=ref.client_order_id)


def order_id_of(ref: OrderRef) -> str:
    order_id = ref.exchange_order_id or ref.client_order_id
    if not order_id:
        raise ValueError("an order without any id cannot be named to the exchange")
    return order_id
