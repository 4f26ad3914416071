"""Call budgets counted in Redis by all processes together."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
import redis
from django.conf import settings

from algo import exchanges
from algo.live import budgets
from algo.live.budgets import REDIS_LEFT_ALONE, SharedBudget, rate_of
from algo.live.redis_link import connect
from providers.budgets import AT_ONCE, FOR_STOPS, GUARDIAN_SHARE, IN_BURSTS, InProcessBudget, Limit, Priority
from providers.errors import RateLimited
from providers.nobitex.endpoints import LIMITS as NOBITEX

# 50 documented calls in 10 minutes, 30 of them for those who count in Redis: 10 at once (3 of these in reserve), then
# one every 30 seconds.
LIMITS = {"add": Limit(50, 600.0)}


class FakeTime:
    """Waiting costs no time; Redis has its own clock, which this one does not touch."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def server():
    return connect(settings.REDIS_URL)


@pytest.fixture
def where():
    """An exchange address nobody else uses."""
    return f"test@{uuid.uuid4()}"


def budget(server, where, limits=LIMITS, **settings_) -> SharedBudget:
    clock = FakeTime()
    return SharedBudget(server, where, limits, monotonic=clock.monotonic, sleep=clock.sleep, **settings_)


def taken(of: SharedBudget, priority: Priority, most: int = 100, name: str = "add") -> int:
    """How many calls pass before one is refused."""
    for count in range(most):
        if of.take(name, priority, 1) > 0:
            return count
    return most


def test_entries_leave_the_reserve_to_exits(server, where):
    one = budget(server, where)
    assert taken(one, Priority.NORMAL) == 7
    assert taken(one, Priority.EXITS) == 3


def test_a_download_takes_only_what_others_leave(server, where):
    one = budget(server, where)
    assert taken(one, Priority.DOWNLOADS) == 1
    assert taken(one, Priority.NORMAL) == 6
    assert taken(one, Priority.DOWNLOADS) == 0
    assert taken(one, Priority.EXITS) == 3


def test_a_download_takes_no_candle_from_fifty_markets_that_end_in_the_same_second(server, where):
    charts = {"udf": NOBITEX["udf"]}
    one = budget(server, where, charts)
    taken(one, Priority.DOWNLOADS, name="udf")
    assert taken(one, Priority.NORMAL, name="udf") >= 50


CHARTS = {"charts": Limit(17, 60.0, AT_ONCE, reserve=0.0)}  # 10 of them for those who count in Redis


@pytest.fixture
def now(monkeypatch):
    """Milliseconds since 1970, moved by hand."""
    at = [1_700_000_000_000]
    monkeypatch.setattr(budgets, "_now_ms", lambda: at[0])
    return at


def test_what_may_come_at_once_comes_back_when_its_window_is_over(server, where, now):
    one, other = budget(server, where, CHARTS), budget(server, where, CHARTS)
    assert taken(one, Priority.NORMAL, most=6, name="charts") == 6
    now[0] += 20_000
    assert taken(other, Priority.NORMAL, name="charts") == 4
    assert one.take("charts", Priority.NORMAL, 1) == 40
    assert one.take("charts", Priority.NORMAL, 7) == 60
    assert one.left()["charts"] == 0
    now[0] += 40_000
    assert one.ready("charts", Priority.NORMAL, 6)
    assert not one.ready("charts", Priority.NORMAL, 7)
    assert one.left()["charts"] == pytest.approx(0.6)
    assert taken(other, Priority.NORMAL, name="charts") == 6


def test_a_download_leaves_half_of_what_may_come_at_once(server, where, now):
    one = budget(server, where, CHARTS)
    assert taken(one, Priority.DOWNLOADS, name="charts") == 5
    assert taken(one, Priority.NORMAL, name="charts") == 5


def test_a_batch_larger_than_what_may_come_at_once_never_fits(server, where, now):
    one = budget(server, where, CHARTS)
    assert one.take("charts", Priority.NORMAL, 11) == 60
    assert taken(one, Priority.NORMAL, name="charts") == 10, "and took nothing"


def test_calls_that_a_clock_stamped_ahead_of_its_time_are_forgotten(server, where, now):
    one = budget(server, where, CHARTS)
    now[0] += 3_600_000
    taken(one, Priority.NORMAL, name="charts")
    now[0] -= 3_600_000
    assert one.take("charts", Priority.NORMAL, 1) == 0.1
    assert taken(one, Priority.NORMAL, name="charts") == 10


