"""`manage.py paper_exchange`: what a person types, against a real paper exchange."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.paper.world import CONTROL, Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("command"), "--seed", "4") as server:
        yield server


@pytest.fixture
def say(server, settings):
    settings.PAPER_CONTROL_URL, settings.PAPER_CONTROL_TOKEN = server.control_url, CONTROL

    def call(*words: str) -> str:
        out = io.StringIO()
        call_command("paper_exchange", *words, stdout=out)
        return out.getvalue()

    return call


def test_a_fault_is_added_seen_at_work_and_taken_away(say, server):
    words = (
        "add-fault",
        "delay",
        "seconds=0.01",
        "when=after",
        "--venue",
        "wallex",
        "--path",
        "/v1/markets",
        "--nth",
        "2",
    )
    assert "is in force: delay at wallex /v1/markets, from the 2. match on, at most 1 times." in say(*words)
    for _ in range(3):
        server.wallex("GET", "/v1/markets")
    listed = say("faults")
    assert "1 of 3" in listed
    assert "seconds=0.01, when=after" in " ".join(listed.split())
    assert "1 rules are gone" in say("clear-faults")
    assert "No fault rules" in say("faults")


def test_one_rule_is_removed_by_its_id(say):
    number = say("add-fault", "stop_never_triggers", "--path", "BTC/USDT/*").split()[1]
    assert f"Rule {number} is gone" in say("remove-fault", number)
    with pytest.raises(CommandError, match=f"refused: there is no fault rule {number}. Nothing was changed"):
        say("remove-fault", number)


def test_every_kind_is_listed(say):
    listed = say("kinds")
    assert "drop_after" in listed
    assert "bytes_per_second=20.0" in listed


def test_time_and_prices(say):
    assert "stands at" in say("pause")
    assert "stands at" in say("advance", "3600")
    assert "+3600 s" in say("resume")
    assert "BTC/USDT goes to 90000" in say("price", "BTC/USDT", "90000")
    assert "BTC/USDT" in say("status")


def test_the_request_log_and_the_switches(say, server):
    server.nobitex("GET", "/market/stats")
    assert "GET /market/stats" in say("requests", "--last", "5", "--venue", "nobitex")
    assert "wallex: stops_lock is False" in say("set-switch", "wallex", "stops_lock", "false")
    assert "wallex: stops_lock is True" in say("set-switch", "wallex", "stops_lock", "true")
    assert "stops_lock" in say("switches")
    assert "0 connections were cut" in say("disconnect-streams")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("add-fault", "earthquake"), "no kind of fault"),
        (("add-fault", "delay", "slow"), "'slow' is no parameter"),
        (("price", "BTC/USDT", "much"), "refused: 'much' is not a plain decimal"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(say, words, sentence):
    with pytest.raises(CommandError, match=sentence):
        say(*words)


def test_without_an_exchange_it_says_what_to_do(settings):
    settings.PAPER_CONTROL_URL = ""
    with pytest.raises(CommandError, match=r"Start the platform with \./run"):
        call_command("paper_exchange", "faults")
    settings.PAPER_CONTROL_URL, settings.PAPER_CONTROL_TOKEN = "http://127.0.0.1:9", "x"
    with pytest.raises(CommandError, match="does not answer"):
        call_command("paper_exchange", "faults")
