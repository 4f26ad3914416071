"""Nobitex' signed requests, key management, batches, histories and blocks, over a real socket."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from providers.paper.engine import Exchange
from providers.paper.faces import nobitex_tokens
from providers.paper.faces.common import RateLimiter
from providers.paper.faces.nobitex_auth import Doorman
from providers.paper.faces.nobitex_params import Failure
from providers.paper.faces.nobitex_wire import depth_row
from tests.paper.world import BOOK, D, Server, running, switched


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("private"), "--seed", "4", "--no-rate-limits") as server:
        yield server


@dataclass
class Signer:
    """Signs as the contract says, byte for byte; every part can be spoiled."""

    server: Server
    key: str
    private: str

    def request(self, method: str, path: str, body: bytes = b"", **spoilt: Any) -> requests.Response:
        stamp = str(int(time.time()) + spoilt.get("seconds", 0))
        full = f"/nobitex{spoilt.get('signed_path', path)}"
        message = stamp.encode() + method.encode() + full.encode() + spoilt.get("signed_body", body)
        seed = Ed25519PrivateKey.from_private_bytes(urlsafe_b64decode(self.private))
        headers = {
            "Nobitex-Key": self.key,
            "Nobitex-Timestamp": stamp,
            "Nobitex-Signature": urlsafe_b64encode(seed.sign(message)).decode(),
            "Content-Type": "application/json",
        }
        return requests.request(
            method, f"{self.server.url}/nobitex{path}", data=body or None, headers=headers, timeout=10
        )


def opened(server: Server, **more: Any) -> tuple[dict[str, str], Signer]:
    """A new account with 1000 USDT, and its signer."""
    name = uuid4().hex[:12]
    body = {"name": name, "balances": {"nobitex": {"USDT": "1000", "TON": "500"}}} | more
    made = server.control("POST", "/accounts", json=body).json()
    return made, Signer(server, made["nobitex_api_key"], made["nobitex_private_key"])


def last(server: Server, symbol: str = "BTCUSDT") -> Decimal:
    return Decimal(server.nobitex("GET", f"/v3/orderbook/{symbol}").json()["lastTradePrice"])


class TestSignatures:
    def test_a_signed_read_and_a_signed_order_are_answered(self, server):
        _, signer = opened(server)
        assert signer.request("GET", "/v2/wallets?currencies=usdt").json()["wallets"]["USDT"]["balance"] == "1000"
        body = b'{"type":"buy","execution":"market","srcCurrency":"ton","dstCurrency":"usdt","amount":"10"}'
        assert signer.request("POST", "/market/orders/add", body).json()["order"]["status"] == "Done"

    @pytest.mark.parametrize("seconds", [-29, 28])
    def test_thirty_seconds_are_forgiven(self, server, seconds):
        assert opened(server)[1].request("GET", "/v2/wallets", seconds=seconds).status_code == 200

    @pytest.mark.parametrize(
        "spoilt",
        [
            {"seconds": -33},
            {"seconds": 33},
            {"signed_path": "/v2/wallets"},
            {"signed_path": "/v2/wallets?currencies=btc%2cusdt"},
            {"signed_body": b"{}"},
        ],
    )
    def test_what_was_not_signed_as_it_was_sent_is_401(self, server, spoilt):
        answer = opened(server)[1].request("GET", "/v2/wallets?currencies=btc%2Cusdt", **spoilt)
        assert (answer.status_code, list(answer.json())) == (401, ["detail"])

    def test_percent_signs_are_signed_as_sent(self, server):
        answer = opened(server)[1].request("GET", "/v2/wallets?currencies=ton%2Cusdt")
        assert set(answer.json()["wallets"]) == {"TON", "USDT"}

    def test_another_accounts_signature_is_401(self, server):
        first, second = opened(server)[1], opened(server)[1]
        mixed = Signer(server, first.key, second.private)
        assert mixed.request("GET", "/v2/wallets").status_code == 401

    def test_trading_does_not_imply_reading(self, server):
        _, signer = opened(server, nobitex_permissions="TRADE")
        answer = signer.request("GET", "/market/orders/list")
        assert (answer.status_code, list(answer.json())) == (403, ["detail"])
        assert signer.request("POST", "/market/orders/cancel-old", b"{}").json() == {"status": "ok"}

    def test_reading_does_not_imply_trading_and_keys_do_not_manage_keys(self, server):
        _, signer = opened(server, nobitex_permissions="READ")
        assert signer.request("GET", "/users/profile").status_code == 200
        assert signer.request("POST", "/market/orders/cancel-old", b"{}").status_code == 403
        assert signer.request("GET", "/apikeys/list").status_code == 403

    def test_a_key_for_another_address_is_403(self, server):
        _, signer = opened(server, nobitex_key_addresses=["10.0.0.7"])
        assert signer.request("GET", "/v2/wallets").status_code == 403

    def test_an_expired_key_is_401(self, server):
        _, signer = opened(server, nobitex_key_expires_at="2020-01-01T00:00:00+00:00")
        assert signer.request("GET", "/v2/wallets").status_code == 401

    def test_the_private_half_is_told_once_and_never_kept(self, server):
        made, _ = opened(server)
        database = server.folder / "data" / "paper.sqlite3"
        kept = database.read_bytes() + database.with_name("paper.sqlite3-wal").read_bytes()
        assert made["nobitex_api_key"].encode() in kept
        assert made["nobitex_private_key"].encode() not in kept


class TestKeys:
    def test_a_key_is_made_listed_changed_and_deleted(self, server):
        account, _ = opened(server)
        token = account["nobitex_token"]
        asked = {"name": "bot", "permissions": "READ,TRADE", "expirationDate": "2090-01-01T00:00:00Z"}
        headers = {"Authorization": f"Token {token}", "X-TOTP": "123456"}
        made = requests.post(f"{server.url}/nobitex/apikeys/create", json=asked, headers=headers, timeout=5).json()
        key = made["key"]
        assert (key["permissions"], key["expirationDate"][:10], key["name"]) == ("READ,TRADE", "2090-01-01", "bot")
        signer = Signer(server, key["key"], made["privateKey"])
        assert signer.request("GET", "/v2/wallets").status_code == 200
        listed = server.nobitex("GET", "/apikeys/list", token=token).json()["keys"]
        assert key["key"] in [row["key"] for row in listed]
        assert "privateKey" not in json.dumps(listed)
        changes = {"name": "new", "permissions": "WITHDRAW", "ipAddressesWhitelist": ["10.0.0.1"]}
        path = f"/apikeys/update/{key['key'].replace('=', '%3D')}"
        changed = server.nobitex("POST", path, token=token, json=changes).json()["key"]
        assert (changed["name"], changed["permissions"]) == ("new", "READ,TRADE")
        assert signer.request("GET", "/v2/wallets").status_code == 403  # another address now
        path = f"/apikeys/delete/{key['key'].replace('=', '%3D')}"
        assert server.nobitex("POST", path, token=token, json={}).json() == {"status": "ok"}
        assert signer.request("GET", "/v2/wallets").status_code == 401

    def test_a_key_needs_a_one_time_password_and_known_permissions(self, server):
        path = "/apikeys/create"
        assert server.nobitex("POST", path, json={"name": "x", "permissions": "READ"}).json()["code"] == "MissingOTP"
        headers = {"Authorization": f"Token {'ab' * 20}", "X-TOTP": "123456"}
        for body in ({"name": "x", "permissions": "FLY"}, {"permissions": "READ"}):
            answer = requests.post(f"{server.url}/nobitex{path}", json=body, headers=headers, timeout=5)
            assert (answer.status_code, answer.json()["code"]) == (400, "ParseError")

    def test_a_logout_ends_the_token(self, server):
        account, signer = opened(server)
        token = account["nobitex_token"]
        assert set(server.nobitex("POST", "/auth/logout/", token=token).json()) == {"detail", "message"}
        assert server.nobitex("GET", "/v2/wallets", token=token).status_code == 401
        assert signer.request("GET", "/v2/wallets").status_code == 200

    def test_a_token_can_be_given_a_lifetime(self, server):
        account, _ = opened(server)
        with switched(server, "nobitex", "token_lifetime_seconds", 1):
            time.sleep(1.1)
            assert server.nobitex("GET", "/v2/wallets", token=account["nobitex_token"]).status_code == 401

    def test_logging_in_is_no_address_here(self, server):
        answer = server.nobitex("POST", "/auth/login/", token=None, json={})
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (404, "text/html")


class TestAccount:
    def test_the_stream_token_opens_this_account_for_twenty_minutes(self, server):
        answer = server.nobitex("GET", "/auth/ws/token/").json()
        header, claims, _ = answer["token"].split(".")
        decoded = json.loads(urlsafe_b64decode(claims + "=="))
        assert decoded["exp"] - decoded["iat"] == 1200
        assert abs(decoded["iat"] - time.time()) < 5
        assert "alg" in json.loads(urlsafe_b64decode(header + "=="))
        assert server.nobitex("GET", "/auth/ws/token/", token=None).status_code == 401

    def test_limits_of_the_user_come_by_get_and_post(self, server):
        for method in ("GET", "POST"):
            found = server.nobitex(method, "/users/limitations").json()["limitations"]
            assert found["limits"]["withdrawRialDaily"]["used"] == "0"

    def test_a_wallets_transactions_add_up_to_its_balance(self, server):
        account, _ = opened(server)
        token = account["nobitex_token"]
        body = {"type": "buy", "execution": "market", "srcCurrency": "ton", "dstCurrency": "usdt", "amount": "10"}
        order = server.nobitex("POST", "/market/orders/add", token=token, json=body).json()["order"]
        rows = server.nobitex("GET", "/users/wallets/list", token=token).json()["wallets"]
        wallets = {row["currency"]: row for row in rows}
        for code, fee in (("ton", order["fee"]), ("usdt", "0")):
            path = f"/users/wallets/transactions/list?wallet={wallets[code]['id']}"
            answer = server.nobitex("GET", path, token=token).json()
            amounts = [Decimal(row["amount"]) for row in answer["transactions"]]
            assert sum(amounts) == Decimal(wallets[code]["balance"])
            assert sum(Decimal(row["calculatedFee"]) for row in answer["transactions"]) == Decimal(fee)
        assert server.nobitex("GET", "/users/wallets/transactions/list?wallet=1", token=token).status_code == 404

    def test_the_history_filters_and_shows_the_balance_after_each_movement(self, server):
        account, _ = opened(server)
        token = account["nobitex_token"]
        body = {"type": "sell", "execution": "market", "srcCurrency": "ton", "dstCurrency": "usdt", "amount": "10"}
        server.nobitex("POST", "/market/orders/add", token=token, json=body)
        path = "/users/transactions-history?currency=ton&tp="
        sells = server.nobitex("GET", f"{path}sell", token=token).json()
        assert [(row["amount"], row["balance"], row["tp"]) for row in sells["transactions"]] == [("-10", "490", "sell")]
        assert [r["amount"] for r in server.nobitex("GET", f"{path}deposit", token=token).json()["transactions"]] == [
            "500"
        ]
        far = "/users/transactions-history?from=2026-01-01T00:00:00Z&to=2026-06-01T00:00:00Z"
        assert server.nobitex("GET", far, token=token).status_code == 400

    def test_a_coin_that_was_ordered_has_a_wallet(self, server):
        account, _ = opened(server)
        token = account["nobitex_token"]
        price = str((last(server, "LTCUSDT") * Decimal("0.9")).quantize(Decimal("0.01")))
        body = {"type": "buy", "srcCurrency": "ltc", "dstCurrency": "usdt", "amount": "1", "price": price}
        assert "LTC" not in server.nobitex("GET", "/v2/wallets", token=token).json()["wallets"]
        server.nobitex("POST", "/market/orders/add", token=token, json=body)
        wallets = server.nobitex("GET", "/v2/wallets", token=token).json()["wallets"]
        assert wallets["LTC"]["balance"] == "0E-10"
        with switched(server, "nobitex", "wallets_only_after_use", False):
            assert "SOL" in server.nobitex("GET", "/v2/wallets", token=token).json()["wallets"]


def resting(server: Server, count: int, token: str) -> list[int]:
    price = (last(server) * Decimal("0.8")).quantize(Decimal("0.01"))
    items = [
        {"type": "buy", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "0.0003", "price": str(price + number)}
        for number in range(count)
    ]
    answer = server.nobitex("POST", "/market/orders/batch-add", token=token, json={"data": items}).json()
    return [result["order"]["id"] for result in answer["results"]]


class TestBatches:
    def test_each_order_of_a_batch_stands_for_itself(self, server):
        account, _ = opened(server)
        good = {"type": "buy", "execution": "market", "srcCurrency": "ton", "dstCurrency": "usdt", "amount": "10"}
        data = [good, good | {"amount": "1", "clientOrderId": "small"}, "nonsense", good | {"srcCurrency": "nope"}]
        answer = server.nobitex(
            "POST", "/market/orders/batch-add", token=account["nobitex_token"], json={"data": data}
        ).json()
        first, *failed = answer["results"]
        assert (answer["status"], first["order"]["status"]) == ("ok", "Done")
        assert [(row["status"], row["code"], row["clientOrderId"]) for row in failed] == [
            ("failed", "SmallOrder", "small"),
            ("failed", "ParseError", None),
            ("failed", "InvalidMarketPair", None),
        ]

    def test_pro_is_said_for_the_whole_batch(self, server):
        account, _ = opened(server)
        same = {"type": "buy", "execution": "market", "srcCurrency": "ton", "dstCurrency": "usdt", "amount": "10"}
        codes = []
        for pro in ({}, {"pro": "yes"}):
            body = {"data": [same, same]} | pro
            answer = server.nobitex(
                "POST", "/market/orders/batch-add", token=account["nobitex_token"], json=body
            ).json()
            codes.append([row.get("code") for row in answer["results"]])
        assert codes == [[None, "DuplicateOrder"], [None, None]]

    def test_a_batch_is_json_with_a_list(self, server):
        for body in ({}, {"data": []}, {"data": "x"}):
            answer = server.nobitex("POST", "/market/orders/batch-add", json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "ParseError")

    def test_cancels_are_answered_by_id_as_text(self, server):
        token = opened(server)[0]["nobitex_token"]
        ids = resting(server, 2, token)
        answer = server.nobitex(
            "POST", "/market/orders/cancel-batch", token=token, json={"orderIds": [*ids, 999_999]}
        ).json()
        assert answer["orders"] == {
            str(ids[0]): {"status": "ok"},
            str(ids[1]): {"status": "ok"},
            "999999": {"status": "failed", "message": "SimNotFound"},
        }
        assert server.nobitex("GET", "/market/orders/open-count", token=token).json()["count"] == 0

    def test_queued_cancels_come_later(self, server):
        token = opened(server)[0]["nobitex_token"]
        ids = resting(server, 1, token)
        path, count = "/market/orders/cancel-batch", "/market/orders/open-count"
        with (
            switched(server, "nobitex", "async_cancel_batch", True),
            switched(server, "nobitex", "cancel_batch_delay_seconds", 1),
        ):
            answer = server.nobitex("POST", path, token=token, json={"orderIds": ids}).json()
            assert answer["message"] == "Orders are queued to be cancelled"
            assert server.nobitex("GET", count, token=token).json()["count"] == 1
            time.sleep(1.3)
            assert server.nobitex("GET", count, token=token).json()["count"] == 0

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            ([], "Order_ids list is empty"),
            (list(range(21)), "The maximum number of orderIds should be 20"),
            (["x"], 'Invalid integer value: "x"'),
        ],
    )
    def test_a_list_that_cannot_be_cancelled_says_why(self, server, ids, message):
        answer = server.nobitex("POST", "/market/orders/cancel-batch", json={"orderIds": ids})
        assert (answer.json()["status"], answer.json()["message"]) == ("failed", message)


class TestShapes:
    def test_depth_groups_adds_up_and_has_a_text_for_a_time(self, server):
        answer = server.nobitex("GET", "/v2/depth/BTCUSDT", token=None).json()
        assert abs(int(answer["lastUpdate"]) / 1000 - time.time()) < 5
        asks, bids = ([(D(price), D(amount)) for price, amount in answer[side]] for side in ("asks", "bids"))
        assert asks == sorted(asks) and [amount for _, amount in asks] == sorted(amount for _, amount in asks)
        assert bids == sorted(bids) and [amount for _, amount in bids] == sorted((a for _, a in bids), reverse=True)
        assert all(price % 1 == 0 for price, _ in asks + bids)  # groups of a hundred ticks

    def test_depth_by_hand(self):
        row = depth_row(BOOK, D(100), "USDT", D("0.01"), 5)
        assert (row["lastUpdate"], row["asks"]) == ("5", [["101", "3"], ["102", "8"], ["103", "58"]])
        assert row["bids"] == [["97", "58"], ["98", "8"], ["99", "3"]]

    def test_rial_has_two_names_and_objects_have_a_field_nobody_documented(self, server):
        account = server.control(
            "POST", "/accounts", json={"name": uuid4().hex[:10], "balances": {"nobitex": {"IRT": "90000000"}}}
        ).json()
        body = {"type": "buy", "execution": "market", "srcCurrency": "usdt", "dstCurrency": "rls", "pro": "yes"}
        path = "/market/orders/add"
        orders = [
            server.nobitex("POST", path, token=account["nobitex_token"], json=body | {"amount": "10"}).json()["order"]
            for _ in range(2)
        ]
        assert {order["dstCurrency"] for order in orders} == {"﷼", "ریال"}
        assert all("simUndocumented" in order for order in orders)
        with switched(server, "nobitex", "extra_unknown_fields", False):
            plain = server.nobitex("GET", "/market/orders/list?status=all&details=2", token=account["nobitex_token"])
            assert "simUndocumented" not in plain.text

    def test_public_data_is_the_same_for_a_second(self, server):
        path = "/v3/orderbook/ETHUSDT"
        with switched(server, "nobitex", "public_cache_seconds", 30):
            first = server.nobitex("GET", path, token=None).json()
            time.sleep(1.2)
            assert server.nobitex("GET", path, token=None).json() == first
        assert server.nobitex("GET", path, token=None).json()["lastUpdate"] > first["lastUpdate"]

    def test_candles_can_be_missing_always_the_same_ones(self, server):
        now = int(time.time()) // 60 * 60 - 60
        path = f"/market/udf/history?symbol=SOLUSDT&resolution=1&countback=200&to={now}"
        whole = server.nobitex("GET", path, token=None).json()["t"]
        with (
            switched(server, "nobitex", "missing_candles_percent", 20),
            switched(server, "nobitex", "public_cache_seconds", 0),
        ):
            first, again = (server.nobitex("GET", path, token=None).json()["t"] for _ in range(2))
        assert len(whole) == 200
        assert first == again and set(first) < set(whole) and 130 < len(first) < 190

    def test_a_market_can_be_closed(self, server):
        with (
            switched(server, "nobitex", "closed_symbols", "TRXUSDT"),
            switched(server, "nobitex", "public_cache_seconds", 0),
        ):
            stats = server.nobitex("GET", "/market/stats?srcCurrency=trx&dstCurrency=usdt").json()["stats"]
            assert stats["trx-usdt"]["isClosed"] is True
            body = {"type": "buy", "execution": "market", "srcCurrency": "trx", "dstCurrency": "usdt", "amount": "90"}
            assert server.nobitex("POST", "/market/orders/add", json=body).json()["code"] == "MarketClosed"

    def test_multipart_forms_are_read_by_orders_add_alone(self, server):
        form = {"type": "buy", "execution": "market", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "0.002"}
        files = {name: (None, value) for name, value in (form | {"pro": "yes"}).items()}
        assert server.nobitex("POST", "/market/orders/add", files=files).json()["order"]["status"] == "Done"
        assert server.nobitex("POST", "/market/orders/status", files={"id": (None, "1")}).json()["code"] == "ParseError"


class Hand:
    """Time for a doorman."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def refused() -> Iterator[list[Failure]]:
    caught: list[Failure] = []
    with pytest.raises(Failure) as info:
        yield caught
    caught.append(info.value)


