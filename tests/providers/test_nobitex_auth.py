"""Signatures of Nobitex API keys: over the bytes that leave, at the time they leave (contract: nobitex 3.2)."""

from __future__ import annotations

import logging
import socket
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.clock import HostTime
from providers.errors import AuthFailed, Unavailable
from providers.http import Answer, Endpoint, HttpSession
from providers.nobitex.auth import ApiKeyAuth, TokenAuth, auth_for
from providers.nobitex.client import NobitexClient
from providers.redaction import redact
from providers.types import KeyDetails, OrderRef
from tests.providers.conftest import NOBITEX_TOKEN, Reply, ScriptedExchange
from tests.providers.test_fuzz import FREE
from tests.providers.test_nobitex_mapping import order

PRIVATE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="  # the seed 00 01 … 1f of the contract's vectors
PUBLIC = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
BODY = b'{"type":"buy","srcCurrency":"btc","dstCurrency":"usdt","amount":"0.001","price":"42390","clientOrderId":"t1"}'
VECTORS = [
    (
        "GET",
        "/market/orders/list?status=all&details=2",
        b"",
        "rk8kbpChIo0Q2zR76aldf-yM5UED9n0FrNAuHgnQqgWhP_As0sP6Q7ccsHHPHbz40k0dHMgptf7TZK89HIJYDQ==",
    ),
    (
        "POST",
        "/market/orders/add",
        BODY,
        "-s4e8IRdVhJgpUCmmA00hKSpr_z_R-ANYI-PZsxnJQOC9lsD3IOPqjvIpdKXuY0QbwqUuxkOe18kbOsPs8SMBw==",
    ),
]


def at(*seconds: float) -> Any:
    """A wall clock that shows these times in turn."""
    left = list(seconds)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def signed_by(public_key: str, headers: dict[str, str], method: str, path: str, body: bytes) -> None:
    """Raises InvalidSignature unless the headers sign exactly this."""
    message = f"{headers['Nobitex-Timestamp']}{method}{path}".encode() + body
    key = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(public_key))
    key.verify(urlsafe_b64decode(headers["Nobitex-Signature"]), message)


@pytest.mark.parametrize(("method", "path", "body", "signature"), VECTORS)
def test_the_vectors_of_the_contract(method: str, path: str, body: bytes, signature: str) -> None:
    auth = ApiKeyAuth(PRIVATE, wall_time=at(1700000000.9))
    assert auth.public_key == PUBLIC
    assert auth.sign("1700000000", method, path, body) == signature
    request = requests.Request(method, "https://apiv2.nobitex.ir" + path, data=body or None, auth=auth).prepare()
    assert request.headers["Nobitex-Key"] == PUBLIC
    assert request.headers["Nobitex-Timestamp"] == "1700000000"
    assert request.headers["Nobitex-Signature"] == signature
    assert "Authorization" not in request.headers


# --- one string decides ---


def test_the_form_of_the_key_decides_how_it_is_used() -> None:
    assert isinstance(auth_for(f" {NOBITEX_TOKEN}\n"), TokenAuth)
    assert isinstance(auth_for(NOBITEX_TOKEN.upper()), TokenAuth)
    assert isinstance(auth_for(f"{PRIVATE}\n"), ApiKeyAuth)


WRONG = [
    "two words",
    "g" * 40,
    NOBITEX_TOKEN[:-1],
    NOBITEX_TOKEN + "0",
    PRIVATE.rstrip("="),
    PRIVATE + "=",
    PRIVATE.replace("8=", "9="),  # stray bits after the 32 bytes: a character was changed
    PRIVATE.replace("A", "+"),
    PRIVATE.replace("A", "é"),
    "٣" * 40,
]


@pytest.mark.parametrize("secret", WRONG)
def test_a_key_of_no_known_form_is_refused_without_being_repeated(secret: str) -> None:
    with pytest.raises(AuthFailed, match=r"token .*private key") as caught:
        NobitexClient("https://x", api_key=secret)
    assert secret not in str(caught.value)
    with pytest.raises(AuthFailed):
        ApiKeyAuth(secret)


def test_no_secret_in_a_repr_or_a_log(exchange: ScriptedExchange, caplog: pytest.LogCaptureFixture) -> None:
    exchange.replies(Reply({"detail": PRIVATE}, 401))
    client = NobitexClient(exchange.url, api_key=PRIVATE, budget=FREE)
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthFailed) as caught:
        client.balances()
    seen = [repr(client), repr(client._http._auth), repr(vars(client._http._auth)), caplog.text, str(caught.value)]
    assert not any(PRIVATE.rstrip("=") in text for text in seen)
    assert PRIVATE not in redact(f"key {PRIVATE}")
    assert PRIVATE.rstrip("=") not in redact(f"key {PRIVATE.rstrip('=')}.")


# --- over a socket ---


