from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from algo.api import strategies
from algo.models import AuditRecord, Candle, StrategyCheck, StrategyConfig
from algo.queues import NoBroker
from algo.services.strategy_versions import config_fingerprint
from providers.clock import clock_from_env
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked(config):
    """What a strategy is made of, on the account of the trader."""
    return {
        "name": "made over REST",
        "strategy": "BreakoutStrategy",
        "account": config.account_id,
        "data_market": config.data_market_id,
        "market": config.market_id,
        "parameters": {"ema_fast_period": 7, "take_profit_percent": "1.5"},
    }


@pytest.fixture
def hints(monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(strategies, "evaluate_hint", lambda config: told.append(config.pk))
    return told


def call(client, method, path="", **data):
    return getattr(client, method)(f"/api/v1/strategies{path}", data, format="json")


class Venue:
    """What a preview asks of an exchange."""

    def capabilities(self):
        return make.WALLEX_LIKE


def store_candles(market, start, count):
    """Candles of a minute whose prices rise and fall."""
    prices = [Decimal(50_000 + 100 * (number % 40)) for number in range(count)]
    Candle.objects.bulk_create(
        Candle(market=market, resolution="1", open_time=start + timedelta(minutes=number), open=price, high=price + 10,
               low=price - 10, close=price, volume=1 + number % 7)
        for number, price in enumerate(prices)
    )  # fmt: skip


def attrs(answer):
    assert answer.status_code == 400, answer.content
    return {each["attr"] for each in answer.json()["errors"]}


def passed(config):
    """Its version has passed its bias checks."""
    StrategyCheck.objects.create(
        config=config, fingerprint=config_fingerprint(config), passed=True, checked_at=NOW, candles=1, seconds=1
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_strategy_is_made_stopped_with_every_parameter_stored(api, asked):
    answer = call(api, "post", **asked, reason="first try")
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["status"], body["version"], body["problems"]) == ("stopped", 1, [])
    assert (body["parameters"]["ema_fast_period"], body["parameters"]["take_profit_percent"]) == (7, "1.5")
    assert body["parameters"]["rsi_period"] == 14
    record = AuditRecord.objects.get(act="strategyconfig.create")
    assert (record.username, record.door, record.reason) == ("trader", "api", "first try")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"parameters": {"ema_fast_period": 0}}, "parameters.ema_fast_period"),
        ({"parameters": {"rsi": 1}}, "parameters.rsi"),
        ({"parameters": {"ema_fast_period": 50, "ema_slow_period": 10}}, "parameters.ema_fast_period"),
        ({"strategy": "Oracle"}, "strategy"),
        ({"name": ""}, "name"),
        ({"market": 10**12}, "market"),
        ({"resolution": "7"}, "resolution"),
        ({"status": "running"}, "status"),
    ],
)
def test_what_is_wrong_is_named_by_its_field_and_nothing_is_saved(api, asked, change, named):
    assert attrs(call(api, "post", **asked | change)) == {named}
    assert StrategyConfig.objects.count() == 1


def test_markets_must_fit_together_and_a_name_is_given_once(api, asked, config):
    nobitex = make.make_market("ETHUSDT", provider="nobitex")
    assert attrs(call(api, "post", **asked | {"market": nobitex.pk})) == {"market", "data_market"}
    assert attrs(call(api, "post", **asked | {"name": config.name})) == {"name"}
    assert attrs(call(api, "patch", f"/{config.pk}", name=call(api, "post", **asked).json()["name"])) == {"name"}


def test_accounts_of_others_are_not_there_and_those_one_may_look_at_are_not_traded_with(looker, api, asked):
    foreign = make.make_account()
    assert attrs(call(api, "post", **asked | {"account": foreign.pk})) == {"account"}
    assert call(looker, "post", **asked).status_code == 403
    assert StrategyConfig.objects.count() == 1


def test_a_change_names_what_changes_and_leaves_the_rest(api, config):
    answer = call(api, "patch", f"/{config.pk}", parameters={"rsi_period": 21}, reason="slower")
    assert answer.status_code == 200, answer.content
    assert (answer.json()["parameters"]["rsi_period"], answer.json()["parameters"]["ema_fast_period"]) == (21, 5)
    answer = call(api, "patch", f"/{config.pk}", allowed_sides="BOTH", parameters={"ema_fast_period": 6})
    assert (answer.json()["parameters"]["rsi_period"], answer.json()["allowed_sides"]) == (21, "BOTH")
    assert attrs(call(api, "patch", f"/{config.pk}", strategy="BreakoutStrategy")) == {"strategy"}
    assert attrs(call(api, "patch", f"/{config.pk}", parameters={"rsi_period": 1})) == {"parameters.rsi_period"}


