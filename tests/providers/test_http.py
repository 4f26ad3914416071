"""What may be concluded from what happens on the wire. Real sockets, loopback only."""

from __future__ import annotations

import logging
import socket
import time
import tomllib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import providers.http as http_module
from providers.budgets import (
    AT_ONCE,
    FOR_STOPS,
    IN_BURSTS,
    InProcessBudget,
    Limit,
    Priority,
    budget_priority,
    send_within,
)
from providers.clock import HostTime
from providers.errors import AuthFailed, BadPayload, OutcomeUnknown, ProviderError, RateLimited, Unavailable
from providers.http import CLIENT_VERSION, Answer, Endpoint, HeaderAuth, HttpSession, stated_wait
from providers.transport import MAX_BODY_BYTES
from tests.providers.conftest import Reply, ScriptedExchange, closed_port

SECRET = "CanaryKey0123456789CanaryKey"
READ = Endpoint("read", "GET", "/thing")
PRIVATE_READ = Endpoint("private_read", "GET", "/mine", private=True)
WRITE = Endpoint("write", "POST", "/orders", write=True, private=True)


def payload_of(answer: Answer) -> object:
    if answer.payload is None:
        raise BadPayload("no JSON")
    return answer.payload


def session(url: str, **options: object) -> HttpSession:
    budget, host = InProcessBudget({"default": Limit(10_000, 1.0)}), HostTime(sleep=lambda seconds: None)
    settings = {"budget": budget, "host": host}
    return HttpSession("wallex", url, auth=HeaderAuth("x-api-key", SECRET), **(settings | options))  # type: ignore[arg-type]


def outcome(http: HttpSession, endpoint: Endpoint) -> type[ProviderError] | None:
    body = {"quantity": "1"} if endpoint.write else None
    try:
        http.call(endpoint, payload_of, body=body)
    except ProviderError as exc:
        return type(exc)
    return None


HTML = Reply(b"<html>bad gateway</html>", 502, kind="text/html")

CLASSES = [
    # what the wire does, what a write makes of it, what a read makes of it, how often a read is sent
    ("reset after the request", Reply(mode="reset"), OutcomeUnknown, Unavailable, 3),
    ("no answer", Reply(mode="silent"), OutcomeUnknown, Unavailable, 3),
    ("a body that trickles", Reply({"x": "y" * 400}, mode="trickle"), OutcomeUnknown, Unavailable, 3),
    ("headers that trickle", Reply(mode="trickle_headers"), OutcomeUnknown, Unavailable, 3),
    ("a body shorter than announced", Reply({"a": 1}, mode="cut"), OutcomeUnknown, Unavailable, 3),
    ("a body without an end", Reply(b'{"a":1}' + b" " * 400, mode="open_end"), OutcomeUnknown, Unavailable, 3),
    ("502 with a page", HTML, OutcomeUnknown, Unavailable, 3),
    ("500 with JSON", Reply({"status": "failed", "code": "X"}, 500), OutcomeUnknown, Unavailable, 3),
    ("408", Reply({"success": False}, 408), OutcomeUnknown, Unavailable, 3),
    ("200 with a page", Reply(b"<html></html>", kind="text/html"), OutcomeUnknown, BadPayload, 1),
    ("200 with an empty body", Reply(b""), OutcomeUnknown, BadPayload, 1),
    ("truncated JSON", Reply(b'{"result": {"id'), OutcomeUnknown, BadPayload, 1),
    ("NaN", Reply(b'{"price": NaN}'), OutcomeUnknown, BadPayload, 1),
    ("not UTF-8", Reply(b'{"a": "\xff"}'), OutcomeUnknown, BadPayload, 1),
    ("nesting without end", Reply(b"[" * 200_000), OutcomeUnknown, BadPayload, 1),
    ("an integer without end", Reply(b'{"id": ' + b"9" * 5000 + b"}"), OutcomeUnknown, BadPayload, 1),
    ("too long a body", Reply(b"1" * (MAX_BODY_BYTES + 1)), OutcomeUnknown, Unavailable, 3),
    ("301", Reply({}, 301, {"Location": "/elsewhere"}), OutcomeUnknown, BadPayload, 1),
    ("307", Reply({}, 307, {"Location": "/elsewhere"}), OutcomeUnknown, BadPayload, 1),
    ("404 with a page", Reply(b"<html></html>", 404, kind="text/html"), OutcomeUnknown, BadPayload, 1),
    ("429", Reply({}, 429), RateLimited, RateLimited, 1),
    ("429 with a page", Reply(b"<html>", 429, kind="text/html"), RateLimited, RateLimited, 1),
    ("401", Reply({"detail": "x"}, 401), AuthFailed, AuthFailed, 1),
    ("403", Reply({"detail": "x"}, 403), AuthFailed, AuthFailed, 1),
    ("403 with a page: not the exchange's word", Reply(b"<html>", 403, kind="text/html"), Unavailable, Unavailable, 3),
    ("a good answer", Reply({"ok": True}), None, None, 1),
]