def test_an_order_is_signed_as_it_arrives(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"status": "ok", "order": order()}))
    NobitexClient(exchange.url, api_key=PRIVATE).fetch_order(OrderRef("BTCIRT", "T1ABC", "26"))
    sent = exchange.requests[0]
    assert sent.path == "/some/prefix/market/orders/status", "the prefix of a base URL is part of what is signed"
    signed_by(PUBLIC, sent.headers, sent.method, sent.path, sent.body)
    with pytest.raises(InvalidSignature):
        signed_by(PUBLIC, sent.headers, sent.method, sent.path.removeprefix("/some/prefix"), sent.body)


def test_every_attempt_is_signed_anew(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({}, 503), Reply({}, 503), Reply({"status": "ok", "wallets": {}}))
    auth = ApiKeyAuth(PRIVATE, wall_time=at(1000, 1031, 1062))
    client = NobitexClient(exchange.url, auth=auth, budget=FREE)
    client._http.host = HostTime(sleep=lambda seconds: None)
    assert client.balances() == {}
    assert [sent.headers["Nobitex-Timestamp"] for sent in exchange.requests] == ["1000", "1031", "1062"]
    for sent in exchange.requests:
        signed_by(PUBLIC, sent.headers, "GET", sent.path + "?type=spot", b"")


def test_public_calls_are_not_signed(exchange: ScriptedExchange) -> None:
    exchange.replies(Reply({"status": "ok", "stats": {}}))
    NobitexClient(exchange.url, api_key=PRIVATE).market_stats()
    assert not {"Nobitex-Key", "Nobitex-Signature", "Authorization"} & set(exchange.requests[0].headers)


def test_a_dead_key_raises_and_a_living_one_claims_no_more_than_is_known(exchange: ScriptedExchange) -> None:
    by_key = NobitexClient(exchange.url, api_key=PRIVATE, budget=FREE)
    by_token = NobitexClient(exchange.url, api_key=NOBITEX_TOKEN, budget=FREE)
    exchange.replies(Reply({"status": "ok", "profile": {}}))
    assert by_key.key_details() == KeyDetails(None, None)
    assert by_token.key_details() == KeyDetails(frozenset({"read", "trade", "withdraw"}), None)
    exchange.replies(Reply({"detail": "?"}, 401))
    for client in (by_key, by_token, NobitexClient(exchange.url)):
        with pytest.raises(AuthFailed):
            client.key_details()


class RawServer:
    """Keeps each request as the bytes that came."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.received: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def last(self) -> tuple[str, str, dict[str, str], bytes]:
        head, _, body = self.received[-1].partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        return method, target, dict(line.split(": ", 1) for line in lines), body

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := self._head(stream):
                length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0)
                self.received.append(head + stream.read(length))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

    def _head(self, stream: Any) -> bytes:
        lines = []
        while line := stream.readline():
            lines.append(line)
            if line == b"\r\n":
                break
        return b"".join(lines)


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.close()


json_leaf = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
bodies = st.none() | st.dictionaries(st.text(max_size=10), json_leaf | st.lists(json_leaf, max_size=3), max_size=4)
queries = st.none() | st.dictionaries(
    st.text(min_size=1, max_size=10), st.text(max_size=20) | st.integers(), max_size=4
)
prefixes = st.sampled_from(
    ["", "/nobitex", "/a%20b", "/a b", "/ä", "//two", "/%7Etilde", "/a+b", "/x%2fy", "/dot/../up"]
)
path_text = st.text(st.characters(codec="utf-8", exclude_characters="?#"), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(method=st.sampled_from(["GET", "POST", "DELETE"]), prefix=prefixes, more=path_text, params=queries, body=bodies)
def test_what_is_signed_is_exactly_what_arrives(
    raw: RawServer, method: str, prefix: str, more: str, params: Any, body: Any
) -> None:
    session = HttpSession("nobitex", raw.url + prefix, auth=ApiKeyAuth(PRIVATE, wall_time=at(1700000000)), budget=FREE)
    before = len(raw.received)
    try:
        session.call(
            Endpoint("any", method, "/market/" + more, private=True, write=True), _whole, params=params, body=body
        )
    finally:
        session._transport.close()
    assert len(raw.received) == before + 1
    got_method, target, headers, content = raw.last()
    assert headers["Nobitex-Timestamp"] == "1700000000"
    signed_by(headers["Nobitex-Key"], headers, got_method, target, content)


def _whole(answer: Answer) -> Any:
    return answer.payload


def test_a_body_that_is_only_known_while_it_is_sent_cannot_be_signed(exchange: ScriptedExchange) -> None:
    with pytest.raises(TypeError):
        requests.Request("POST", "https://x/", data=iter([b"a"]), auth=ApiKeyAuth(PRIVATE)).prepare()
    text = requests.Request("POST", "https://x/", data="é", auth=ApiKeyAuth(PRIVATE, wall_time=at(1))).prepare()
    signed_by(PUBLIC, dict(text.headers), "POST", "/", "é".encode())


def test_a_closed_port_is_no_matter_of_keys() -> None:
    client = NobitexClient("http://127.0.0.1:9", api_key=PRIVATE, budget=FREE)
    client._http.host = HostTime(sleep=lambda seconds: None)
    with pytest.raises(Unavailable):
        client.balances()