def test_who_saw_an_older_version_overwrites_nothing(api, config):
    seen = call(api, "get", f"/{config.pk}").json()["version"]
    assert call(api, "patch", f"/{config.pk}", resolution="5", seen_version=seen).status_code == 200
    answer = call(api, "patch", f"/{config.pk}", resolution="15", seen_version=seen)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "changed_meanwhile")
    config.refresh_from_db()
    assert config.resolution == "5"


def test_what_traded_is_not_deleted_and_what_never_did_is(api, config, asked):
    make.make_closed_deal(config)
    answer = call(api, "delete", f"/{config.pk}")
    assert answer.status_code == 409
    assert "Stop the strategy instead" in answer.json()["errors"][0]["detail"]
    fresh = call(api, "post", **asked).json()["id"]
    assert call(api, "delete", f"/{fresh}").status_code == 204
    assert list(StrategyConfig.objects.all()) == [config]


def test_a_verdict_saves_nothing_and_warns_of_a_target_that_does_not_pay_its_fees(api, asked):
    verdict = call(api, "post", "/validate", **asked | {"parameters": {"take_profit_percent": "0.6"}}).json()
    assert (verdict["valid"], verdict["problems"], verdict["protection_mode"]) == (True, [], "LOCKING_STOPS")
    assert "fees" in verdict["warnings"][0]
    assert verdict["parameters"]["rsi_period"] == 14
    verdict = call(api, "post", "/validate", **asked | {"parameters": {"rsi_period": 1}}).json()
    assert (verdict["valid"], verdict["warnings"], verdict["parameters"]) == (False, [], {})
    assert [line["attr"] for line in verdict["problems"]] == ["parameters.rsi_period"]
    assert StrategyConfig.objects.count() == 1


def test_a_preview_plays_stored_candles_and_saves_nothing(api, asked, config, monkeypatch):
    monkeypatch.setattr(strategies.exchanges, "public_provider", lambda name: Venue())
    told = call(api, "post", "/preview", **asked).json()
    assert (told["candles"], told["report"]) == (0, None)
    assert "no candles" in told["why_not"]
    now = clock_from_env().now().replace(second=0, microsecond=0)
    store_candles(config.data_market, now - timedelta(minutes=1000), 900)
    told = call(api, "post", "/preview", **asked).json()
    assert (told["candles"], told["why_not"]) == (900, "")
    assert told["report"]["models"]
    assert attrs(call(api, "post", "/preview", **asked | {"parameters": {"rsi_period": 1}})) == {
        "parameters.rsi_period"
    }
    assert StrategyConfig.objects.count() == 1


def test_schemas_tell_bounds_and_defaults(api):
    schemas = {each["name"]: each["parameters"] for each in api.get("/api/v1/strategies/schemas").json()}
    assert [*schemas] == ["BreakoutStrategy", "ExternalSignals"]
    assert schemas["BreakoutStrategy"]["properties"]["ema_fast_period"]["default"] == 5


def test_a_clone_is_stopped_and_bears_another_name(api, config):
    answer = call(api, "post", f"/{config.pk}/clone")
    assert (answer.status_code, answer.json()["name"]) == (201, f"{config.name} (copy)")
    assert (answer.json()["status"], answer.json()["account"]["id"]) == ("stopped", config.account_id)
    assert attrs(call(api, "post", f"/{config.pk}/clone", name=config.name)) == {"name"}


# --- switches ---------------------------------------------------------------------------------------------------------


def test_stop_start_pause_and_resume_each_once(api, config):
    passed(config)
    for act, field, value in [
        ("stop", "status", "stopped"),
        ("start", "status", "running"),
        ("pause", "ordering_enabled", False),
        ("resume", "ordering_enabled", True),
    ]:
        answer = call(api, "post", f"/{config.pk}/{act}", reason="why not").json()
        assert (answer["done"], answer["strategy"][field]) == (True, value)
        assert call(api, "post", f"/{config.pk}/{act}").json()["done"] is False
    assert AuditRecord.objects.filter(reason="why not", door="api").count() == 4


