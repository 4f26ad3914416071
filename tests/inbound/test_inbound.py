"""Signals from outside: taken from who proves to have the key, once, in time, and through the gate of all others."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from algo.execution.entries import due_groups
from algo.models import (
    AuditRecord,
    Deal,
    DealStatus,
    Decision,
    Door,
    InboundAlert,
    InboundKey,
    Order,
    Signal,
)
from algo.selectors.parity import configs_that_decided
from algo.selectors.rights import Role
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set, strategy_start, strategy_stop
from algo.services.inbound import InboundRefused, inbound_key_make, inbound_key_revoke, inbound_key_switch
from algo.services.strategy_acts import StrategyRefused, strategy_run_now
from algo.standard_webhooks import is_signed, signature
from tests import factories as make
from tests.factories import by
from tests.inbound.conftest import CLOCK, Sender, alert

pytestmark = pytest.mark.django_db


def nothing_happened() -> bool:
    rows = (InboundAlert, Signal, Decision, Deal, Order)
    return not any(row.objects.exists() for row in rows)  # type: ignore[attr-defined]


# --- from a signal to a deal --------------------------------------------------------------------------------------


def test_a_buy_becomes_a_signal_and_a_planned_deal_with_its_entry_order(sender, worker, config):
    answer = sender.send(confidence=0.8, price=50_010)
    assert (answer.status_code, answer.json()["state"], answer.json()["is_new"]) == (202, "waiting", True)
    assert worker.run() == 1
    signal, deal, order = Signal.objects.get(), Deal.objects.get(), Order.objects.get()
    assert (signal.side, signal.reason, signal.confidence, signal.denial_code) == (
        "BUY",
        "EXTERNAL",
        Decimal("0.8"),
        "",
    )
    assert (deal.signal, deal.side, deal.status, order.status) == (signal, "BUY", "PLANNED", "PENDING")
    assert deal.rules["stop_loss_percent"] == "1"
    assert worker.hints == [config.account_id]
    decision = Decision.objects.get()
    assert (decision.outcome, decision.journal["alert"]["id"]) == ("entered", "ema-1")
    assert (alert().state, alert().outcome, alert().signal) == ("decided", "entered", signal)
    # the candle that was closed when the signal was given
    assert signal.bar_open_at.second == 0
    assert timedelta(minutes=1) <= alert().alert_at - signal.bar_open_at < timedelta(minutes=2)


def test_a_signed_signal_is_taken_without_a_secret_in_its_body(sender, worker):
    assert sender.signed().status_code == 202
    worker.run()
    assert Deal.objects.count() == 1
    assert "secret" not in json.dumps(alert().asked)


def test_a_stop_target_and_confidence_of_its_own_are_the_deals_rules(sender, worker):
    sender.send(stop_loss_percent="1.5", take_profit_percent=4, confidence="0.5")
    worker.run()
    deal = Deal.objects.get()
    assert (deal.rules["stop_loss_percent"], deal.rules["take_profit_percent"]) == ("1.5", "4")
    # 50,001 less 1.5 % is 49,250.985: up to the next tick, nearer to the price
    assert deal.initial_stop_price == Decimal("49250.99")
    # 10,000 USDT x 50 % (the strategy's largest position) x 0.5, at the ask
    assert Decimal("2490") < deal.planned_quantity * deal.planned_price <= Decimal("2500")


@pytest.mark.parametrize(
    ("field", "value"), [("stop_loss_percent", 2.1), ("take_profit_percent", "10.5"), ("confidence", "0.9")]
)
def test_a_signal_cannot_want_more_than_the_strategy_allows(sender, config, field, value):
    config.parameters = {**config.parameters, "largest_confidence": "0.8"}
    config.save()
    answer = sender.send(**{field: value})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["attr"] == field
    assert nothing_happened()


def test_an_opposite_signal_closes_the_open_deal_where_its_rules_say_so(sender, worker, config):
    deal = make.make_open_deal(config, rules={"exit_on_opposite_signal": True})
    sender.send(action="sell")
    worker.run()
    deal.refresh_from_db()
    assert (deal.status, deal.exit_reason) == ("EXITING", "signal")
    assert (alert().outcome, worker.hints) == ("exit", [config.account_id])


# --- who is let in --------------------------------------------------------------------------------------------------


def told(answer: Any) -> Any:
    return answer.status_code, answer.json()


def test_whoever_does_not_prove_the_key_gets_one_and_the_same_answer(sender, settings):
    forged = sender.send(secret="whsec_" + "B" * 44)
    answers = {
        "forged": forged,
        "no secret": sender.send(secret=None),
        "empty secret": sender.send(secret=""),
        "a number for a secret": sender.send(secret=7),
        "wrong signature": sender.signed(secret="whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="),
        "no JSON object": sender.post(b'["buy"]'),
        "a right secret and a wrong signature": sender.post(sender.body(), **{"webhook-signature": "v1,AAAA"}),
        "a signature without a time": sender.post(sender.body(), **{"webhook-signature": "v1,AAAA", "webhook-id": "x"}),
    }
    inbound_key_revoke(sender.key, by=by(sender.trader), at=CLOCK.now())
    answers["revoked"] = sender.send()
    sender.key.public_id = "5f0c4d1e-3c1b-4f0e-9d3a-0c6b1f3f8a11"
    answers["unknown address"] = sender.send()
    for name, answer in answers.items():
        assert told(answer) == told(forged), name
    assert forged.status_code == 404
    assert nothing_happened()


def test_it_is_off_until_the_setting_is_on(sender, settings):
    settings.INBOUND_SIGNALS = False
    assert sender.send().status_code == 404
    settings.INBOUND_SIGNALS = True
    assert sender.send().status_code == 202


def test_the_setting_is_off_by_default():
    from algo_trade.env import Env

    assert Env.model_fields["INBOUND_SIGNALS"].default is False


def test_a_new_key_is_off_until_somebody_switches_it_on(config, trader):
    sender = Sender(config, trader)
    inbound_key_switch(sender.key, is_on=False, by=by(trader), at=CLOCK.now())
    answer = sender.send()
    assert (answer.status_code, answer.json()["code"]) == (409, "switched_off")
    key, _ = inbound_key_make(config, by=by(trader), at=CLOCK.now())
    assert key.is_on is False
    assert nothing_happened()


def test_a_key_acts_as_its_maker_and_no_longer_than_they_may_trade(sender, worker):
    sender.trader.groups.clear()
    answer = sender.send()
    assert (answer.status_code, answer.json()["code"]) == (409, "not_allowed")
    assert nothing_happened()


def test_nothing_of_the_secret_is_kept_in_clear_told_or_logged(sender, worker, caplog):
    caplog.set_level("DEBUG")
    sender.send()
    sender.send(secret=sender.secret + "x")
    worker.run()
    key = InboundKey.objects.get()
    assert sender.secret not in key.secret_sealed
    kept = json.dumps([*InboundAlert.objects.values("asked", "note"), *AuditRecord.objects.values("details")])
    assert sender.secret not in kept + caplog.text


# --- what is taken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "attr"),
    [
        ({"action": "hold"}, "action"),
        ({"action": None}, "action"),
        ({"id": ""}, "id"),
        ({"id": "with space"}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"time": "2026-11-02T10:00:00"}, "time"),
        ({"time": 1_700_000_000}, "time"),
        ({"market": "BTC USDT"}, "market"),
        ({"confidence": 0}, "confidence"),
        ({"confidence": 1.5}, "confidence"),
        ({"stop_loss_percent": -1}, "stop_loss_percent"),
        ({"price": "NaN"}, "price"),
        ({"leverage": 10}, "leverage"),
        ({"quantity": "5"}, "quantity"),
    ],
)
def test_what_is_no_signal_is_refused_beside_its_field(sender, fields, attr):
    answer = sender.send(**fields)
    assert answer.status_code == 400, answer.content
    assert attr in [error["attr"] for error in answer.json()["errors"]]
    assert sender.secret not in answer.content.decode()
    assert nothing_happened()


def test_another_market_is_refused(sender):
    answer = sender.send(market="ETHUSDT")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "wrong_market")
    assert nothing_happened()
    assert sender.send(market="btc/usdt").status_code == 202


def test_a_large_body_is_not_read(sender):
    assert sender.post(b" " * 4097).status_code == 413
    assert sender.post(json.dumps(sender.body()).encode() + b" " * 3000).status_code == 202


@pytest.mark.parametrize("seconds", [-121, 11])
def test_what_is_old_or_from_the_future_is_refused(sender, seconds):
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    answer = sender.send(time=at.isoformat())
    assert (answer.status_code, answer.json()["code"]) == (409, "stale")
    assert nothing_happened()


def test_an_old_signature_is_refused_however_new_the_body_says_it_is(sender):
    answer = sender.signed(at=time.time() - 121)
    assert (answer.status_code, answer.json()["code"]) == (409, "stale")
    assert nothing_happened()


def test_a_signature_counts_for_its_own_id_alone(sender):
    answer = sender.signed(event_id="another")
    assert (answer.status_code, answer.json()["code"]) == (409, "ids_differ")


def test_the_same_signal_twice_acts_once_and_is_answered_alike(sender, worker):
    body = sender.body()
    first, second = sender.post(body), sender.post(body)
    assert (first.status_code, second.status_code, second.json()["is_new"]) == (202, 202, False)
    worker.run()
    third = sender.post(body)
    assert (third.status_code, third.json()["outcome"], third.json()["is_new"]) == (200, "entered", False)
    assert worker.run() == 0
    assert [row.objects.count() for row in (InboundAlert, Signal, Deal)] == [1, 1, 1]


def test_an_id_is_not_used_for_another_signal(sender):
    assert sender.send(id="x", action="buy").status_code == 202
    answer = sender.send(id="x", action="sell")
    assert (answer.status_code, answer.json()["code"]) == (409, "id_reused")
    assert InboundAlert.objects.count() == 1


def test_an_id_stays_used_when_the_key_is_another_one(sender, config, trader):
    body = sender.body(id="x")
    sender.post(body)
    other = Sender(config, trader)
    assert other.post(body | {"secret": other.secret}).json()["is_new"] is False


def test_a_stopped_strategy_takes_none(sender, config, trader):
    strategy_stop(config, by=by(trader), at=CLOCK.now())
    answer = sender.send()
    assert (answer.status_code, answer.json()["code"]) == (409, "strategy_stopped")
    assert nothing_happened()


def test_requests_are_counted_by_address_and_door(sender):
    for _ in range(60):
        sender.send(secret="x")
    assert sender.send(secret="x").status_code == 429


# --- the gate -------------------------------------------------------------------------------------------------------


def test_one_candle_one_decision(sender, worker):
    sender.send(action="sell")
    sender.send(action="buy")
    worker.run()
    states = dict(InboundAlert.objects.values_list("alert_id", "state"))
    if Decision.objects.count() == 1:  # the minute did not end between the two
        assert states == {"ema-1": "decided", "ema-2": "refused"}
        assert "one candle, one decision" in InboundAlert.objects.get(alert_id="ema-2").note


def kill(config: Any, venue: Any) -> None:
    kill_switch_set("no_entries", reason="news", by=PLATFORM)


def pause(config: Any, venue: Any) -> None:
    config.account.state = "paused"
    config.account.save()


def old_book(config: Any, venue: Any) -> None:
    venue.old = timedelta(seconds=30)


def one_side(config: Any, venue: Any) -> None:
    config.allowed_sides = "SELL"
    config.save()


def no_orders(config: Any, venue: Any) -> None:
    config.ordering_enabled = False
    config.save()


def poor(config: Any, venue: Any) -> None:
    venue.wallet = {"USDT": Decimal(1)}


def open_deal(config: Any, venue: Any) -> None:
    make.make_open_deal(config)


def ticket(config: Any, venue: Any) -> None:
    make.make_ticket(config.account, market=config.market)


@pytest.mark.parametrize(
    ("stands", "code"),
    [
        (kill, "kill_switch"),
        (pause, "account_paused"),
        (old_book, "stale_data"),
        (one_side, "side_not_allowed"),
        (no_orders, "strategy_not_ordering"),
        (poor, "insufficient_balance"),
        (open_deal, "open_deal_exists"),
        (ticket, "market_blocked"),
    ],
)
def test_the_gate_of_all_strategies_denies_it(sender, worker, venue, config, stands, code):
    stands(config, venue)
    body = sender.body()
    assert sender.post(body).status_code == 202
    worker.run()
    signal = Signal.objects.get()
    assert signal.denial_code == code
    assert (alert().state, alert().outcome, alert().signal) == ("decided", "denied", signal)
    assert not Order.objects.exists()
    assert Decision.objects.get().journal["denial"]["code"] == code
    assert sender.post(body).json()["denial_code"] == code  # who sends it again is told


def test_a_price_that_is_far_from_the_market_is_denied(sender, worker):
    """Toman for rial, or the alert of another coin."""
    sender.send(price=500_000)
    worker.run()
    assert Signal.objects.get().denial_code == "basis_too_wide"


def test_the_cooldown_and_the_entries_of_the_day_count(sender, worker, config):
    now = CLOCK.now()
    config.parameters = {**config.parameters, "max_daily_trades": 1}
    config.save()
    make.make_closed_deal(config, created_at=now, bar_open_at=now - timedelta(hours=1))
    sender.send()
    worker.run()
    assert Signal.objects.get().denial_code == "daily_trades"


def test_what_waited_too_long_for_a_worker_is_refused(sender, worker):
    sender.send()
    InboundAlert.objects.update(received_at=CLOCK.now() - timedelta(seconds=61))
    worker.run()
    assert (alert().state, alert().note) == ("refused", "No worker came to it within 60 seconds.")
    assert not Signal.objects.exists()


def test_a_strategy_that_was_stopped_meanwhile_decides_nothing(sender, worker, config, trader):
    sender.send()
    strategy_stop(config, by=by(trader), at=CLOCK.now())
    worker.run()
    assert (alert().state, Signal.objects.count()) == ("refused", 0)


def test_one_that_fails_keeps_no_other_from_being_decided(sender, worker, trader, monkeypatch):
    from algo.execution import alerts

    other = make.make_config(strategy="ExternalSignals", account=make.make_account(owner=trader))
    sender.send()
    Sender(other, trader).send(id="other")
    real, failed = alerts.entry_evidence, []

    def fails_once(*args: Any, **kwargs: Any) -> Any:
        if not failed:
            failed.append(1)
            raise ZeroDivisionError("a bad day")
        return real(*args, **kwargs)

    monkeypatch.setattr(alerts, "entry_evidence", fails_once)
    assert worker.run() == 1
    assert InboundAlert.objects.get(alert_id="ema-1").state == "waiting"
    assert worker.run() == 1


# --- closing --------------------------------------------------------------------------------------------------------


def test_close_closes_what_the_strategy_has_open_as_by_hand(sender, config, trader):
    deal = make.make_open_deal(config)
    elsewhere = make.make_config(account=config.account, market=make.make_market("ETHUSDT"))
    other = make.make_open_deal(elsewhere)
    answer = sender.send(action="close")
    assert (answer.status_code, answer.json()["closed"], answer.json()["state"]) == (200, 1, "closed")
    deal.refresh_from_db()
    assert (deal.status, deal.exit_reason) == ("EXITING", "manual")
    other.refresh_from_db()
    assert other.status == DealStatus.OPEN
    record = AuditRecord.objects.get(act="deal.close")
    assert (record.user, record.door, record.reason) == (trader, Door.INBOUND, "signal ema-1")


def test_close_works_under_the_kill_switch_and_for_a_stopped_strategy(sender, config, trader):
    deal = make.make_open_deal(config)
    kill_switch_set("no_entries", reason="news", by=PLATFORM)
    strategy_stop(config, by=by(trader), at=CLOCK.now())
    assert sender.send(action="close").json()["closed"] == 1
    deal.refresh_from_db()
    assert deal.exit_reason == "manual"


def test_close_takes_back_what_was_not_decided_yet(sender, worker):
    sender.send(action="buy")
    assert sender.send(action="close").json()["closed"] == 0
    worker.run()
    assert not Signal.objects.exists()
    assert InboundAlert.objects.get(action="buy").note == "A later signal to close came first."


def test_a_repeated_close_does_not_close_what_was_opened_since(sender, config):
    body = sender.body(action="close")
    sender.post(body)
    deal = make.make_open_deal(config)
    assert (sender.post(body).json()["is_new"], sender.post(body).json()["closed"]) == (False, 0)
    deal.refresh_from_db()
    assert deal.status == DealStatus.OPEN


def test_close_says_what_could_not_be_closed(sender, config):
    make.make_open_deal(config)
    config.account.state = "stopped"
    config.account.save()
    answer = sender.send(action="close")
    assert (answer.json()["state"], answer.json()["closed"]) == ("refused", 0)
    assert "refuses the key" in answer.json()["note"]


# --- at once --------------------------------------------------------------------------------------------------------


def in_threads(count: int, act: Any) -> list[Any]:
    answers, start = [], threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(timeout=10)
            answers.append(act(number))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return answers


@pytest.mark.django_db(transaction=True)
def test_delivered_six_times_at_once_it_acts_once(config, trader, worker):
    sender = Sender(config, trader)
    body = sender.body()
    answers = in_threads(6, lambda _: sender.post(body))
    assert {answer.status_code for answer in answers} == {202}
    assert [answer.json()["is_new"] for answer in answers].count(True) == 1
    in_threads(4, lambda _: worker.run())
    assert [row.objects.count() for row in (InboundAlert, Signal, Deal, Order)] == [1, 1, 1, 1]
    assert alert().state == "decided"


@pytest.mark.django_db(transaction=True)
def test_a_close_that_comes_while_an_entry_is_decided_leaves_nothing_open(config, trader, worker):
    sender = Sender(config, trader)
    sender.send(action="buy")
    close = sender.body(action="close")
    in_threads(2, lambda number: worker.run() if number else sender.post(close))
    live = Deal.objects.filter(exit_reason="")
    assert not live.exists(), "either the entry was taken back, or its deal is being closed"


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_key_is_made_for_a_strategy_that_takes_signals_by_who_may_trade_with_its_account(config, trader):
    candles = make.make_config(account=config.account)
    with pytest.raises(InboundRefused, match="decides by itself"):
        inbound_key_make(candles, by=by(trader), at=CLOCK.now())
    with pytest.raises(InboundRefused, match="sign in"):
        inbound_key_make(config, by=PLATFORM, at=CLOCK.now())


def test_a_new_key_takes_the_place_of_the_one_before(sender, config, trader):
    before = sender.body()
    new = Sender(config, trader)
    assert new.secret != sender.secret
    assert sender.post(before).status_code == 404
    assert new.send().status_code == 202


def test_what_is_done_to_keys_is_in_the_audit_log(sender, trader):
    inbound_key_switch(sender.key, is_on=False, by=by(trader), at=CLOCK.now())
    inbound_key_revoke(sender.key, by=by(trader), at=CLOCK.now())
    assert inbound_key_revoke(sender.key, by=by(trader), at=CLOCK.now()) is False
    acts = list(AuditRecord.objects.order_by("pk").values_list("act", flat=True))
    assert acts == ["inbound_key.make", "inbound_key.on", "inbound_key.off", "inbound_key.revoke"]
    with pytest.raises(InboundRefused, match="revoked"):
        inbound_key_switch(sender.key, is_on=True, by=by(trader), at=CLOCK.now())


def test_over_rest_a_key_is_made_shown_once_switched_and_revoked(config, trader):
    api = APIClient()
    api.force_authenticate(trader)
    made = api.post("/api/v1/inbound-keys/", {"config": config.pk, "label": "TradingView"}, format="json")
    assert made.status_code == 201
    key, secret = made.json()["id"], made.json()["secret"]
    assert made.json()["is_on"] is False
    listed = api.get("/api/v1/inbound-keys/")
    assert secret not in listed.content.decode()
    assert listed.json()["results"][0]["address"] == made.json()["address"]
    assert api.post(f"/api/v1/inbound-keys/{key}/on/").json() | {"key": None} == {"done": True, "key": None}
    now = datetime.now(UTC).isoformat()
    sent = {"id": "a", "time": now, "action": "buy", "market": "BTCUSDT", "secret": secret}
    assert APIClient().post(made.json()["address"], sent, format="json").status_code == 202
    assert api.get("/api/v1/inbound-signals/", {"config": config.pk}).json()["results"][0]["alert_id"] == "a"
    assert api.delete(f"/api/v1/inbound-keys/{key}/").status_code == 204
    assert APIClient().post(made.json()["address"], sent, format="json").status_code == 404


def test_who_may_only_look_makes_and_switches_no_key(sender, config):
    viewer = make.make_trader("looker")
    config.account.viewers.add(viewer)
    api = APIClient()
    api.force_authenticate(viewer)
    assert api.post("/api/v1/inbound-keys/", {"config": config.pk}, format="json").status_code == 403
    assert api.post(f"/api/v1/inbound-keys/{sender.key.pk}/off/").status_code == 403
    assert api.delete(f"/api/v1/inbound-keys/{sender.key.pk}/").status_code == 403


# --- a strategy without candles -------------------------------------------------------------------------------------


def test_no_candle_has_it_decide_and_none_is_missed(config, trader):
    assert due_groups(CLOCK.now()) == []
    with pytest.raises(StrategyRefused, match="when a signal is sent"):
        strategy_run_now(config, by=by(trader), at=CLOCK.now())


def test_a_day_of_it_is_not_compared_with_a_backtest(sender, worker):
    sender.send()
    worker.run()
    now = CLOCK.now()
    assert list(configs_that_decided(now - timedelta(days=1), now + timedelta(days=1))) == []


def test_it_passes_its_bias_checks_and_starts(config, trader):
    strategy_stop(config, by=by(trader), at=CLOCK.now())
    assert strategy_start(config, by=by(trader), at=CLOCK.now()) is True


def test_admins_see_every_key_and_others_only_those_of_accounts_they_see(sender):
    boss, stranger = make.make_user(role=Role.ADMIN), make.make_trader()
    api = APIClient()
    for user, count in ((boss, 1), (stranger, 0)):
        api.force_authenticate(user)
        assert len(api.get("/api/v1/inbound-keys/").json()["results"]) == count


# --- the signature --------------------------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_standard_webhooks_scheme():
    """The example of the scheme's own specification."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body, event_id, at = b'{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    signed = signature(body, event_id=event_id, timestamp=at, secret=secret)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    asked = {"event_id": event_id, "timestamp": str(at), "secret": secret}
    assert is_signed(body, signatures=f"v1,AAAA {signed}", **asked)
    assert not is_signed(body, signatures="v1,AAAA v2,BBBB", **asked)
    assert not is_signed(body + b" ", signatures=signed, **asked)