@pytest.mark.parametrize(
    ("reply", "write", "read", "reads"), [row[1:] for row in CLASSES], ids=[row[0] for row in CLASSES]
)
def test_each_outcome_of_the_wire_has_one_class(
    exchange: ScriptedExchange,
    reply: Reply,
    write: type[ProviderError] | None,
    read: type[ProviderError] | None,
    reads: int,
) -> None:
    exchange.replies(reply)
    http = session(exchange.url, total_timeout=0.4, read_timeout=0.2)
    assert outcome(http, WRITE) is write
    assert len(exchange.requests) == 1, "a write is one request on the wire"
    http = session(exchange.url, total_timeout=0.4, read_timeout=0.2)  # a 429 silences the first one
    assert outcome(http, PRIVATE_READ) is read
    assert len(exchange.requests) == 1 + reads


@pytest.mark.parametrize("endpoint", [READ, WRITE])
def test_a_refused_connection_is_provably_not_sent(endpoint: Endpoint) -> None:
    assert outcome(session(f"http://127.0.0.1:{closed_port()}"), endpoint) is Unavailable


def test_a_name_that_does_not_resolve_is_provably_not_sent() -> None:
    assert outcome(session("http://exchange.invalid"), WRITE) is Unavailable


def test_a_failed_tls_handshake_is_provably_not_sent(exchange: ScriptedExchange) -> None:
    """The server speaks plain HTTP: the handshake fails before the request could be written."""
    assert outcome(session(exchange.url.replace("http://", "https://")), WRITE) is Unavailable
    assert exchange.requests == []


