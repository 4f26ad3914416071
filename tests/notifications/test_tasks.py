from __future__ import annotations

import pytest

from algo import queues, tasks
from algo.exchanges import CLOCK
from algo.models import Delivery, DeliveryState
from tests import factories as make

pytestmark = pytest.mark.django_db


def test_each_channel_with_something_to_send_is_a_task_of_its_own(receiver, settings, monkeypatch):
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET, settings.DEBUG = receiver.url, "secret", True
    handed_on = []
    monkeypatch.setattr(tasks.deliver_channel, "apply_async", lambda args, **_: handed_on.append(*args))
    away = make.make_channel(make.make_user(role=make.rights.Role.ADMIN), target="https://127.0.0.1/", secret="s")
    make.make_outbox_event("deal.opened", created_at=CLOCK.now())
    assert tasks.deliver_outbox() == 2
    operators = Delivery.objects.get(channel__owner=None).channel
    assert sorted(handed_on) == sorted([away.pk, operators.pk])
    assert [tasks.deliver_channel(pk) for pk in (away.pk, operators.pk)] == [0, 1]
    assert Delivery.objects.get(channel=operators).state == DeliveryState.DELIVERED
    assert "refused" in Delivery.objects.get(channel=away).last_error
    handed_on.clear()
    assert (tasks.deliver_outbox(), handed_on) == (0, [])  # the one is told, the other is left alone for a while


@pytest.fixture
def sent(monkeypatch):
    """Names of the tasks that were left for the workers."""
    names = []
    monkeypatch.setattr(queues.current_app, "send_task", lambda name, **_: names.append(name))
    return names


def test_an_event_is_announced_once_it_is_committed(sent, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        make.make_outbox_event("deal.opened", created_at=CLOCK.now())
        queues.events_hint()
        assert sent == []  # it may still be rolled back
    assert sent == ["algo.tasks.deliver_outbox"]


def test_nothing_is_announced_where_all_is_handed_out(sent, django_capture_on_commit_callbacks):
    make.make_outbox_event("deal.opened", created_at=CLOCK.now())
    tasks.deliver_outbox()
    sent.clear()
    with django_capture_on_commit_callbacks(execute=True):
        queues.events_hint()
    assert sent == []


def test_who_looks_after_an_account_announces_what_happened(sent, monkeypatch, django_capture_on_commit_callbacks):
    account = make.make_account()

    def opens_a_deal(*_, **__):
        make.make_outbox_event("deal.opened", created_at=CLOCK.now())
        return "advanced"

    monkeypatch.setattr(tasks, "look_after", opens_a_deal)
    with django_capture_on_commit_callbacks(execute=True):
        assert tasks.advance_account(account.pk) == "advanced"
    assert sent == ["algo.tasks.deliver_outbox"]


def test_a_hint_for_an_account_that_somebody_holds_comes_back_a_moment_later(monkeypatch):
    account, sent = make.make_account(), []
    monkeypatch.setattr(queues.current_app, "send_task", lambda name, args, **how: sent.append((name, args, how)))
    monkeypatch.setattr(tasks, "look_after", lambda *_, **__: "busy")
    assert tasks.advance_account(account.pk, ["7"], 2) == "busy"
    [(name, args, how)] = sent
    assert (name, args, how["queue"], how["countdown"]) == (
        "algo.tasks.advance_account",
        [account.pk, ["7"], 1],
        "orders",
        0.1,
    )


def test_hints_hurry_and_the_sweep_does_not(monkeypatch):
    account, looks = make.make_account(), []
    monkeypatch.setattr(tasks, "look_after", lambda *_, **how: looks.append(how["hurried"]))
    monkeypatch.setattr(tasks.advance_account, "delay", tasks.advance_account)
    tasks.advance_account(account.pk)
    assert tasks.sweep_accounts() == 1
    assert looks == [True, False]


def test_it_does_not_come_back_for_ever(monkeypatch):
    sent: list[object] = []
    monkeypatch.setattr(queues.current_app, "send_task", lambda *_, **__: sent.append(1))
    monkeypatch.setattr(tasks, "look_after", lambda *_, **__: "busy")
    assert tasks.advance_account(make.make_account().pk, [], 0) == "busy"
    assert sent == []


def test_a_broker_that_is_away_fails_nothing(monkeypatch, caplog, django_capture_on_commit_callbacks):
    def broken(*_, **__):
        raise OSError("refused")

    monkeypatch.setattr(queues.current_app, "send_task", broken)
    make.make_outbox_event("deal.opened", created_at=CLOCK.now())
    with django_capture_on_commit_callbacks(execute=True):
        queues.events_hint()
    assert "beat's tick finds them" in caplog.text
