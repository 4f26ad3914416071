"""`optimise_strategy`: the best set is found, judged, kept; whatever stops the search, it goes on."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

import algo.tasks
from algo.management.commands import optimise_strategy
from algo.models import OptimisationRun
from algo.models.candle import Candle as StoredCandle
from algo.services.optimisations import optimisation_trials, optimisations_silent
from algo.services.optuna_studies import StudyUnavailable, study_delete, study_storage
from providers.clock import clock_from_env
from tests.backtest.edges import as_csv, edge, luck
from tests.commands.conftest import ROOT
from tests.factories import make_market

QUICK = ("--min-deals", "10", "--shuffles", "19", "--fee", "0.1", "--param", "volume_threshold=0.5")
GRID = (
    *("--method", "grid", "--space", "breakout_period=10,20,30", "--space", "take_profit_percent=3:9:3"),
    *QUICK,
)
TPE = ("--space", "breakout_period=5:40", "--space", "take_profit_percent=1:9:1", *QUICK)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A hundred days of hours, with a planted edge and without any."""
    folder = tmp_path_factory.mktemp("series")
    for name, make in (("edge", edge), ("luck", luck)):
        (folder / f"{name}.csv").write_text(as_csv(make(2400, 1)))
    return {name: str(folder / f"{name}.csv") for name in ("edge", "luck")}


def report(run, *args):
    return json.loads(run("optimise_strategy", "--json", *args))


# --- what it finds --------------------------------------------------------------------------------------------------


def test_a_planted_edge_is_found_and_judged_real_and_the_report_opens_without_network(run, series, tmp_path):
    page = tmp_path / "report.html"
    found = report(run, "--csv", series["edge"], *GRID, "--walk-forward", "3", "--html", str(page))
    assert found["judgement"]["verdict"] == "holds", found["judgement"]
    assert "more than luck explains" in found["judgement"]["sentence"]
    assert found["trials"] == {"wanted": 9, "done": 9, "refused": 0}
    assert found["best"]["test"]["net_profit"] > 0
    assert found["best"]["deflated"]["probability"] > 0.95
    assert found["best"]["deflated"]["probability"] <= found["best"]["deflated"]["undeflated"]
    assert found["bootstrap"]["p_value"] == 1 / 20
    assert len(found["walk_forward"]["folds"]) == 3
    assert found["walk_forward"]["net_profit_percent"] > 0
    assert found["monte_carlo"]["max_drawdown_percent"]["95"] >= found["monte_carlo"]["max_drawdown_percent"]["5"]
    html = page.read_text()
    assert "heatmap" in html
    assert "default-src 'none'" in html
    markup = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)  # plotly's own bundle names its makers
    assert not re.search(r"https?:", markup)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html"}


def test_the_best_of_a_random_walk_is_called_luck(run, series):
    text = " ".join(run("optimise_strategy", "--csv", series["luck"], *GRID).split())
    assert "The best of 9 sets is not distinguishable from luck" in text
    assert "Do not trade it." in text
    for words in ("Best set", "Searched on against unseen", "Other fates", "Deflated Sharpe", "Shuffled markets"):
        assert words in text
    assert OptimisationRun.objects.get().verdict["verdict"] == "luck"


def test_the_sampler_finds_the_edge_and_the_same_seed_finds_the_same(run, series):
    args = ("--csv", series["edge"], *TPE, "--trials", "8", "--shuffles", "0", "--seed", "5")
    first, second = report(run, *args, "--name", "first"), report(run, *args, "--name", "second")
    assert first["best"] == second["best"]
    assert first["best"]["test"]["net_profit"] > 0
    one, other = (optimisation_trials(OptimisationRun.objects.get(name=name)) for name in ("first", "second"))
    assert [each.choice for each in one] == [each.choice for each in other]
    assert len(one) == 8


def test_trials_are_kept_in_a_schema_that_django_does_not_see(run, series):
    report(run, "--csv", series["edge"], *TPE, "--trials", "2", "--shuffles", "0")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM optuna.trials")
        assert cursor.fetchone()[0] >= 2
    tables = connection.introspection.table_names()
    assert "algo_optimisationrun" in tables
    assert not {"trials", "studies", "alembic_version"} & set(tables)


def test_two_goals_give_a_front_of_sets_that_nothing_beats(run, series):
    goals = ("--objective", "sharpe", "--objective", "max_drawdown")
    found = report(run, "--csv", series["edge"], *TPE, *goals, "--trials", "15", "--shuffles", "0")
    front = [(each["figures"]["sharpe"], each["figures"]["max_drawdown_percent"]) for each in found["best"]["front"]]
    assert front == sorted(front, reverse=True)
    assert [fall for _, fall in front] == sorted((fall for _, fall in front), reverse=True)
    assert found["best"]["choice"] == found["best"]["front"][0]["choice"]