def test_a_proxy_that_does_not_let_us_through_is_provably_not_sent(
    exchange: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went over the wire is the CONNECT for the proxy, not the order."""
    monkeypatch.setenv("https_proxy", exchange.url.removesuffix("/some/prefix"))
    monkeypatch.setenv("no_proxy", "")
    assert outcome(session("https://exchange.invalid"), WRITE) is Unavailable


def test_a_write_that_could_not_be_sent_is_left_to_the_caller_to_repeat() -> None:
    taken: list[str] = []

    class Counting(InProcessBudget):
        def acquire(self, name: str, priority: Priority, calls: int = 1) -> None:
            taken.append(name)

    http = session(f"http://127.0.0.1:{closed_port()}", budget=Counting({}))
    assert (outcome(http, WRITE), len(taken)) == (Unavailable, 1)
    assert (outcome(http, READ), len(taken)) == (Unavailable, 1 + 3)


def test_a_connection_the_peer_closed_while_idle_is_replaced_before_a_write(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"ok": 1}))
    exchange.close_after_answer = True  # without saying so in a header
    http = session(exchange.url)
    assert outcome(http, WRITE) is None
    time.sleep(0.1)
    assert outcome(http, WRITE) is None
    assert len(exchange.requests) == 2


def test_public_addresses_get_no_key_and_a_403_there_says_nothing_about_it(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({}, 403))
    assert outcome(session(exchange.url), READ) is Unavailable
    assert "x-api-key" not in {name.lower() for name in exchange.requests[0].headers}


def test_without_a_key_a_private_call_is_refused_before_it_is_sent(exchange: ScriptedExchange) -> None:
    http = HttpSession("wallex", exchange.url, auth=None, budget=InProcessBudget({}))
    assert outcome(http, WRITE) is AuthFailed
    assert exchange.requests == []


def test_a_read_that_hangs_is_not_asked_again(exchange: ScriptedExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guardian looks after all accounts in one loop: three times eight seconds would be lost for the others."""
    assert http_module.READ_GIVES_UP_AFTER < http_module.READ_TIMEOUT < http_module.TOTAL_TIMEOUT
    monkeypatch.setattr(http_module, "READ_GIVES_UP_AFTER", http_module.READ_GIVES_UP_AFTER / 20)
    exchange.replies(Reply(mode="silent"))
    started = time.monotonic()
    assert outcome(session(exchange.url, read_timeout=http_module.READ_TIMEOUT / 20), READ) is Unavailable
    assert time.monotonic() - started < 0.45
    assert len(exchange.requests) == 1


def test_a_trickling_peer_is_cut_off_at_the_deadline(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply(mode="trickle_headers"))
    started = time.monotonic()
    assert outcome(session(exchange.url, total_timeout=0.3), WRITE) is OutcomeUnknown
    assert time.monotonic() - started < 1.0


def test_what_could_not_be_sent_before_the_deadline_is_never_sent_later(
    exchange: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that takes long to resolve: nobody waits for the order any more when the connection stands."""
    exchange.replies(Reply({"ok": 1}))
    resolve = socket.getaddrinfo

    def slow(*args: object, **more: object) -> object:
        time.sleep(0.4)
        return resolve(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert outcome(session(exchange.url, total_timeout=0.2), WRITE) is Unavailable
    time.sleep(0.2)
    assert exchange.requests == []


def test_a_proxy_of_the_environment_is_not_used_for_loopback(
    exchange: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("no_proxy", "")
    exchange.replies(Reply({"ok": 1}))
    assert outcome(session(exchange.url), READ) is None


def test_a_netrc_never_replaces_the_exchanges_credentials(
    exchange: ScriptedExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("providers.transport._LOOPBACK", ())  # as with a host somewhere else
    exchange.replies(Reply({"ok": 1}))
    http = session(exchange.url)
    assert outcome(http, READ) is outcome(http, PRIVATE_READ) is None
    assert not any("Authorization" in request.headers for request in exchange.requests)


def test_cookies_are_not_kept(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"ok": 1}, headers={"Set-Cookie": "session=1; Path=/"}))
    http = session(exchange.url)
    outcome(http, READ)
    outcome(http, READ)
    assert "Cookie" not in exchange.requests[1].headers


def test_the_path_prefix_of_the_base_url_is_kept(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"ok": 1}))
    outcome(session(exchange.url + "/"), READ)
    assert exchange.requests[0].path == "/some/prefix/thing"


@pytest.mark.parametrize("url", ["", "api.wallex.ir", "ftp://x", "https://", "https://h/?a=1"])
def test_a_base_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        session(url)


def test_the_user_agent_tells_the_version_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["version"] == CLIENT_VERSION


# --- waiting ---


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "payload", "seconds"),
    [
        ({}, {"backOff": 12, "limit": 60}, 12),
        ({"Retry-After": "7"}, None, 7),
        ({"Retry-After": "7"}, {"backOff": 12}, 12),
        ({"X-RateLimit-Reset": "3"}, [], 3),
        ({"Retry-After": "soon"}, {"backOff": None}, None),
        ({}, "x", None),
    ],
)
def test_the_stated_wait_is_read_from_wherever_it_stands(
    headers: dict[str, str], payload: object, seconds: float | None
) -> None:
    assert stated_wait(headers, payload) == seconds


def test_a_wait_may_be_a_date() -> None:
    assert stated_wait({"Retry-After": http_date(20)}, None) == pytest.approx(20, abs=2)
    assert stated_wait({"Retry-After": http_date(-20)}, None) == 0


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [(Reply({"backOff": 12}, 429), 12), (Reply({}, 429, {"Retry-After": "7"}), 7), (Reply({}, 429), 10)],
)
def test_after_a_429_nothing_is_sent_until_the_wait_is_over(
    exchange: ScriptedExchange, reply: Reply, seconds: float
) -> None:
    exchange.replies(reply)
    http = session(exchange.url)
    with pytest.raises(RateLimited) as first:
        http.call(WRITE, payload_of)
    assert first.value.retry_after == seconds
    with pytest.raises(RateLimited) as second:
        http.call(WRITE, payload_of)
    assert 0 < second.value.retry_after <= seconds
    assert len(exchange.requests) == 1


def test_too_often_said_in_the_body_silences_the_address_as_a_429_does(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"status": "failed", "code": "TooManyRequests"}))
    http = session(exchange.url)

    def read(answer: Answer) -> object:
        raise RateLimited("too often", retry_after=12.0)

    for _ in range(2):
        with pytest.raises(RateLimited):
            http.call(WRITE, read)
    assert len(exchange.requests) == 1


class FakeTime:
    def __init__(self) -> None:
        self.now, self.slept = 100.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def budget(time_: FakeTime, limit: Limit) -> InProcessBudget:
    return InProcessBudget({"orders": limit}, monotonic=time_.monotonic, sleep=time_.sleep)


def test_a_budget_never_lets_more_than_its_limit_through_in_any_window() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(15, 10.0))
    passed = []
    while clock.now < 160:
        try:
            bucket.acquire("orders", Priority.EXITS)
            passed.append(clock.now)
        except RateLimited:
            clock.now += 0.1
    assert max(sum(1 for t in passed if start <= t < start + 10) for start in passed) <= 15
    assert len(passed) > 50, "and it does let calls through"


def test_a_budget_tells_whether_calls_would_pass_without_taking_them() -> None:
    bucket = budget(FakeTime(), Limit(30, 600.0))  # burst 10, reserve 3
    assert bucket.ready("orders", Priority.EXITS, 10)
    assert bucket.ready("orders", Priority.NORMAL, 7)
    bucket.take("orders", Priority.NORMAL, 1)
    assert not bucket.ready("orders", Priority.NORMAL, 7)


def test_what_places_orders_has_a_larger_burst_and_still_keeps_its_limit() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(10, 10.0, 0.6))
    assert [bucket.take("orders", Priority.EXITS, 1) for _ in range(6)] == [0] * 6
    assert bucket.take("orders", Priority.EXITS, 1) == pytest.approx(2.5)  # four more in the rest of the window


def test_the_reserve_of_a_budget_is_for_exits() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(30, 600.0))  # burst 10, reserve 3
    with pytest.raises(RateLimited):
        for _ in range(8):
            bucket.acquire("orders", Priority.NORMAL)
    for _ in range(3):
        bucket.acquire("orders", Priority.EXITS)
    with pytest.raises(RateLimited) as refused:
        bucket.acquire("orders", Priority.EXITS)
    assert refused.value.retry_after == pytest.approx(30)
    assert clock.slept == 0


def test_a_download_takes_only_what_others_leave() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(30, 600.0))  # burst 10, one more every 30 s
    assert [bucket.take("orders", Priority.DOWNLOADS, 1) == 0 for _ in range(2)] == [True, False]
    assert [bucket.take("orders", Priority.NORMAL, 1) == 0 for _ in range(7)] == [True] * 6 + [False]
    assert bucket.take("orders", Priority.DOWNLOADS, 1) == pytest.approx(7 * 30), "when the bucket is full again"


def test_what_may_come_at_once_comes_back_when_its_window_is_over() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(10, 60.0, AT_ONCE, reserve=0.0))
    assert [bucket.take("orders", Priority.NORMAL, 1) for _ in range(6)] == [0] * 6
    clock.now += 20
    assert [bucket.take("orders", Priority.NORMAL, 1) for _ in range(4)] == [0] * 4
    assert bucket.take("orders", Priority.NORMAL, 1) == pytest.approx(40), "the first six are back"
    assert bucket.take("orders", Priority.NORMAL, 7) == pytest.approx(60), "and the next four"
    assert bucket.left() == {"orders": 0.0}
    clock.now += 40
    assert bucket.ready("orders", Priority.NORMAL, 6)
    assert not bucket.ready("orders", Priority.NORMAL, 7)


def test_a_download_leaves_half_of_what_may_come_at_once() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(10, 60.0, AT_ONCE, reserve=0.0))
    assert [bucket.take("orders", Priority.DOWNLOADS, 1) == 0 for _ in range(6)] == [True] * 5 + [False]
    assert bucket.ready("orders", Priority.NORMAL, 5)
    assert not bucket.ready("orders", Priority.NORMAL, 6)


def test_of_what_may_come_at_once_the_exchange_knows_better_how_much_is_left() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(10, 60.0, AT_ONCE))  # 3 in reserve
    bucket.observed("orders", 4)
    assert bucket.ready("orders", Priority.EXITS, 4)
    assert not bucket.ready("orders", Priority.EXITS, 5)
    bucket.observed("orders", 9)
    assert not bucket.ready("orders", Priority.EXITS, 5), "it counts others too, and never fewer"
    clock.now += 60
    bucket.refused("orders", 10.0)
    clock.now += 10
    assert bucket.take("orders", Priority.NORMAL, 1) == 0
    assert bucket.take("orders", Priority.NORMAL, 1) == pytest.approx(50), "after a refusal exits go first"


STEPS = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4), st.sampled_from(Priority)), min_size=5, max_size=60)


@given(STEPS, st.sampled_from([0.0, 0.3]))
def test_no_window_ever_sees_more_than_may_come_at_once(steps: list[tuple[float, int, Priority]], reserve: float):
    clock = FakeTime()
    bucket = budget(clock, Limit(9, 60.0, AT_ONCE, reserve=reserve))
    passed: list[float] = []
    for pause, calls, priority in steps:
        clock.now += pause
        if wait := bucket.take("orders", priority, calls):
            clock.now += wait + 1e-6
            assert bucket.ready("orders", priority, calls), "it waits exactly so long"
        else:
            passed += [clock.now] * calls
    assert all(sum(at - 60 < other <= at for other in passed) <= 9 for at in passed)


def test_an_entry_leaves_a_call_for_its_stop() -> None:
    bucket = budget(FakeTime(), Limit(10, 10.0, IN_BURSTS, reserve=FOR_STOPS))  # burst 6
    assert [bucket.take("orders", Priority.NORMAL, 1) == 0 for _ in range(4)] == [True, True, True, False]
    assert [bucket.take("orders", Priority.EXITS, 1) == 0 for _ in range(4)] == [True, True, True, False]


def test_a_short_wait_is_waited_for() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(3, 2.0))  # burst 1, one more each second
    bucket.acquire("orders", Priority.NORMAL)
    bucket.acquire("orders", Priority.NORMAL)
    assert clock.slept == pytest.approx(1.0)


def test_refusals_without_a_stated_wait_double_and_exits_come_first_afterwards() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(300, 600.0))
    assert bucket.refused("orders", None) == 10
    clock.now += 10.1
    bucket.acquire("orders", Priority.EXITS)
    assert bucket.refused("orders", None) == 20
    clock.now += 20.1
    for _ in range(6):
        assert bucket.refused("orders", None) <= 300
        clock.now += 301
    clock.now += 400
    assert bucket.refused("orders", None) == 10


def test_what_the_exchange_asks_for_is_kept_as_long_as_its_window_can_last() -> None:
    """The window of new orders at Nobitex is ten minutes: to call within it is to be blocked everywhere."""
    clock = FakeTime()
    bucket = budget(clock, Limit(300, 600.0))
    assert bucket.refused("orders", 550.0) == 550
    clock.now += 540
    assert bucket.take("orders", Priority.EXITS, 1) == pytest.approx(10)
    assert bucket.refused("orders", 86_400.0) == 600, "what no window can mean"


def test_an_exit_does_not_wait_for_the_doubling_that_is_our_own_guess() -> None:
    clock = FakeTime()
    bucket = budget(clock, Limit(300, 600.0))
    for seconds in (10, 20, 40, 80):
        assert bucket.refused("orders", None) == seconds
        clock.now += seconds + 0.1
    assert bucket.refused("orders", None) == 160
    assert bucket.take("orders", Priority.EXITS, 1) == pytest.approx(10)
    assert bucket.take("orders", Priority.NORMAL, 1) == pytest.approx(160)
    clock.now += 10.1
    assert bucket.take("orders", Priority.EXITS, 1) == 0
    assert bucket.refused("orders", 30.0) == 30, "what was asked for counts for exits as well"
    assert bucket.take("orders", Priority.EXITS, 1) == pytest.approx(30)


def test_the_exchange_knows_better_how_much_is_left(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"ok": 1}, headers={"X-RateLimit-Remaining": "0"}))
    clock = FakeTime()
    http = session(
        exchange.url, budget=InProcessBudget({"default": Limit(6, 60)}, monotonic=clock.monotonic, sleep=clock.sleep)
    )
    assert outcome(http, READ) is None
    assert outcome(http, READ) is RateLimited


def test_a_budget_that_ends_the_attempts_does_not_hide_why_they_failed() -> None:
    scarce = InProcessBudget({"default": Limit(6, 600.0)})  # one call, no second
    http = session(f"http://127.0.0.1:{closed_port()}", budget=scarce)
    with pytest.raises(Unavailable, match="could not connect") as caught:
        http.call(READ, payload_of)
    assert not isinstance(caught.value, RateLimited)
    with pytest.raises(RateLimited):  # nothing failed this time: the budget is the news
        http.call(READ, payload_of)


def test_an_order_that_would_wait_too_long_leaves_the_call_that_comes_free_for_the_next_try() -> None:
    """It used to wait for the call, take it, and be too late to send: a position was bare for as long as anybody
    tried."""
    clock = FakeTime()
    bucket = budget(clock, Limit(6, 10.0, 0.6))  # a burst of 3.6 calls, then one in 4.2 s
    sent = []
    while clock.now < 130:
        began = clock.now
        try:
            with send_within(2.0):
                bucket.acquire("orders", Priority.EXITS)
            assert clock.now - began <= 2.0
            sent.append(clock.now)
        except RateLimited:
            assert clock.now == began, "nobody waits for what comes too late"
            clock.now += 1.0  # the next look
    assert len(sent) >= 3 + 6


def test_a_call_can_be_declared_an_exit() -> None:
    seen: list[Priority] = []

    class Spy:
        def acquire(self, name: str, priority: Priority, calls: int = 1) -> None:
            seen.append(priority)
            raise RateLimited("x", retry_after=1)

        def refused(self, name: str, stated_seconds: float | None) -> float:
            return 1.0

        def observed(self, name: str, remaining: int) -> None: ...

    http = session("http://127.0.0.1:9", budget=Spy())
    outcome(http, WRITE)
    with budget_priority(Priority.EXITS):
        outcome(http, WRITE)
    outcome(http, WRITE)
    assert seen == [Priority.NORMAL, Priority.EXITS, Priority.NORMAL]


# --- secrets ---


@pytest.mark.parametrize(
    "reply", [Reply({"echo": SECRET}, 500), Reply({"m": SECRET}, 401), Reply(mode="reset"), Reply({"k": 1})]
)
def test_a_key_is_in_no_log_line_no_exception_and_no_repr(
    exchange: ScriptedExchange, reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    def echo(answer: Answer) -> None:
        raise BadPayload(f"key {SECRET} and Authorization: Token {SECRET}")

    caplog.set_level(logging.DEBUG)
    exchange.replies(reply)
    http = session(exchange.url)
    with pytest.raises(ProviderError) as caught:
        http.call(WRITE, echo)
    shown = [str(caught.value), repr(caught.value), repr(http), repr(vars(http)), caplog.text]
    assert not any(SECRET in text for text in shown)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "the library's exception, which holds the headers, is not chained"
    assert [record.name for record in caplog.records].count("providers.http") == 1


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "کلید"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(AuthFailed) as caught:
        HeaderAuth("x-api-key", key)
    assert not key or key not in str(caught.value)
