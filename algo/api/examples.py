"""Examples in the OpenAPI document: of every body that is sent and every answer, made from the document itself and the
words below. The story is one deal: bought at 50,000 and left at its target.

A field that stands in no table gets what its type allows; `tests/api/test_examples.py` holds each to its schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

BEGIN, END, AHEAD = "2026-11-02T10:00:00Z", "2026-11-02T10:20:00Z", "2027-01-31T00:00:00Z"
_BY_NAME: dict[str, Any] = {
    # times
    **dict.fromkeys(("closed_at", "finished_at", "end", "to", "last", "data_to", "resolved_at", "answered_at"), END),
    **dict.fromkeys(("expiry", "key_expires_at"), AHEAD),
    # amounts
    **dict.fromkeys(("entry_price", "planned_price", "average_price", "price", "open", "bid"), "50000"),
    **dict.fromkeys(("initial_stop_price", "stop_price", "low"), "49850"),
    **dict.fromkeys(("target_price", "best_price", "exit_price", "high", "close", "ask"), "50300"),
    **dict.fromkeys(
        ("planned_quantity", "entry_quantity", "exit_quantity", "quantity", "filled_quantity", "total", "available"),
        "0.01",
    ),
    **dict.fromkeys(("dust_quantity", "locked"), "0"),
    **dict.fromkeys(("profit", "amount", "equity", "expectancy", "average_win"), "0.6"),
    **dict.fromkeys(("fees_quote", "fees"), "2.4"),
    **dict.fromkeys(("maker", "maker_fee_rate"), "0.002"),
    **dict.fromkeys(("taker", "taker_fee_rate"), "0.003"),
    "average_loss": "2.5",
    "balance": "10000",
    "base_balance": "0",
    "confidence": "0.8",
    "fee": "0.00003",
    "fee_percent": "0.25",
    "market_band": "0.02",
    "min_notional": "5",
    "min_quantity": "0.000001",
    "notional": "500",
    "price_band": "0.3",
    "risk_multiple": "0.40",
    "slippage_percent": "0.05",
    "step_size": "0.000001",
    "tick_size": "0.01",
    "unprotected_seconds": "0.4",
    "volume": "12.5",
    # words
    "account": 1,
    "act": "deal.close",
    "attr": "parameters.rsi_period",
    "api_key": "the-key-that-the-exchange-showed-once",
    "asset": "BTC",
    "base": "BTC",
    "client_order_id": "A1D7E1",
    "code_version": "0.1.0",
    "config_name": "breakout BTC",
    "data_fingerprint": "9f86d081884c7d65",
    "database": "PostgreSQL 16.4",
    "denial_code": "",
    "denial_message": "",
    "detail": "Must be at least 2",
    "description": "Buys what closes above its highest high.",
    "django": "5.2",
    "exchange_order_id": "118233",
    "fee_asset": "BTC",
    "field": "parameters.rsi_period",
    "host": "hooks.example.org",
    "key_hint": "…zq7X",
    "kind": "deal.closed",
    "label": "of my laptop",
    "last_error": "",
    "name": "breakout BTC",
    "owner": "sara",
    "pair": "BTC/USDT",
    "password": "correct horse battery staple",
    "protection": "the stop rests at the exchange and makes way for the target when it is reached",
    "python": "3.11.7",
    "quote": "USDT",
    "reason": "breakout",
    "reference": "118233",
    "resolution": "1",
    "side": "BUY",
    "source": "database",
    "strategy": "BreakoutStrategy",
    "subject_id": "7",
    "subject_kind": "deal",
    "subject_name": "7 BTCUSDT",
    "strategy_fingerprint": "2c26b46b68ffc68f",
    "symbol": "BTCUSDT",
    "text": "0.01 at 50000 USDT",
    "time_zone": "Asia/Tehran",
    "token": "80bc9bda19f4f992846f93239d2ac7611d6746cd0078710c356c89a18c730ac8",
    "title": "Deal planned",
    "trade_id": "99120",
    "version": 3,
    "why": "slower",
    **dict.fromkeys(("username", "user", "who", "changed_by", "created_by", "requested_by", "resolved_by"), "sara"),
    **dict.fromkeys(("error", "why_not", "note", "answer_note", "state_reason"), ""),
    # numbers
    **dict.fromkeys(("id", "deal", "deals"), 7),
    **dict.fromkeys(("missing", "failing", "given_up", "stopped", "keys_ending", "losses", "gap_count"), 0),
    "market": 27,
    "order": 21,
    "signal": 12,
    "progress": 100,
    "win_rate_percent": 60.0,
    "profit_factor": 1.2,
    "average_r": 0.4,
    # documents
    "asked": {"from": BEGIN, "to": END, "sides": "BUY", "fill_model": "conservative"},
    "best": {"values": {"breakout_period": 30}, "sharpe": 1.5},
    "objectives": ["sharpe"],
    "after": 21,
    "before": 14,
    "details": {"before": "49850", "after": "50000"},
    "indicators": {"rsi": 61.2, "volume_ratio": 1.7},
    "journal": {},
    "numbers": {"rsi": "61.2", "volume_ratio": "1.7"},
    "parameters": {"rsi_period": 14, "take_profit_percent": "1.5"},
    "payload": {"deal": 7, "profit": "0.6"},
    "report": {"strategy": "BreakoutStrategy", "models": {}},
    "summary": {"strategy": "BreakoutStrategy", "models": {}},
    "values": {"parameters.rsi_period": 14},
    "space": ["breakout_period=10:40:5"],
    "problems": [],
    "warnings": [],
    "errors": [],
    "unknown": [],
    "viewers": ["reza"],
    "key_scopes": ["read", "trade"],
    "answers": ["adopt", "close", "dismiss"],
    **dict.fromkeys(("previous", "unprotected_since", "next_attempt_at", "adopt_config", "unknown_since"), None),
}
# Where the name alone says too little: fields of one component. None: null; LEFT_OUT: not sent.
LEFT_OUT = object()
_BY_COMPONENT: dict[str, dict[str, Any]] = {
    "Account": {"id": 1, "name": "main", "key_expires_at": None},
    "AccountName": {"id": 1, "name": "main"},
    "AccountOpenRequest": {"name": "main", "owner": LEFT_OUT, "viewers": LEFT_OUT, "key_expires_at": LEFT_OUT},
    "PatchedAccountChangeRequest": {"name": LEFT_OUT, "owner": LEFT_OUT, "viewers": LEFT_OUT},
    "Audit": {"reason": "news"},
    "BacktestStartRequest": {
        "strategy": LEFT_OUT,
        "market": LEFT_OUT,
        "start": "2026-10-01T00:00:00Z",
        "sides": LEFT_OUT,
    },
    "CandleFetch": {"id": 3, "reached": END, "new": 20, "end": END},
    "Capabilities": {"oco": False, "finds_closed_by_client_id": False, "market_takes_price": False},
    "Check": {"summary": "every check passed", "source": "the 2,004 newest stored candles of BTCUSDT @ Nobitex"},
    "CloneRequest": {"name": "breakout BTC, slower"},
    "Coverage": {"stored": 20, "gaps": []},
    "Decision": {
        "outcome": "no_signal",
        "code": "no_signal",
        "why": "Nearest was breakout buy: it lacked volume.",
        "journal": {"conditions": {"breakout_buy": {"above_high": True, "trend": True, "volume": False}}},
    },
    "Flat": {"account": "main", "why": "no order, no position"},
    "Heartbeat": {"name": "guardian", "age_seconds": 0.8},
    "Market": {"id": 27},
    "MarketRow": {"id": 27},
    "PatchedStrategyPatchRequest": {
        each: LEFT_OUT
        for each in ("name", "account", "market", "data_market", "resolution", "allowed_sides", "ordering_enabled")
    }
    | {"reason": "pays the fees"},
    "Quote": {"ask": "50000.5", "last": "50000.2"},
    "ReasonRequest": {"reason": "news"},
    "StopMoveRequest": {"stop_price": "50000", "looser_ok": False, "reason": "to the entry"},
    "StoryLine": {"kind": "planned", "text": "", "details": {"quantity": "0.01", "price": "50000", "stop": "49850"}},
    "Strategy": {"id": 1},
    "StrategyVersion": {"kind": "changed"},
    "StrategySchema": {"name": "BreakoutStrategy", "parameters": {"type": "object", "properties": {}}},
    "Stream": {"name": "nobitex", "message_age_seconds": 0.3, "reconnects": 0},
    "Switch": {
        "scope": "system",
        "id": None,
        "name": "the whole system",
        "level": "off",
        "reason": "the exchange answers again",
        "accounts": [],
    },
    "SwitchTurnRequest": {
        "level": "cancel",
        "reason": "the exchange answers oddly",
        "account": LEFT_OUT,
        "strategy": LEFT_OUT,
        "market": LEFT_OUT,
        "seen_version": LEFT_OUT,
        "unproven_ok": False,
    },
    "Ticket": {
        "summary": "The exchange holds an order that is not ours.",
        "details": {"quantity": "0.01"},
        "answer": "",
        "outcome": "",
        "answered_at": None,
        "resolved_at": None,
        "resolved_by": None,
    },
    "Version": {"version": "0.1.0", "api": "1"},
    "WhyCount": {"code": "cooldown", "outcome": "Signal denied by the risk gate", "count": 12},
}
# What an enumeration shows, the first that it knows.
_PREFERRED = (
    "CLOSED",
    "FILLED",
    "running",
    "active",
    "done",
    "paper",
    "BUY",
    "BOTH",
    "trade",
    "api",
    "off",
    "delivered",
    "take_profit",
    "LOCKING_STOPS",
)
_BY_FORMAT: dict[str, Any] = {
    "date-time": BEGIN,
    "date": "2026-11-02",
    "decimal": "1.5",
    "uri": "http://127.0.0.1:8000/api/v1/deals?cursor=cD0xNw",
    "uuid": "5f0c4d1e-3c1b-4f0e-9d3a-0c6b1f3f8a11",
    "double": 1.5,
}
_SHAPES = {
    "date-time": re.compile(r"\d{4}-"),
    "date": re.compile(r"\d{4}-"),
    "decimal": re.compile(r"-?[\d.]+$"),
    "uri": re.compile(r"https?:"),
    "uuid": re.compile(r"[0-9a-f]{8}-"),
}
_BY_TYPE: dict[str, Any] = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "object": {}}


def with_examples(result: Any, **_: Any) -> Any:
    """For the document as a whole: an example wherever JSON is sent or answered, and none is given."""
    schemas = result["components"]["schemas"]
    for operation in (each for path in result["paths"].values() for each in path.values()):
        for media in _bodies(operation):
            if "schema" in media and not media.keys() & {"example", "examples"}:
                media["example"] = example_of(media["schema"], "", schemas)
    return result


def _bodies(operation: Any) -> Iterator[Any]:
    for each in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from (media for kind, media in each.get("content", {}).items() if kind == "application/json")


def example_of(schema: Any, name: str, schemas: Any) -> Any:
    """What a field called `name` may hold."""
    if schema.get("nullable") and name in _BY_NAME and _BY_NAME[name] is None:
        return None
    if "$ref" in schema:
        component = schema["$ref"].rpartition("/")[2]
        return _told(component, example_of(schemas[component], name, schemas))
    if inner := schema.get("allOf") or schema.get("oneOf") or schema.get("anyOf"):
        return example_of(inner[0], name, schemas)
    if "properties" in schema:
        return {each: example_of(field, each, schemas) for each, field in schema["properties"].items()}
    return _listed(schema, name, schemas) if schema.get("type") == "array" else _plain(schema, name)


def _listed(schema: Any, name: str, schemas: Any) -> Any:
    known = _known(name, schema, list)
    return [example_of(schema["items"], name, schemas)] if known is None else known


def _told(component: str, example: Any) -> Any:
    """With what the table says of this component."""
    said = _BY_COMPONENT.get(component) or _BY_COMPONENT.get(component.removesuffix("Detail"))
    if said is None:
        return example
    return {name: said.get(name, value) for name, value in example.items() if said.get(name) is not LEFT_OUT}


def _plain(schema: Any, name: str) -> Any:
    if "enum" in schema:
        return next((each for each in _PREFERRED if each in schema["enum"]), schema["enum"][0])
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict}
    kind = schema.get("type")
    if kind is None:  # whatever is JSON
        return _BY_NAME.get(name, {})
    found = _known(name, schema, kinds[kind])
    if found is None:
        found = _BY_FORMAT.get(schema.get("format", ""), _BY_TYPE[kind])
    return found


def _known(name: str, schema: Any, kind: Any) -> Any:
    """What the table says, where it fits the type."""
    found = _BY_NAME.get(name)
    if found is None or not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        return None
    form = schema.get("format")
    if form in _SHAPES and not _SHAPES[form].match(str(found)):
        return None
    return found[:10] if form == "date" else found
