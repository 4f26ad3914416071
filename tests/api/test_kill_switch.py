from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from algo.models import FlatProof, Halt, KillSwitch, OutboxEvent, SystemControl
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set
from providers.clock import clock_from_env
from tests import factories as make

pytestmark = pytest.mark.django_db

ADDRESS = "/api/v1/system/kill-switch"


def turn(client, level, *, reason="odd prices", **more):
    return client.post(ADDRESS, {"level": level, "reason": reason, **more}, format="json")


def detail(answer, status=400):
    assert answer.status_code == status, answer.content
    return answer.json()["errors"][0]["detail"]


@pytest.fixture
def risk_api(staff_api):
    """Somebody who may turn every switch."""
    return staff_api


def test_where_nothing_was_turned_the_system_stands_at_off(api):
    [system] = api.get(ADDRESS).json()
    assert (system["scope"], system["level"], system["version"], system["accounts"]) == ("system", "off", 0, [])


def test_turned_by_who_may_and_told_to_the_world(risk_api):
    answer = turn(risk_api, "cancel")
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in ("scope", "level", "reason", "version", "changed_by")} == {
        "scope": "system",
        "level": "cancel",
        "reason": "odd prices",
        "version": 1,
        "changed_by": "boss",
    }
    assert OutboxEvent.objects.get().payload["scope"] == "the whole system"


def test_who_may_only_look_at_the_account_turns_nothing(config):
    looker, looking = make.make_trader(is_staff=True), APIClient()
    config.account.viewers.add(looker)
    looking.force_authenticate(looker)
    assert "Only the role Admin" in detail(turn(looking, "no_entries"), 403)
    assert "may not turn" in detail(turn(looking, "no_entries", account=config.account_id), 403)
    assert SystemControl.load().kill_switch == KillSwitch.OFF
    assert not Halt.objects.exists()


def test_an_owner_turns_the_switches_of_an_account_and_its_strategies_only(api, config):
    assert turn(api, "flatten", account=config.account_id).json()["name"] == f"account {config.account.name}"
    assert turn(api, "no_entries", strategy=config.pk).json()["name"] == f"strategy {config.name}"
    assert "Only the role Admin" in detail(turn(api, "no_entries", market=config.market_id), 403)
    assert "Only the role Admin" in detail(turn(api, "no_entries"), 403)
    foreign = make.make_config()
    detail(turn(api, "no_entries", account=foreign.account_id))  # for this user it does not exist
    assert set(Halt.objects.values_list("account_id", "config_id")) == {(config.account_id, None), (None, config.pk)}


def test_a_stranger_does_not_see_the_switches_and_proofs_of_others(api, staff_api, config):
    foreign = make.make_config(market=make.make_market("ETHUSDT"))
    make.make_closed_deal(config)
    make.make_closed_deal(foreign)
    for target in (None, config.account, foreign.account):
        kill_switch_set("flatten", reason="out", by=PLATFORM, target=target)
    mine, everything = api.get(ADDRESS).json(), staff_api.get(ADDRESS).json()
    assert [each["scope"] for each in mine] == ["system", "account"]
    assert [each["account"] for each in mine[0]["accounts"]] == [config.account.name]
    assert len(everything) == 3
    assert len(everything[0]["accounts"]) == 2


def test_a_turn_needs_a_reason_and_a_level_there_is(risk_api):
    assert turn(risk_api, "off", reason="").status_code == 400
    assert turn(risk_api, "half").status_code == 400
    assert turn(risk_api, "cancel", account=1, market=2).status_code == 400


def test_milder_only_with_the_version_that_stands(risk_api):
    turn(risk_api, "cancel")
    assert "somebody else meanwhile" in detail(turn(risk_api, "off"))
    assert "somebody else meanwhile" in detail(turn(risk_api, "off", seen_version=0))
    assert turn(risk_api, "off", seen_version=1).json()["level"] == "off"


def test_stricter_at_once_whatever_was_seen(risk_api):
    turn(risk_api, "no_entries")
    assert turn(risk_api, "flatten", seen_version=0).json()["level"] == "flatten"


def test_flatten_shows_its_proofs_and_is_left_with_them(risk_api, config):
    make.make_closed_deal(config)
    turn(risk_api, "flatten")
    [system] = risk_api.get(ADDRESS).json()
    [told] = system["accounts"]
    assert (told["account"], told["is_flat"], told["why"]) == (config.account.name, False, "it was never checked")
    assert "not everything is proved flat" in detail(turn(risk_api, "off", seen_version=1))
    FlatProof.objects.create(account=config.account, is_flat=True, summary="flat", checked_at=clock_from_env().now())
    assert risk_api.get(ADDRESS).json()[0]["accounts"][0]["is_flat"]
    assert turn(risk_api, "off", seen_version=1).json()["level"] == "off"