def test_sets_that_the_strategy_refuses_are_counted_and_never_an_error(run, series):
    space = ("--space", "ema_fast_period=5,13,20", "--space", "ema_slow_period=13", "--method", "grid", *QUICK)
    found = report(run, "--csv", series["edge"], *space, "--shuffles", "0")
    assert found["trials"] == {"wanted": 3, "done": 3, "refused": 2}
    assert found["best"]["choice"] == {"ema_fast_period": 5, "ema_slow_period": 13}


def test_too_few_deals_leave_nothing_to_judge_and_it_says_so(run, series):
    args = ("--csv", series["edge"], *GRID, "--min-deals", "5000")
    found = report(run, *args)
    assert found["judgement"]["verdict"] == "nothing"
    assert "None of the 9 sets made 5000 deals" in found["judgement"]["sentence"]
    assert "nothing to judge" in run("optimise_strategy", *args)


def test_the_unseen_candles_change_nothing_in_the_search(run, series, tmp_path):
    """The same train window with another future: the same best set."""
    other = edge(2400, 1)
    split = 2400 - (2400 - 328) * 30 // 100
    for name in ("open", "high", "low", "close"):
        getattr(other, name)[split:] *= 0.5
    changed = tmp_path / "other.csv"
    changed.write_text(as_csv(other))
    args = (*GRID, "--shuffles", "0")
    first, second = report(run, "--csv", series["edge"], *args), report(run, "--csv", str(changed), *args)
    assert first["best"]["choice"] == second["best"]["choice"]
    assert first["best"]["train"] == second["best"]["train"]
    assert first["best"]["test"] != second["best"]["test"]


# --- stopped and gone on with ---------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    return os.environ | {
        "DATABASE_URL": url,
        "REDIS_URL": django_settings.REDIS_URL,
        "SECRET_KEY": django_settings.SECRET_KEY,
        "FIELD_ENCRYPTION_KEYS": ",".join(django_settings.FIELD_ENCRYPTION_KEYS),
        "DJANGO_SETTINGS_MODULE": "algo_trade.settings",
    }