def test_the_candles_of_fifty_markets_pass_twice_within_a_minute(server, where):
    """At the start of the platform, and again at the next close."""
    one = budget(server, where, {"udf": NOBITEX["udf"]})
    assert taken(one, Priority.NORMAL, name="udf", most=200) == 108


def test_an_entry_leaves_a_call_for_its_stop(server, where):
    one = budget(server, where, {"add": Limit(18, 600.0, IN_BURSTS, reserve=FOR_STOPS)})  # 10 shared, 6 of them at once
    assert taken(one, Priority.NORMAL) == 3
    assert taken(one, Priority.EXITS) == 3


def test_a_process_can_ask_whether_calls_would_pass_without_taking_them(server, where):
    one, other = budget(server, where), budget(server, where)
    assert one.ready("add", Priority.EXITS, 10)
    assert one.ready("add", Priority.NORMAL, 7)
    assert not one.ready("add", Priority.NORMAL, 8)
    assert taken(other, Priority.EXITS) == 10
    assert not one.ready("add", Priority.EXITS, 1)


def test_a_silenced_address_is_not_ready(server, where):
    one = budget(server, where)
    one.refused("add", 12.0)
    assert not one.ready("add", Priority.EXITS, 1)


def test_two_processes_spend_from_the_same_budget(server, where):
    first, second = budget(server, where), budget(server, where)
    assert taken(first, Priority.NORMAL, most=5) == 5
    assert taken(second, Priority.NORMAL) == 2
    assert taken(second, Priority.EXITS) == 3
    assert taken(first, Priority.EXITS) == 0


def test_exchanges_and_addresses_do_not_spend_each_others_calls(server, where):
    assert taken(budget(server, where), Priority.NORMAL) == 7
    assert taken(budget(server, where + "2"), Priority.NORMAL) == 7


def test_names_without_a_limit_share_one(server, where):
    one = budget(server, where)  # 60 a minute: 36 shared, 12 at once, 3 in reserve
    assert taken(one, Priority.NORMAL, name="unlisted") == 9
    assert taken(one, Priority.NORMAL, name="unlisted too") == 0


def test_a_batch_counts_as_many_calls(server, where):
    one = budget(server, where)
    assert one.take("add", Priority.NORMAL, 5) == 0
    assert one.take("add", Priority.NORMAL, 3) > 0
    assert one.take("add", Priority.NORMAL, 2) == 0


def test_a_batch_larger_than_the_bucket_is_refused_without_waiting(server, where):
    with pytest.raises(RateLimited, match="nothing was sent"):
        budget(server, where).acquire("add", Priority.EXITS, 11)


def test_what_is_spent_comes_back_evenly(server, where):
    short = budget(server, where, {"add": Limit(10, 0.4)})  # 6 calls: 2 at once, 4 more in 0.4 s
    assert taken(short, Priority.EXITS) == 2
    wait = short.take("add", Priority.EXITS, 1)
    assert 0 < wait <= 0.1
    time.sleep(wait + 0.005)
    assert short.take("add", Priority.EXITS, 1) == 0


@pytest.mark.parametrize("limit", [Limit(300, 600.0), Limit(15, 60.0), Limit(5, 10.0), Limit(1, 1.0), Limit(90, 60.0)])
def test_no_window_ever_sees_more_than_the_limit(limit):
    rate = rate_of(limit, Priority.EXITS)
    in_one_window = rate.burst + rate.limit * limit.seconds * 1000 / rate.interval
    assert in_one_window <= max(limit.calls, 2)  # a single call cannot be spread


def test_a_call_that_would_wait_too_long_is_refused_before_anything_is_sent(server, where):
    one = budget(server, where)
    taken(one, Priority.NORMAL)
    with pytest.raises(RateLimited, match="nothing was sent") as caught:
        one.acquire("add", Priority.NORMAL)
    assert 29 < caught.value.retry_after <= 30


def test_a_refusal_of_the_exchange_silences_everybody_for_the_time_it_asked_for(server, where):
    first, second = budget(server, where), budget(server, where)
    assert first.refused("add", 12.0) == 12.0
    assert 11 < second.take("add", Priority.EXITS, 1) <= 12


def test_refusals_without_a_time_double_the_silence_and_a_volley_counts_once(server, where):
    one = budget(server, where)
    assert [one.refused("add", None) for _ in range(3)] == [10.0, 10.0, 10.0]
    server.delete(one._key("add", "silent"))
    assert one.refused("add", None) == 20.0


