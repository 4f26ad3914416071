"""When `./run --check` calls the platform proven."""

import json

import pytest

from launcher import check
from launcher.check import DemoWatch, books_agree, proven

GOOD = {
    "ready": True,
    "deals_opened": 2,
    "deals_closed": 1,
    "closed_protected": 1,
    "orders": 6,
    "fills": 3,
    "unprotected_seconds": "1.4",
    "ledger_difference": "0",
    "opened_with_stop": True,
    "closed_by": {"stop_loss": 1},
}


def judged(*answers: tuple[float, dict]) -> DemoWatch:
    watch = DemoWatch({}, began=0.0)
    for now, status in answers:
        watch._judge(status, now)
    return watch


def test_a_deal_with_its_stop_and_a_protected_close_with_equal_books_is_the_proof():
    told = json.loads(judged((5.0, GOOD)).report(seconds_to_ready=7.3))
    assert told == {
        "ok": True,
        "seconds_to_ready": 7.3,
        "deals_opened": 2,
        "deals_closed": 1,
        "closed_protected": 1,
        "closed_by": {"stop_loss": 1},
        "orders": 6,
        "fills": 3,
        "unprotected_seconds": "1.4",
        "ledger_difference": "0",
    }


@pytest.mark.parametrize(
    "missing", [{"opened_with_stop": False}, {"closed_protected": 0}, {"deals_closed": 5, "closed_protected": 0}]
)
def test_half_a_proof_is_none(missing):
    assert not proven(GOOD | missing)
    assert judged((5.0, GOOD | missing)).verdict is None


@pytest.mark.parametrize(
    ("difference", "agree"),
    [("0", True), ("0.00", True), (0, True), ("0.00000001", False), ("?", False), (None, False)],
)
def test_books_agree_to_the_last_digit(difference, agree):
    assert books_agree({"ledger_difference": difference}) is agree


def test_a_difference_in_flight_is_asked_about_again_and_one_that_stays_fails():
    differs = GOOD | {"ledger_difference": "0.5"}
    assert judged((5.0, differs), (8.0, GOOD)).verdict == ""
    assert judged((5.0, differs), (8.0, differs)).verdict is None
    stays = judged((5.0, differs), (36.0, differs))
    assert stays.verdict == "exchange and database differ: 0.5"
    assert json.loads(stays.report())["ok"] is False


def test_a_difference_in_flight_is_explained_where_it_is_told():
    assert check._progress(GOOD, 8.0).endswith("ledger difference 0")
    assert check._progress(GOOD | {"ledger_difference": "0.5"}, 5.0).endswith(
        "ledger difference 0.5 (something is under way: asked about again)"
    )
    assert check._progress({}, 1.0).endswith("ledger difference ?")


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ({}, "no deal was opened with its stop resting at the exchange within 6 minutes"),
        (GOOD | {"closed_protected": 0}, "no deal was closed by stop, target or trailing stop within 6 minutes"),
        (GOOD | {"ledger_difference": "2"}, "exchange and database differ: 2"),
    ],
)
def test_after_six_minutes_the_reason_is_told(last, reason):
    watch = DemoWatch({}, status=last)
    watch.began -= check.LONGEST_SECONDS + 1
    assert watch.each() is False
    assert json.loads(watch.report()) == json.loads(watch.report()) | {"ok": False, "reason": reason}
