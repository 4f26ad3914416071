"""Placing and cancelling spot orders at Nobitex (contract: nobitex 6.1, 6.7 to 6.9). Every method is one write on the
wire; what may be concluded from its answer is said by the error it raises."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from providers.budgets import Priority
from providers.errors import (
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    RejectReason,
    Unavailable,
)
from providers.http import Answer
from providers.nobitex import mapping
from providers.nobitex.answers import accepted, is_refusal, ok_or, raise_if_limited, reason_of, said_ok
from providers.nobitex.endpoints import ADD, ADD_BATCH, ADD_OCO, CANCEL_BATCH, CANCEL_OLD, LIST, PROTECT, STATUS, UPDATE
from providers.nobitex.mapping import split_symbol
from providers.nobitex.orders import OrderReads, check_same_order, name_of, order_number
from providers.nobitex.results import BatchItem, CancelAnswer
from providers.nobitex.schemas import CancelVerdictSchema, FailureSchema
from providers.nobitex.session import check_symbol
from providers.redaction import redact
from providers.types import OcoRequest, OrderRef, OrderReport, OrderRequest, OrderType
from providers.wire import as_list, as_mapping, parse

MOST_ORDERS_AT_ONCE = 20  # ours: the exchange names no number for batch-add
MOST_CANCELS_AT_ONCE = 20  # contract: nobitex 6.9
_SHARED_LIMIT_SECONDS = 60.0  # when to come back after the exchange stopped inside a batch: a tenth of its window
_OUR_ID = re.compile(r"[A-Z0-9_]{1,32}")


class Trading(OrderReads):
    """Writes. None of them is ever sent twice."""

    def can_place(self, orders: int = 1) -> bool:
        return self._http.ready(PROTECT, orders)

    def can_list(self, lists: int = 1) -> bool:
        return self._http.ready(LIST, lists)

    def can_ask(self, orders: int = 1) -> bool:
        return self._http.ready(STATUS, orders)

    def create_order(self, request: OrderRequest) -> OrderReport:
        body = _body(request)

        def read(answer: Answer) -> OrderReport:
            return self._one_order(accepted(answer, request.type.is_stop), request)

        return self._http.call(PROTECT if request.type.is_stop else ADD, read, body=body)

    def create_oco(self, request: OcoRequest) -> tuple[OrderReport, OrderReport]:
        body = _oco_body(request)
        return self._http.call(ADD_OCO, lambda a: self._two_legs(accepted(a, is_stop=True), request), body=body)

    def create_orders(self, requests: Sequence[OrderRequest | OcoRequest]) -> list[BatchItem]:
        """Several orders in one request, each accepted or refused for itself; an item for each, in the order asked.

        The exchange stops where its order limit is reached: the items after that carry `RateLimited`, nothing was done
        for them. When the whole call raises `OutcomeUnknown`, that is the state of every order in it. Raises
        `OrderRejected` before anything is sent if one of them cannot be an order, or there are more than 20."""
        if not requests:
            return []
        bodies = [_body_of(request) for request in requests]
        _check_batch(requests)
        protects = any(_has_stop(request) for request in requests)
        endpoint = replace(ADD_BATCH, priority=Priority.EXITS) if protects else ADD_BATCH
        return self._http.call(
            endpoint, lambda answer: self._batch(answer, requests), body={"data": bodies}, calls=len(requests)
        )

    def cancel_order(self, ref: OrderRef) -> OrderReport:
        """A refused cancel is `OrderNotFound`: the order is unknown or has ended; read it back. An answer that does not
        show the order as canceled is read back here."""
        report = self._http.call(UPDATE, lambda a: self._canceled(a, ref), body={"status": "canceled", **name_of(ref)})
        if report is not None and report.status.is_final:
            return report
        known = replace(ref, exchange_order_id=report.exchange_order_id) if report else ref
        try:
            return self.fetch_order(known)
        except (OrderNotFound, Unavailable, BadPayload) as exc:
            if report is not None:
                return report
            raise OutcomeUnknown(f"nobitex took the cancel and did not show the order: look it up; {exc}") from None

    def cancel_orders(self, exchange_order_ids: Sequence[str]) -> list[CancelAnswer]:
        """Queue the cancels of at most 20 orders; an answer for each, in the order asked. The exchange carries them out
        later: read each order until it has ended (contract: 6.9). Raises ValueError for more than 20."""
        if len(exchange_order_ids) > MOST_CANCELS_AT_ONCE:
            raise ValueError(f"at most {MOST_CANCELS_AT_ONCE} orders can be cancelled in one call")
        if not exchange_order_ids:
            return []
        numbers = [order_number(order_id) for order_id in exchange_order_ids]

        def read(answer: Answer) -> list[CancelAnswer]:
            verdicts = as_mapping(_done(answer, "cancels").get("orders") or {}, "orders")
            return [_cancel_answer(order_id, verdicts) for order_id in exchange_order_ids]

        return self._http.call(CANCEL_BATCH, read, body={"orderIds": numbers})

    def cancel_old(
        self, symbol: str | None = None, *, older_than: timedelta | None = None, type: OrderType | None = None
    ) -> None:
        """Cancel the active spot orders, of one market or type, or older than a time; the answer names none of them.

        No kill switch: plain stops that wait for their trigger are not touched, the legs of an OCO are (contract: 6.8).
        Whatever happens, list the open orders afterwards. A refusal raises `OutcomeUnknown` for that reason."""
        body: dict[str, Any] = {"tradeType": "spot"}  # without it margin orders may go as well
        if symbol is not None:
            check_symbol(symbol)
            body |= split_symbol(symbol).codes
        if type is not None:
            body["execution"] = mapping.EXECUTIONS[type]
        if older_than is not None:
            body["hours"] = older_than / timedelta(hours=1)
        self._http.call(CANCEL_OLD, lambda answer: _done(answer, "cancels"), body=body)

    # --- reading answers ---

    def _one_order(self, payload: Mapping[str, Any], request: OrderRequest) -> OrderReport:
        report = self._report(payload.get("order"), split_symbol(request.symbol))
        _check_asked(report, request)
        return report

    def _two_legs(self, payload: Mapping[str, Any], request: OcoRequest) -> tuple[OrderReport, OrderReport]:
        pair = split_symbol(request.symbol)
        limit, stop = mapping.oco_legs([self._report(row, pair) for row in as_list(payload.get("orders"), "orders")])
        _check_asked(limit, request)
        if stop.side is not request.side:
            raise BadPayload("the stop leg of the answer is on the other side")
        return limit, stop

    def _batch(self, answer: Answer, requests: Sequence[OrderRequest | OcoRequest]) -> list[BatchItem]:
        results = as_list(accepted(answer, is_stop=False).get("results"), "results")
        if len(results) > len(requests):
            raise BadPayload(f"{len(results)} results for {len(requests)} orders")
        items = [self._item(result, request) for result, request in zip(results, requests, strict=False)]
        return items + [BatchItem(request, error=_not_processed()) for request in requests[len(results) :]]

    def _item(self, result: Any, request: OrderRequest | OcoRequest) -> BatchItem:
        """One result, judged as if its order had been sent alone. One that names another order spoils the whole answer:
        then the results are not in the order of the requests."""
        _check_names(result, request)
        try:
            payload = accepted(Answer(200, result), is_stop=_has_stop(request))
            if isinstance(request, OcoRequest):
                return BatchItem(request, self._two_legs(payload, request))
            return BatchItem(request, (self._one_order(payload, request),))
        except (BadPayload, ValueError, ArithmeticError, RecursionError) as exc:
            text = redact(f"nobitex create_orders: unusable result: {exc}; look the order up")[:400]
            return BatchItem(request, error=OutcomeUnknown(text))
        except ProviderError as exc:
            return BatchItem(request, error=exc)

    def _canceled(self, answer: Answer, ref: OrderRef) -> OrderReport | None:
        """The order after the cancel, or None where it was not sent."""
        payload = as_mapping(answer.payload, "the answer")
        if is_refusal(answer, payload):
            failure = parse(FailureSchema, payload)
            raise_if_limited(failure, payload)
            raise OrderNotFound(f"nobitex did not cancel: {reason_of(answer, failure)}; read the order back")
        if not said_ok(answer).get("order"):
            return None
        report = self._report(payload["order"], split_symbol(ref.symbol))
        check_same_order(report, ref)
        return report


def _done(answer: Answer, what: str) -> Mapping[str, Any]:
    """The body of a write that was taken. A refusal of several cancels at once proves nothing about each."""

    def unknown(failure: FailureSchema) -> OutcomeUnknown:
        return OutcomeUnknown(f"nobitex refused the {what}: {reason_of(answer, failure)}; list the open orders")

    return ok_or(answer, unknown)


def _cancel_answer(order_id: str, verdicts: Mapping[str, Any]) -> CancelAnswer:
    if order_id not in verdicts:
        return CancelAnswer(order_id, None)
    verdict = parse(CancelVerdictSchema, verdicts[order_id])
    return CancelAnswer(order_id, verdict.status == "ok", redact(verdict.message or "")[:200])


def _not_processed() -> RateLimited:
    return RateLimited(
        "nobitex stopped before this order: its order limit is reached; nothing was done",
        retry_after=_SHARED_LIMIT_SECONDS,
    )


def _check_names(result: Any, request: OrderRequest | OcoRequest) -> None:
    """Raises BadPayload when a result says that it is about another order than the one at its place."""
    legs = result.get("orders") if isinstance(result, dict) else None
    rows = [result, result.get("order"), *(legs if isinstance(legs, list) else [])] if isinstance(result, dict) else []
    named = [row.get("clientOrderId") for row in rows if isinstance(row, dict)]
    if any(name not in (None, request.client_order_id) for name in named):
        raise BadPayload("the results are not in the order of the requests")


# --- before anything is sent -----------------------------------------------------------------------------------------


def _has_stop(request: OrderRequest | OcoRequest) -> bool:
    return isinstance(request, OcoRequest) or request.type.is_stop


def _body_of(request: OrderRequest | OcoRequest) -> dict[str, str]:
    return _oco_body(request) if isinstance(request, OcoRequest) else _body(request)


def _check_batch(requests: Sequence[OrderRequest | OcoRequest]) -> None:
    if len(requests) > MOST_ORDERS_AT_ONCE:
        text = f"{len(requests)} orders in one batch, more than {MOST_ORDERS_AT_ONCE}: nothing sent"
        raise OrderRejected(text, reason=RejectReason.INVALID)
    if len({request.client_order_id for request in requests}) != len(requests):
        raise OrderRejected("a client_order_id twice in one batch: nothing sent", reason=RejectReason.INVALID)


def _body(request: OrderRequest) -> dict[str, str]:
    """Checked before anything is sent: what cannot be an order is rejected here."""
    needs_price = request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    needed = [request.price] if needs_price else []
    needed += [request.stop_price] if request.type.is_stop else []
    _check(request, [request.quantity, *needed], [request.price] if request.price is not None else [])
    if request.stop_price is not None and not request.type.is_stop:
        raise OrderRejected(f"{request.type} takes no stop price: not sent", reason=RejectReason.INVALID)
    return mapping.to_wire_order(request)


def _oco_body(request: OcoRequest) -> dict[str, str]:
    _check(request, [request.quantity, request.price, request.stop_price, request.stop_limit_price], [])
    return mapping.to_wire_oco(request)


def _check(request: OrderRequest | OcoRequest, needed: Sequence[Decimal | None], optional: Sequence[Decimal]) -> None:
    if not _OUR_ID.fullmatch(request.client_order_id):
        raise OrderRejected("client_order_id must match [A-Z0-9_]{1,32}: not sent", reason=RejectReason.INVALID)
    if not all(value is not None and value.is_finite() and value > 0 for value in [*needed, *optional]):
        raise OrderRejected("an amount or price is missing or not positive: not sent", reason=RejectReason.INVALID)
    try:
        check_symbol(request.symbol)
    except BadPayload as exc:
        raise OrderRejected(f"{exc}: not sent", reason=RejectReason.INVALID) from None


def _check_asked(report: OrderReport, request: OrderRequest | OcoRequest) -> None:
    """Raises BadPayload when the answer is about another order: one without our id must match in side and amount."""
    same_id = report.client_order_id == request.client_order_id
    looks_same = report.client_order_id is None and report.quantity == request.quantity
    if report.exchange_order_id is None or report.side is not request.side or not (same_id or looks_same):
        raise BadPayload(f"the answer is about order {redact(str(report.client_order_id))[:40]}")