def test_an_exit_does_not_wait_for_the_doubling_that_is_our_own_guess(server, where):
    one, other = budget(server, where), budget(server, where)
    for _ in range(3):
        one.refused("add", None)
        server.delete(one._key("add", "silent"))
    assert one.refused("add", None) == 80.0
    assert 9 < other.take("add", Priority.EXITS, 1) <= 10
    assert 79 < other.take("add", Priority.NORMAL, 1) <= 80


def test_a_wall_clock_that_is_set_back_blocks_nobody_for_as_long(server, where, monkeypatch):
    one = budget(server, where)
    hour_ahead = time.time() + 3600
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: hour_ahead)
        assert taken(one, Priority.EXITS) == 10
    assert one.take("add", Priority.EXITS, 1) <= 0.1
    assert one.take("add", Priority.EXITS, 1) == 0


def test_calls_the_exchange_counts_and_we_do_not_know_of_keep_entries_away_first(server, where):
    one = budget(server, where, {"orders": Limit(20, 10.0)})  # 12 calls, 3.6 of them kept for exits
    one.observed("orders", 3)
    assert one.take("orders", Priority.NORMAL, 1) > 0
    assert one.take("orders", Priority.EXITS, 1) == 0
    one.observed("orders", 0)
    assert one.take("orders", Priority.EXITS, 1) > 0


def test_threads_of_eight_clients_never_pass_the_limit_together(server, where):
    count = []

    def work() -> None:
        mine = SharedBudget(connect(settings.REDIS_URL), where, LIMITS)
        count.extend(1 for _ in range(20) if mine.take("add", Priority.EXITS, 1) == 0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(count) == 10


# --- without Redis --------------------------------------------------------------------------------------------------


class Dead(redis.Redis):
    """Refuses every connection, and counts how often it was asked."""

    asked = 0

    def execute_command(self, *args, **options):
        self.asked += 1
        raise redis.ConnectionError("nobody there")

    def pipeline(self, transaction=True, shard_hint=None):
        self.asked += 1
        raise redis.ConnectionError("nobody there")


def test_without_redis_a_process_keeps_to_a_small_share_and_does_not_ask_each_time(where, caplog):
    dead = Dead()
    alone = budget(dead, where, {"status": Limit(300, 60.0)})  # 9 for this process: 3 at once, 1 of them in reserve
    assert taken(alone, Priority.NORMAL, name="status") == 2
    assert taken(alone, Priority.EXITS, name="status") == 1
    assert dead.asked == 1
    assert "Redis does not answer" in caplog.text


def test_redis_is_asked_again_after_a_while(where, server):
    clock = FakeTime()
    one = SharedBudget(Dead(), where, LIMITS, monotonic=clock.monotonic, sleep=clock.sleep)
    one.take("add", Priority.NORMAL, 1)
    one._redis = server
    clock.now = REDIS_LEFT_ALONE + 0.1
    assert taken(one, Priority.NORMAL) == 7


def test_a_redis_that_lost_its_data_is_counted_from_anew(where, server):
    one = budget(server, where)
    assert taken(one, Priority.NORMAL) == 7
    server.script_flush()
    server.delete(one._key("add", "bucket"))
    assert taken(one, Priority.NORMAL) == 7


def test_what_the_guardian_never_calls_is_all_for_the_others(server, where):
    charts = budget(server, where, {"udf": Limit(20, 600.0, for_guardian=False)})  # 18: 6 at once, 1 of them in reserve
    assert taken(charts, Priority.NORMAL, name="udf") == 5
    assert taken(charts, Priority.EXITS, name="udf") == 1


def test_the_shares_of_all_leave_room_below_the_documented_limit():
    from algo.live.budgets import ALONE_SHARE
    from providers.budgets import SHARED_SHARE

    assert SHARED_SHARE + GUARDIAN_SHARE <= 0.9
    assert 20 * ALONE_SHARE + GUARDIAN_SHARE <= 0.9  # twenty processes that have lost Redis


def test_clients_that_are_made_at_once_share_one_budget(monkeypatch):
    made = []

    def slowly(provider: str, url: str, limits: object) -> InProcessBudget:
        time.sleep(0.05)
        made.append(InProcessBudget({}))
        return made[-1]

    monkeypatch.setattr(exchanges, "_clients", {})
    monkeypatch.setattr(exchanges, "_budgets", {})
    monkeypatch.setattr(exchanges, "_budget_of", slowly)
    threads = [threading.Thread(target=exchanges.public_provider, args=("wallex",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
