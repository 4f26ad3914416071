from __future__ import annotations

import io

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from algo import exchanges
from algo.models import Halt, KillSwitch, SystemControl
from providers.clock import AnchoredClock
from tests import factories as make

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr(exchanges, "CLOCK", AnchoredClock())


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("kill_switch", *words, stdout=out)
    return out.getvalue()


def test_status_of_a_system_that_trades():
    assert run("status") == "The kill switch of the whole system stands at off\n"


def test_set_says_what_it_did_and_what_stands():
    said = run("set", "cancel", "--reason", "odd prices")
    assert said.startswith("The kill switch of the whole system was turned: off -> cancel.\n")
    assert "stands at cancel, since" in said
    assert said.endswith("UTC: odd prices\n")
    assert SystemControl.load().kill_switch == KillSwitch.CANCEL
    assert "nothing was changed" in run("set", "cancel", "--reason", "again")


def test_set_of_an_account_a_strategy_and_a_market():
    config = make.make_config(name="demo")
    run("set", "no_entries", "--reason", "x", "--account", config.account.name)
    run("set", "cancel", "--reason", "x", "--strategy", "demo")
    said = run("set", "flatten", "--reason", "x", "--market", "wallex:btcusdt")
    assert {(halt.target, halt.level) for halt in Halt.objects.all()} == {
        (config.account, "no_entries"),
        (config, "cancel"),
        (config.market, "flatten"),
    }
    for line in ("the whole system stands at off", "strategy demo stands at cancel", "wallex:BTCUSDT stands at flat"):
        assert line in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("set", "flatten"), "say why"),
        (("set",), "Say the level"),
        (("status", "flatten"), "set flatten --reason"),
        (("set", "cancel", "--reason", "x", "--account", "nobody"), "no account 'nobody'"),
        (("set", "cancel", "--reason", "x", "--market", "BTCUSDT"), "PROVIDER:SYMBOL"),
        (("set", "cancel", "--reason", "x", "--market", "wallex:NOPE"), "NOPE"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(words, why):
    make.make_market()
    with pytest.raises(CommandError, match=why):
        run(*words)
    assert SystemControl.load().version == 0
    assert not Halt.objects.exists()


def test_flatten_is_left_without_a_proof_only_with_the_word_for_it():
    deal = make.make_closed_deal(make.make_config())
    assert "NOT PROVEN" in run("set", "flatten", "--reason", "out")
    with pytest.raises(CommandError, match=f"{deal.account.name}: it was never checked.*--unproven"):
        run("set", "off", "--reason", "back")
    assert "flatten -> off" in run("set", "off", "--reason", "back", "--unproven")