class TestBlocks:
    def test_ten_refusals_in_a_row_block_an_account_everywhere_for_two_minutes(self, tmp_path):
        with running(tmp_path, "--seed", "4") as server:
            path = "/market/orders/open-count"  # 15 a minute
            codes = [server.nobitex("GET", path).status_code for _ in range(25)]
            assert codes == [200] * 15 + [429] * 10
            elsewhere = server.nobitex("GET", "/users/profile")
            assert (elsewhere.status_code, elsewhere.json()["code"]) == (429, "TooManyRequests")
            assert 100 < elsewhere.json()["backOff"] <= 121

    def test_a_batch_that_meets_the_shared_limit_answers_fewer_results(self, tmp_path):
        with running(tmp_path, "--seed", "4") as server:
            data = [{"type": "hold", "srcCurrency": "btc", "dstCurrency": "usdt", "amount": "1"}] * 295
            path = "/market/orders/batch-add"
            assert len(server.nobitex("POST", path, json={"data": data}).json()["results"]) == 295
            server.nobitex("POST", "/market/orders/add", json=data[0])  # counts too: 296
            assert len(server.nobitex("POST", path, json={"data": data[:10]}).json()["results"]) == 4
            assert server.nobitex("POST", "/market/orders/add", json=data[0]).json()["limit"] == 300

    def test_failed_logins_block_an_address_until_their_window_ends(self, exchange: Exchange):
        clock = Hand()
        doorman = Doorman(exchange, RateLimiter(), monotonic=clock)
        request = _request()
        for _ in range(101):
            doorman.check_address(request)
            doorman._note_failure(request)
        clock.now += 1799
        with refused() as failures:
            doorman.check_address(request)
        assert (failures[0].status, failures[0].more["backOff"]) == (429, 2)
        clock.now += 1
        doorman.check_address(request)

    def test_a_success_between_ends_the_row_and_the_block_ends_too(self, exchange: Exchange):
        clock = Hand()
        doorman = Doorman(exchange, RateLimiter(), monotonic=clock)
        for count in (9, 10):
            for _ in range(count):
                doorman._note_refusal("ann")
            if count == 9:
                doorman.check_account("ann")
                doorman.note_success("ann")
        with refused():
            doorman.check_account("ann")
        clock.now += 120
        doorman.check_account("ann")

    def test_the_account_of_a_token_can_be_told_and_forgeries_cannot(self, exchange: Exchange):
        account, now = exchange.accounts["ann"], datetime(2026, 1, 1, tzinfo=UTC)
        token = nobitex_tokens.issue(account, now)
        found = nobitex_tokens.verify(token, now + timedelta(seconds=1199), exchange.accounts)
        assert found.account is account
        for text, at in ((token, 1200), (token[:-2], 0), ("a.b.c", 0)):
            with pytest.raises((nobitex_tokens.TokenInvalid, nobitex_tokens.TokenExpired)):
                nobitex_tokens.verify(text, now + timedelta(seconds=at), exchange.accounts)


@pytest.fixture
def exchange(tmp_path) -> Iterator[Exchange]:
    from providers.clock import AnchoredClock
    from providers.paper.feeds.synthetic import SyntheticFeed
    from providers.paper.store import Store

    made = Exchange(SyntheticFeed(4), AnchoredClock(), Store(tmp_path / "paper.sqlite3"))
    made.open_account("ann", wallex_key="1|a", nobitex_token="cd" * 20, balances={})
    yield made
    made.close()


def _request() -> Any:
    from starlette.requests import Request

    return Request({"type": "http", "client": ("10.1.1.1", 1), "headers": []})


def test_placing_orders_does_not_use_up_the_limit_of_listing_them(tmp_path):
    with running(tmp_path, "--seed", "4") as counting:
        for _ in range(40):
            counting.nobitex("POST", "/market/orders/add", json={})
        codes = [counting.nobitex("GET", "/market/orders/list").status_code for _ in range(31)]
    assert codes == [200] * 30 + [429]