def test_what_cannot_run_is_not_started_and_its_page_says_why(api, config):
    StrategyConfig.objects.update(status="stopped", parameters={"rsi_period": 1})
    answer = call(api, "post", f"/{config.pk}/start")
    assert answer.status_code == 409
    assert "rsi_period" in answer.json()["errors"][0]["detail"]
    shown = call(api, "get", f"/{config.pk}").json()
    assert (len(shown["problems"]), shown["problems"][0].partition(":")[0]) == (1, "parameters.rsi_period")
    assert (shown["warnings"], shown["check"]) == ([], None)


def test_run_decides_once_about_each_candle(api, config, hints):
    assert call(api, "post", f"/{config.pk}/run").json()["done"] is True
    StrategyConfig.objects.update(last_bar_at=clock_from_env().now() - timedelta(seconds=61))
    assert call(api, "post", f"/{config.pk}/run").json()["done"] is False
    StrategyConfig.objects.update(status="stopped")
    assert call(api, "post", f"/{config.pk}/run").status_code == 409
    assert hints == [config.pk]


def test_without_a_broker_run_says_so(api, config, monkeypatch):
    def gone(_):
        raise NoBroker("gone")

    monkeypatch.setattr(strategies, "evaluate_hint", gone)
    api.raise_request_exception = False
    assert call(api, "post", f"/{config.pk}/run").status_code == 503


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("patch", ""),
        ("delete", ""),
        ("post", "/start"),
        ("post", "/stop"),
        ("post", "/pause"),
        ("post", "/resume"),
        ("post", "/run"),
        ("post", "/clone"),
    ],
)
def test_who_may_only_look_is_refused_and_a_stranger_finds_nothing(looker, config, hints, method, path):
    foreign = make.make_config()
    StrategyConfig.objects.update(status="stopped")
    before = list(StrategyConfig.objects.order_by("pk").values())
    assert call(looker, "get", f"/{config.pk}").status_code == 200
    assert call(looker, method, f"/{config.pk}{path}").status_code == 403
    assert call(looker, method, f"/{foreign.pk}{path}").status_code == 404
    assert list(StrategyConfig.objects.order_by("pk").values()) == before


# --- history ----------------------------------------------------------------------------------------------------------


def test_every_change_is_told_and_any_version_comes_back(api, asked):
    pk = call(api, "post", **asked).json()["id"]
    call(api, "patch", f"/{pk}", parameters={"rsi_period": 21}, reason="slower")
    told = call(api, "get", f"/{pk}/versions").json()
    newest, oldest = told["results"]
    assert (told["count"], newest["version"], newest["who"], newest["door"]) == (2, 2, "trader", "api")
    assert (newest["kind"], newest["why"]) == ("changed", "slower")
    assert newest["changes"] == [{"field": "parameters.rsi_period", "before": 14, "after": 21}]
    assert (oldest["kind"], oldest["values"]["parameters.rsi_period"]) == ("created", 14)
    answer = call(api, "post", f"/{pk}/versions/1/restore", reason="too slow")
    assert (answer.json()["done"], answer.json()["strategy"]["parameters"]["rsi_period"]) == (True, 14)
    assert answer.json()["strategy"]["version"] == 3
    assert call(api, "post", f"/{pk}/versions/4/restore").status_code == 404


def test_the_history_names_no_account_that_one_may_not_see(api, staff_api, config):
    secret = make.make_account(name="SECRET account")
    mine, config.account = config.account, secret
    config.save()
    config.account = mine
    config.save()
    told = call(api, "get", f"/{config.pk}/versions")
    assert "SECRET" not in told.content.decode()
    assert {"field": "account", "before": f"not there, or not yours to see ({secret.pk})", "after": mine.name} in (
        told.json()["results"][0]["changes"]
    )
    assert "SECRET account" in call(staff_api, "get", f"/{config.pk}/versions").content.decode()


def test_a_version_that_cannot_work_any_more_is_refused(api, config, looker):
    StrategyConfig.history.all().delete()
    StrategyConfig.history.model.objects.all().delete()
    config.parameters = {"rsi_period": 1}
    config.save()
    assert call(looker, "post", f"/{config.pk}/versions/1/restore").status_code == 403
    assert call(api, "post", f"/{config.pk}/versions/1/restore").status_code == 409