@contextmanager
def process(*words):
    """A command as a process of its own; killed at the end."""
    argv = [sys.executable, *words]
    started = subprocess.Popen(argv, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield started
    finally:
        started.kill()
        started.communicate(timeout=20)


def wait_for_trials(name, more_than, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = OptimisationRun.objects.filter(name=name).values_list("trials_done", flat=True).first()
        if found is not None and found > more_than:
            return found
        time.sleep(0.02)
    pytest.fail(f"{name} did not get beyond {more_than} trials")


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_a_killed_search_goes_on_and_ctrl_c_tells_how_to(run, series):
    args = ("manage.py", "optimise_strategy", "--csv", series["edge"], *TPE, "--shuffles", "0")
    with process(*args, "--trials", "500", "--name", "broken") as first:
        before = wait_for_trials("broken", 3)
        first.send_signal(signal.SIGKILL)
        first.wait(20)
    kept = len(optimisation_trials(OptimisationRun.objects.get(name="broken")))
    assert kept >= before
    with process("manage.py", "optimise_strategy", "--resume", "broken") as second:
        wait_for_trials("broken", kept)
        second.send_signal(signal.SIGINT)
        _, said = second.communicate(timeout=20)
    words = said.decode()
    assert second.returncode == 130, words
    assert "Best so far is set " in words
    assert "Every set that was judged is kept" in words
    assert "python manage.py optimise_strategy --resume broken" in words
    assert "Traceback" not in words
    stopped = OptimisationRun.objects.get(name="broken")
    assert (stopped.status, stopped.trials_done > kept) == ("stopped", True)
    # what remains is done in this process: so many that there is one more to do
    OptimisationRun.objects.filter(pk=stopped.pk).update(trials_wanted=stopped.trials_done + 1)
    found = report(run, "--resume", "broken")
    assert found["status"] == "done"
    assert found["trials"]["done"] == stopped.trials_done + 1
    study_delete(stopped.study)


@pytest.mark.long
@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_several_processes_share_one_search(series):
    args = ("manage.py", "optimise_strategy", "--csv", series["edge"], *TPE, "--shuffles", "0", "--trials", "25")
    with process(*args, "--workers", "2", "--json") as parent:
        out, said = parent.communicate(timeout=90)
    assert parent.returncode == 0, said.decode()
    found = json.loads(out)
    assert 25 <= found["trials"]["done"] <= 26
    assert found["judgement"]["verdict"] in ("holds", "doubtful", "luck")


def test_a_search_that_is_done_is_told_again_and_goes_on_to_more_trials(run, series):
    args = ("--csv", series["edge"], *TPE, "--shuffles", "0")
    done = report(run, *args, "--trials", "4", "--name", "again")
    assert report(run, "--resume", "again") == done
    more = report(run, "--resume", "again", "--trials", "7")
    assert more["trials"]["done"] == 7
    assert more["status"] == "done"


def test_an_interrupt_during_the_tests_of_the_best_set_keeps_what_they_found(run, series, monkeypatch):
    folds = []

    def interrupted(*args):
        if len(folds) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        folds.append(args[1].number)
        return walk_fold(*args)

    from algo.services import optimisation_evidence

    walk_fold = optimisation_evidence.walk_fold
    monkeypatch.setattr(optimisation_evidence, "walk_fold", interrupted)
    with pytest.raises(CommandError, match="--resume walked") as stopped:
        run(
            "optimise_strategy",
            "--csv",
            series["edge"],
            *GRID,
            "--walk-forward",
            "3",
            "--shuffles",
            "0",
            "--name",
            "walked",
        )
    assert stopped.value.returncode == 130
    assert folds == [1, 2]
    assert report(run, "--resume", "walked")["status"] == "done"
    assert folds == [1, 2, 3]


def test_candles_that_changed_meanwhile_end_the_search(run, series, tmp_path):
    copy = tmp_path / "copy.csv"
    lines = Path(series["edge"]).read_text().splitlines(keepends=True)
    copy.write_text("".join(lines))
    report(run, "--csv", str(copy), *TPE, "--trials", "2", "--shuffles", "0", "--name", "changed")
    copy.write_text("".join([*lines[:-1], lines[-1].replace(lines[-1].split(",")[4], "1.0")]))
    with pytest.raises(CommandError, match="have changed since it began"):
        run("optimise_strategy", "--resume", "changed")


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(db, series):
    """The planted edge as stored candles of a known market."""
    market = make_market(provider="nobitex", taker_fee_rate="0.001", market_band="0.05")
    store(market)
    return market


def store(market):
    candles = edge(2400, 1)
    columns = ("open", "high", "low", "close", "volume")
    StoredCandle.objects.bulk_create(
        StoredCandle(
            market=market,
            resolution="60",
            open_time=datetime.fromtimestamp(int(candles.open_time[i]), UTC),
            **{name: str(getattr(candles, name)[i]) for name in columns},
        )
        for i in range(len(candles))
    )


STORED = ("--symbol", "BTCUSDT", "--resolution", "60", "--no-download", "--from", "2025-01-20", "--to", "2025-04-10")


def test_tasks_share_a_search_by_its_id_and_one_of_them_judges(run, stored, monkeypatch):
    sent = []

    def hand_out(run_id, *, jobs):
        sent.extend([run_id] * jobs)
        for _ in range(60):
            if sent:
                algo.tasks.optimise(sent.pop())

    monkeypatch.setattr(optimise_strategy, "search_hand_out", hand_out)
    monkeypatch.setattr(algo.tasks.optimise, "delay", sent.append)
    monkeypatch.setattr(algo.tasks, "SEARCH_SLICE", 0.3)  # many messages
    found = report(run, *STORED, *TPE, "--trials", "8", "--workers", "celery", "--jobs", "3", "--shuffles", "0")
    assert found["status"] == "done"
    assert found["trials"]["done"] == 8
    assert found["data"]["source"] == "database"


def test_grid_chunks_of_a_lost_worker_are_taken_by_another(run, stored, monkeypatch):
    monkeypatch.setattr(optimise_strategy, "search_hand_out", lambda run_id, jobs: None)
    monkeypatch.setattr(optimise_strategy, "_PATIENCE", 0.0)
    with pytest.raises(CommandError, match="No worker of the queue `backtests`"):
        run("optimise_strategy", *STORED, *GRID, "--workers", "celery", "--shuffles", "0", "--name", "lost")
    search = OptimisationRun.objects.get(name="lost")
    long_ago = clock_from_env().now() - timedelta(minutes=30)
    search.chunks.create(number=0, claimed_at=long_ago)  # claimed by who is gone
    OptimisationRun.objects.filter(pk=search.pk).update(worked_at=long_ago)
    assert optimisations_silent(clock_from_env()) == [search]
    sent = []
    monkeypatch.setattr(algo.tasks.optimise, "delay", sent.append)
    assert algo.tasks.sweep_optimisations() == 1
    assert algo.tasks.optimise(sent.pop()) == "done"
    search.refresh_from_db()
    assert (search.trials_done, search.chunks.get().number) == (9, 0)


def test_a_search_nobody_can_go_on_with_fails_with_its_reason(run, stored, monkeypatch):
    monkeypatch.setattr(optimise_strategy, "search_hand_out", lambda run_id, jobs: StoredCandle.objects.last().delete())
    monkeypatch.setattr(optimise_strategy, "_PATIENCE", 0.0)
    with pytest.raises(CommandError, match="No worker"):
        run("optimise_strategy", *STORED, *GRID, "--workers", "celery", "--name", "gone")
    search = OptimisationRun.objects.get(name="gone")
    StoredCandle.objects.filter(open_time__gte=search.data_to).delete()
    assert algo.tasks.optimise(search.pk) == "failed"
    search.refresh_from_db()
    assert "have changed since it began" in search.note


def test_workers_need_stored_candles(run, series):
    with pytest.raises(CommandError, match="import_ohlcv"):
        run("optimise_strategy", "--csv", series["edge"], *GRID, "--workers", "celery")


@pytest.mark.long
@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_real_workers_of_the_queue_share_a_search():
    store(make_market(provider="nobitex", taker_fee_rate="0.001", market_band="0.05"))
    worker = ("-m", "celery", "-A", "algo_trade", "worker", "-Q", "backtests", "-c", "2", "-l", "warning")
    with process(*worker) as one, process("manage.py", "optimise_strategy", *STORED, *TPE, "--trials", "40",
                                          "--workers", "celery", "--jobs", "2", "--json") as command:  # fmt: skip
        out, said = command.communicate(timeout=180)
        one.terminate()
    assert command.returncode == 0, said.decode()
    found = json.loads(out)
    assert 40 <= found["trials"]["done"] <= 41
    assert found["judgement"]["verdict"] == "holds"


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--space", "breakout=1:2"), "There is no parameter 'breakout'"),
        (("--space", "breakout_period=20:10"), "LOW below HIGH"),
        (("--trials", "0"), "--trials must be a whole number from 1"),
        (("--workers", "many"), "--workers must be a whole number from 1 to 64, or celery"),
        (("--test", "90"), "--test must be a whole number from 0 to 80"),
        (("--method", "grid"), "at most 100,000 are allowed"),
        (("--space", "ema_fast_period=90:99", "--space", "ema_slow_period=5:9"), "refuses every set"),
        (("--space", "rsi_period=5:20", "--heat", "rsi_period,breakout_period"), "--heat"),
        (("--space", "rsi_period=100", "--days", "2"), "too few"),
        (("--space", "rsi_period=5:20", "--walk-forward", "99", "--days", "3"), "Walk-forward cannot be done"),
        (("--resume", "nothing"), "--resume goes on with what was asked when it began: leave out --csv"),
        (("--html", "/nowhere/at/all.html"), "its folder does not exist"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, series, args, words):
    with pytest.raises(CommandError, match=re.escape(words)):
        run("optimise_strategy", "--csv", series["edge"], *args)
    assert not OptimisationRun.objects.exists()


def test_unknown_and_taken_names_are_refused(run, series):
    with pytest.raises(CommandError, match="There is no search named 'nothing'"):
        run("optimise_strategy", "--resume", "nothing")
    args = ("--csv", series["edge"], "--space", "rsi_period=14", "--shuffles", "0", "--name", "taken")
    report(run, *args)
    with pytest.raises(CommandError, match="There is a search named 'taken' already"):
        run("optimise_strategy", *args)


def test_a_storage_that_cannot_be_used_is_told_without_the_password(db, monkeypatch, caplog):
    for name, value in {"PASSWORD": "CANARY-zq7X", "NAME": "no_such_database"}.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    with caplog.at_level(logging.DEBUG), pytest.raises(StudyUnavailable, match="GRANT CREATE") as told, study_storage():
        pass
    assert "CANARY" not in str(told.value) + caplog.text
    assert told.value.__cause__ is None


def test_progress_goes_to_stderr_only(series, db):
    out, err = io.StringIO(), io.StringIO()
    call_command(
        "optimise_strategy", "--csv", series["edge"], *GRID, "--shuffles", "0", "--json", stdout=out, stderr=err
    )
    json.loads(out.getvalue())
    assert err.getvalue() == ""
