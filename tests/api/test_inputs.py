"""Whatever is sent, the answer is an answer: no address, no body and no parameter makes the API stumble."""

from __future__ import annotations

from itertools import pairwise

import pytest
from django.test import RequestFactory

from algo_trade.requests import TextRequest
from tests import factories as make

pytestmark = pytest.mark.django_db

JSON = "application/json"
DEALS, BACKTESTS, KILL_SWITCH = "/api/v1/deals", "/api/v1/backtests", "/api/v1/system/kill-switch"


def errors(answer, status=400):
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    return {each["attr"]: each for each in answer.json()["errors"]}


@pytest.mark.parametrize(
    ("query", "attr", "code"),
    [
        ("statuz=OPEN", "statuz", "unknown_parameter"),
        ("page=2", "page", "unknown_parameter"),
        ("format=csv", "format", "unknown_parameter"),
        ("side=", "side", "blank"),
        ("side=BUY&side=SELL", "side", "repeated"),
        ("config=1.5", "config", "invalid"),
        ("config=1_0", "config", "invalid"),
        ("config=%D9%A1", "config", "invalid"),  # an Arabic 1
        ("config=0", "config", "invalid"),
        (f"config={2**63}", "config", "invalid"),
        ("profit_min=NaN", "profit_min", "invalid"),
        ("profit_min=Infinity", "profit_min", "invalid"),
        ("profit_min=1e999", "profit_min", "invalid"),
        ("profit_min=0.0000000000000000001", "profit_min", "invalid"),
        ("opened_after=2026-13-01T00:00:00Z", "opened_after", "invalid"),
        ("fields=id,secret", "fields", "invalid"),
        ("fields=", "fields", "blank"),
        ("market=%00", None, "parse_error"),
        ("market=%FF", None, "parse_error"),
        ("market=%ED%A0%80", None, "parse_error"),
        ("%00=1", None, "parse_error"),
    ],
)
def test_what_an_address_asks_for_is_checked(api, query, attr, code):
    assert errors(api.get(f"{DEALS}?{query}"))[attr]["code"] == code


def test_an_unknown_parameter_is_told_which_there_are(api, staff_api):
    assert errors(api.get(f"{BACKTESTS}?x=1"))["x"]["detail"] == (
        "There is no such parameter. There are config, cursor, fields, limit, market, ordering, resolution, status, "
        "strategy."
    )
    assert "takes none" in errors(staff_api.post(f"{KILL_SWITCH}?x=1", {}))["x"]["detail"]


@pytest.mark.parametrize(
    ("when", "status"),
    [
        ("2026-11-02T10:00:00-21:48", 200),  # the database knows no such offset
        ("0001-01-01", 200),
        ("9999-12-31T23:59:59%2B14:00", 200),
        ("9999-12-31T23:59:59-14:00", 400),
        ("0001-01-01T00:00:00%2B14:00", 400),
    ],
)
def test_times_are_read_whatever_their_offset(api, when, status):
    for name in ("opened_after", "closed_before"):
        assert api.get(f"{DEALS}?{name}={when}").status_code == status
    assert api.get(f"/api/v1/decisions?after={when}").status_code == status


def test_several_of_one_filter_are_for_those_that_have_them(api):
    assert api.get(f"{DEALS}?status=OPEN&status=CLOSED").status_code == 200


@pytest.mark.parametrize("pk", ["%00", "%FF", "0", "-1", "x", "9" * 5000, "1.0", "%D9%A1", "%F0%9F%92%A9"])
def test_ids_that_are_none_are_nowhere(api, pk):
    errors(api.get(f"{DEALS}/{pk}"), 404)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe{}",
        b'{"reason": NaN}',
        b'{"start": 1e999}',
        b"9" * 5000,
        b'{"reason": "\\u0000"}',
        b'{"parameters": {"deep": ["\\ud800"]}}',
        b'{"\\u0000": 1}',
        b"[" * 40 + b"]" * 40,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"{} {}",
    ],
)
def test_bodies_that_are_not_json_are_refused(staff_api, body):
    answer = staff_api.generic("POST", BACKTESTS, body, content_type=JSON)
    assert errors(answer)[None]["code"] == "parse_error"


