"""Which fault happens when: counted, thrown by a seeded coin, and the same in every run."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.paper.faults import KINDS, MOMENTS, FaultKind, FaultPlan, FaultRule

ORDERS = "/v1/account/orders"


def plan_of(**rule: object) -> FaultPlan:
    plan = FaultPlan()
    plan.add(FaultRule.from_json({"kind": "drop_after", **rule}))
    return plan


def hits(plan: FaultPlan, count: int = 8, *, method: str = "POST", path: str = ORDERS) -> list[int]:
    """Which of so many equal requests are hit, counted from 1."""
    return [n for n in range(1, count + 1) if plan.decide("wallex", method, path, "ann")]


def test_without_a_condition_every_matching_request_is_hit():
    assert hits(plan_of(), 3) == [1, 2, 3]


def test_the_nth_request_alone_is_hit():
    assert hits(plan_of(nth=3)) == [3]


def test_from_the_nth_request_on_as_often_as_asked():
    assert hits(plan_of(nth=3, times=2)) == [3, 4]


def test_at_most_so_many_times():
    assert hits(plan_of(times=2)) == [1, 2]


def test_a_probability_is_thrown_with_the_rules_own_seed():
    first = hits(plan_of(probability=0.5, seed=7), 200)
    assert first == hits(plan_of(probability=0.5, seed=7), 200)
    assert first != hits(plan_of(probability=0.5, seed=8), 200)
    assert 70 < len(first) < 130


def test_another_rule_does_not_move_the_coin_of_this_one():
    alone, beside = plan_of(probability=0.5, seed=7), plan_of(probability=0.5, seed=7)
    beside.add(FaultRule(FaultKind.DELAY, probability=0.3, seed=1))
    of_first = [n for n in range(1, 51) if any(f.rule_id == 1 for f in beside.decide("wallex", "POST", ORDERS))]
    assert hits(alone, 50) == of_first


def test_only_what_matches_is_counted():
    plan = plan_of(venue="wallex", method="POST", path="/v1/account/orders*", account="ann", nth=1)
    for other in (
        ("nobitex", "POST", ORDERS, "ann"), ("wallex", "GET", ORDERS, "ann"), ("wallex", "POST", "/v1/depth", "ann"),
        ("wallex", "POST", ORDERS, "bob"), ("wallex", "POST", ORDERS, None),
    ):  # fmt: skip
        assert plan.decide(*other) == []
    assert plan.rules()[0]["matched"] == 0
    assert len(plan.decide("wallex", "POST", ORDERS + "/X", "ann")) == 1


def test_a_rule_is_asked_at_its_own_moments_only():
    plan = FaultPlan()
    plan.add(FaultRule(FaultKind.REJECT_AFTER_ACCEPT))
    plan.add(FaultRule(FaultKind.STREAM_GAP))
    plan.add(FaultRule(FaultKind.DROP_BEFORE))
    kinds = [plan.decide("nobitex", moment, "x")[0].kind for moment in ("SUBMIT", "WS", "DELETE")]
    assert kinds == [FaultKind.REJECT_AFTER_ACCEPT, FaultKind.STREAM_GAP, FaultKind.DROP_BEFORE]
    assert plan.decide("nobitex", "CANCEL", "x") == []


def test_a_revoked_key_is_asked_about_requests_with_a_key_only():
    plan = plan_of(kind="key_revoked")
    assert plan.decide("wallex", "GET", "/v1/depth") == []
    assert plan.decide("wallex", "GET", "/v1/account/fee", "ann")


def test_faults_come_in_the_order_of_their_rules_with_all_their_parameters():
    plan = plan_of(kind="delay", params={"seconds": "0.25"})
    plan.add(FaultRule(FaultKind.RATE_LIMITED))
    delay, limited = plan.decide("nobitex", "GET", "/v2/wallets")
    assert (delay.rule_id, delay.params) == (1, {"seconds": 0.25, "when": "before"})
    assert (limited.rule_id, limited.params) == (2, {"seconds": 5.0, "told_in": "both"})


def test_counters_and_counts_by_kind():
    plan = plan_of(nth=2)
    hits(plan, 3)
    row = plan.rules()[0]
    assert (row["id"], row["kind"], row["matched"], row["injected"]) == (1, "drop_after", 3, 1)
    plan.remove(1)
    assert (plan.rules(), plan.injected, plan.has(1)) == ([], {"drop_after": 1}, False)
    with pytest.raises(LookupError, match="no fault rule 1"):
        plan.remove(1)
    assert plan.add(FaultRule(FaultKind.DELAY)) == 2
    plan.clear()
    assert plan.rules() == []


def test_what_lasts_or_moves_the_market_happens_once_unless_told_otherwise():
    for kind in ("maintenance", "price_gap"):
        assert plan_of(kind=kind, path="BTC/USDT").rules()[0]["times"] == 1
    assert plan_of(kind="maintenance", times=3).rules()[0]["times"] == 3
    assert plan_of(kind="price_gap", path="BTC/USDT", probability=0.1).rules()[0]["times"] is None


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"kind": "earthquake"}, "no kind of fault"),
        ({"colour": "red"}, "no field colour"),
        ({"venue": "binance"}, "no exchange"),
        ({"method": "SUBMIT"}, "decided at GET, POST"),
        ({"kind": "stop_never_triggers", "method": "POST"}, "decided at TRIGGER"),
        ({"kind": "price_gap", "venue": "wallex"}, "leave venue out"),
        ({"kind": "price_gap"}, "needs the pair"),
        ({"kind": "stale_book", "account": "ann"}, "leave account out"),
        ({"path": ""}, "path must be a glob"),
        ({"account": ""}, "name of an account"),
        ({"nth": 1, "probability": 0.5}, "not both"),
        ({"nth": 0}, "nth must be a whole number of at least 1"),
        ({"nth": True}, "nth must be a whole number"),
        ({"times": -1}, "times must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"probability": 0}, "probability must be above 0"),
        ({"probability": 1.5}, "probability must be above 0"),
        ({"probability": float("nan")}, "probability must be above 0"),
        ({"params": {"seconds": 1}}, "has no parameter seconds; it has: reset"),
        ({"params": [1]}, "params must be an object"),
        ({"kind": "delay", "params": {"seconds": "soon"}}, "delay: seconds must be a number"),
        ({"kind": "delay", "params": {"seconds": -1}}, "between 0 and 86400"),
        ({"kind": "delay", "params": {"when": "never"}}, "one of before, after"),
        ({"kind": "http_error", "params": {"status": 302}}, "from 400 to 599"),
        ({"kind": "price_gap", "path": "BTC/USDT", "params": {"factor": 0}}, "between 0.01 and 100"),
        ({"kind": "partial_then_cancel", "params": {"fraction": 2}}, "between 0 and 1"),
        ({"kind": "slow_trickle", "params": {"bytes_per_second": 0}}, "above 0"),
        ({"kind": "empty_book", "params": {"matching": True}}, "matching needs seconds"),
    ],
)
def test_an_impossible_rule_is_refused_with_a_sentence(rule, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan_of(**rule)


def test_every_kind_is_specified_and_asked_at_known_moments():
    assert set(KINDS) == set(FaultKind)
    for kind, spec in KINDS.items():
        assert spec.moments
        assert all(moment in MOMENTS or moment.isupper() for moment in spec.moments)
        plan_of(kind=kind, path="BTC/USDT")  # the defaults stand


def test_a_rule_can_be_read_back_from_what_is_shown():
    plan = plan_of(kind="partial_then_cancel", params={"fraction": "0.3"}, probability=0.5, seed=3, times=2)
    shown = {name: value for name, value in plan.rules()[0].items() if name not in ("id", "matched", "injected")}
    again = plan_of(**shown)
    assert again.rules() == plan.rules()
    assert again.decide("wallex", "MATCH", "x")[0].params == {"fraction": Decimal("0.3")}


RULES = st.fixed_dictionaries(
    {"kind": st.sampled_from([kind.value for kind in FaultKind])},
    optional={"times": st.integers(1, 3), "seed": st.integers(0, 5), "probability": st.sampled_from([0.2, 0.7, 1])},
)
QUESTIONS = st.tuples(
    st.sampled_from(["wallex", "nobitex"]), st.sampled_from([*MOMENTS, "GET", "POST"]), st.sampled_from(["/a", "/b"]),
    st.sampled_from([None, "ann"]),
)  # fmt: skip


@given(st.lists(RULES, max_size=6), st.lists(QUESTIONS, max_size=40))
def test_the_same_rules_and_questions_give_the_same_faults(rules, questions):
    def lived() -> list[object]:
        plan = FaultPlan()
        for rule in rules:
            plan.add(FaultRule.from_json({"path": "/a", **rule}))
        faults = [plan.decide(*question) for question in questions]
        assert sum(plan.injected.values()) == sum(map(len, faults)) == sum(row["injected"] for row in plan.rules())
        return [faults, plan.rules()]

    assert lived() == lived()