@pytest.mark.parametrize("body", ["[]", "[{}]", '"text"', "1", "null", "true"])
def test_what_is_not_an_object_is_refused(staff_api, api, config, body):
    deal = make.make_open_deal(config)
    for address in (BACKTESTS, KILL_SWITCH, f"{DEALS}/{deal.pk}/stop", f"{DEALS}/{deal.pk}/close"):
        assert "non_field_errors" in errors(staff_api.generic("POST", address, body, content_type=JSON)), address


@pytest.mark.parametrize("charset", ["latin-1", "utf-16", "no-such", "hex", "rot13", "zlib"])
def test_only_utf_8_is_read(staff_api, charset):
    answer = staff_api.generic("POST", BACKTESTS, b"{}", content_type=f"{JSON}; charset={charset}")
    assert errors(answer)[None]["detail"] == "Only UTF-8 is read."


@pytest.mark.parametrize("codec", ["hex", "rot13", "zlib"])
def test_a_charset_that_yields_no_text_is_none(codec):
    """Django fails with it before any handler is asked."""
    asked = {"CONTENT_TYPE": f"{JSON}; charset={codec}", "QUERY_STRING": "side=BUY"}
    assert TextRequest(RequestFactory()._base_environ(**asked)).GET["side"] == "BUY"


@pytest.mark.parametrize("token", ["Token \xff\xfe", "Token \x00", "Token", "Token a b", "Bearer x", "\xff"])
def test_odd_tokens_open_nothing(client, db, token):
    errors(client.get(DEALS, HTTP_AUTHORIZATION=token), 401)


ENDS = ["0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"]
DAYS = ["0001-01-01", "9999-12-31", "0000-01-01", "10000-01-01"]


def test_times_at_the_end_of_time_are_answered_everywhere(staff_api):
    market = make.make_market()
    make.make_closed_deal(make.make_config())
    wanted = []
    for one, other in [*pairwise(ENDS), (ENDS[1], ENDS[2]), (ENDS[2], ENDS[1])]:
        period = {"resolution": "D", "from": one, "to": other}
        wanted += [("get", f"/api/v1/markets/{market.pk}/candles{each}", period) for each in ("", "/coverage")]
        wanted += [("post", f"/api/v1/markets/{market.pk}/candles/fetch", period)]
        what = {"name": "x", "strategy": "BreakoutStrategy", "market": market.pk, "start": one, "end": other}
        wanted += [("post", BACKTESTS, what), ("post", "/api/v1/optimisations/begin", what)]
        wanted += [("post", "/api/v1/auth/tokens", {"expiry": one})]
    for one in DAYS:
        for page in ("days", "equity", "risk"):
            wanted += [("get", f"/api/v1/performance/{page}", {name: one}) for name in ("from", "to")]
    for method, address, given in wanted:
        answer = getattr(staff_api, method)(address, given)
        assert answer.status_code < 500, (method, address, given, answer.content)


@pytest.mark.parametrize(
    ("change", "attr"),
    [
        ({"fee_percent": 0.1}, "fee_percent"),
        ({"strategy": 7}, "strategy"),
        ({"market": "1"}, "market"),
        ({"market": 1.0}, "market"),
        ({"market": True}, "market"),
        ({"market": 10**40}, "market"),
        ({"balance": "NaN"}, "balance"),
        ({"balance": "1e999"}, "balance"),
        ({"start": 1}, "start"),
        ({"resolution": 1}, "resolution"),
        ({"parameters": []}, "parameters"),
        ({"strat": "x"}, "strat"),
    ],
)
def test_fields_of_a_body_are_of_their_types(staff_api, change, attr):
    asked = {"strategy": "BreakoutStrategy", "market": make.make_market().pk, "start": "2026-10-01T00:00:00Z"}
    assert attr in errors(staff_api.post(BACKTESTS, {**asked, **change}))


def test_parameters_with_odd_names_are_named(api, config):
    """One without a name stands for the parameters as a whole."""
    body = {"parameters": {"": 1, "nope": 2, "rsi_period": 1}}
    found = errors(api.patch(f"/api/v1/strategies/{config.pk}", body))
    assert {*found} == {"parameters", "parameters.nope", "parameters.rsi_period"}
    assert found["parameters.rsi_period"]["detail"] == "Must be at least 2"
    asked = {"config": config.pk, "start": "2026-10-01T00:00:00Z", **body}
    assert {*errors(api.post(BACKTESTS, asked))} >= {"parameters.nope", "parameters.rsi_period"}
