"""The stream process: what it listens to, what it passes on, what it outlives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from algo import queues
from algo.live import recorder as recorder_module
from algo.live.board import Board
from algo.live.hints import Hints
from algo.live.recorder import Recorder, Wanted
from algo.live.streaming import OrderStreams, _kept
from algo.models import Heartbeat, MarketQuote
from algo.selectors.health import stream_health
from algo.selectors.streams import accounts_to_listen_to, watched_markets
from providers.errors import AuthFailed
from providers.streams import OrderHint, Sink, StreamState
from providers.types import Resolution
from tests.factories import make_account, make_closed_deal, make_config, make_market, make_open_deal
from tests.live.streams import HandClock, at, down, pushed, up

# --- what to listen to ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_markets_are_those_of_running_strategies_and_of_live_deals():
    make_config(resolution="5", data_market=make_market("BTCIRT", provider="nobitex"), market=make_market("BTCTMN"))
    make_config(status="stopped", market=make_market("DOGEUSDT"))
    make_open_deal(make_config(status="stopped", market=make_market("ETHUSDT")))
    make_closed_deal(make_config(status="stopped", market=make_market("XRPUSDT")))
    wallex, nobitex = watched_markets("wallex"), watched_markets("nobitex")
    assert wallex.markets == {name: make_market(name).pk for name in ("BTCTMN", "ETHUSDT")}
    assert wallex.resolutions == frozenset()
    assert set(nobitex.markets) == {"BTCIRT"}
    assert nobitex.resolutions == {Resolution.M5}


@pytest.mark.django_db
def test_accounts_are_those_with_something_live_whose_key_is_believed_in():
    def account(**fields: Any) -> Any:
        return make_account(provider="nobitex", **fields)

    live, idle, stopped, foreign = account(), account(), account(state="stopped"), account(environment="live")
    for each in (live, stopped, foreign):
        make_open_deal(make_config(account=each, status="stopped"))
    make_closed_deal(make_config(account=idle, status="stopped"))
    make_open_deal(make_config(account=make_account(provider="wallex")))
    assert list(accounts_to_listen_to("nobitex")) == [live]


@pytest.mark.django_db
def test_accounts_are_listened_to_before_their_first_entry():
    trading, silent, stopped = (make_account(provider="nobitex") for _ in range(3))
    make_config(account=trading)
    make_config(account=silent, ordering_enabled=False)
    make_config(account=stopped, status="stopped")
    assert list(accounts_to_listen_to("nobitex")) == [trading]


# --- the database's part ------------------------------------------------------------------------------------------


@pytest.fixture
def board() -> Board:
    return Board("wallex", HandClock())


@pytest.fixture
def wanted() -> list[tuple[str, Wanted]]:
    return []


@pytest.fixture
def recorder(board, wanted, monkeypatch) -> Recorder:
    monkeypatch.setattr(recorder_module, "close_old_connections", lambda: None)  # the test's transaction lives on it
    return Recorder({"wallex": board}, HandClock(), lambda name, news: wanted.append((name, news)))


def told(board: Board, *events: Any) -> None:
    for event in events:
        board.apply(event)


@pytest.mark.django_db
def test_quotes_of_watched_markets_reach_the_database(recorder, board, wanted):
    make_config(market=make_market("BTCUSDT"))
    recorder.tick()
    assert [name for name, _ in wanted] == ["wallex"]
    told(board, up(0), pushed(1), pushed(2, "NOTOURS"))
    recorder.tick()
    [quote] = MarketQuote.objects.all()
    assert (quote.bid, quote.as_of, quote.received_at) == (100, at(2), at(1))


@pytest.mark.django_db
def test_a_heartbeat_tells_of_the_connection(recorder, board):
    told(board, up(0), pushed(1), down(2), up(3), pushed(4))
    recorder.tick()
    assert Heartbeat.objects.get(name="stream:wallex").at == at(0)
    [health] = stream_health(at(64), speed=60)
    assert (health.name, health.is_up, health.message_age, health.reconnects) == ("wallex", True, 1.0, 1)


@pytest.mark.django_db
def test_a_stream_that_heard_nothing_yet_has_no_age(recorder):
    recorder.tick()
    [health] = stream_health(at(9))
    assert (health.is_up, health.message_age) == (False, None)


@pytest.mark.django_db
def test_it_outlives_a_dead_database_and_writes_what_was_lost(recorder, board, monkeypatch, caplog):
    make_config(market=make_market("BTCUSDT"))
    recorder.tick()
    told(board, up(0), pushed(1))

    def dead(rows: object) -> int:
        raise OperationalError("server closed the connection")

    with monkeypatch.context() as broken:
        broken.setattr(recorder_module, "quotes_record", dead)
        broken.setattr(type(connection._connections["default"]), "close", lambda self: None)
        recorder.tick()
        recorder.tick()
    assert sum("no database" in record.getMessage() for record in caplog.records) == 1
    recorder.tick()
    assert MarketQuote.objects.count() == 1


# --- hints ---------------------------------------------------------------------------------------------------------


def eventually(condition: Callable[[], object], seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def sent(monkeypatch) -> list[tuple[Any, ...]]:
    """What was left for the workers: the task, its arguments, its queue."""
    tasks: list[tuple[Any, ...]] = []

    def send_task(name: str, args: list[Any], queue: str, retry: bool) -> None:
        tasks.append((name, *args, queue))

    monkeypatch.setattr(queues.current_app, "send_task", send_task)
    return tasks


def test_hints_that_come_together_count_once(sent):
    hints = Hints(apart=0.4)
    hints.start()
    hints.add(7, ["12"])
    hints.add(7, ["11", "12"])
    hints.add(7)
    eventually(lambda: sent)
    for _ in range(20):
        hints.add(7, ["13"])
    time.sleep(0.6)
    assert sent == [
        ("algo.tasks.advance_account", 7, ["11", "12"], "orders"),
        ("algo.tasks.advance_account", 7, ["13"], "orders"),
    ]


def test_a_hint_for_one_account_does_not_wait_for_anothers(sent):
    hints = Hints(apart=60)
    hints.start()
    hints.add(7)
    eventually(lambda: sent)
    hints.add(7)
    hints.add(8)
    eventually(lambda: len(sent) == 2, 1)
    time.sleep(0.1)
    assert [account_id for _, account_id, *_ in sent] == [7, 8]


def test_a_hint_that_cannot_be_sent_is_only_logged(monkeypatch, caplog):
    def refuse(*args: object, **more: object) -> None:
        raise queues.BrokerError("Connection refused")

    monkeypatch.setattr(queues.current_app, "send_task", refuse)
    hints = Hints(apart=0.01)
    hints.start()
    hints.add(1)
    eventually(lambda: "hint not sent account=1" in caplog.text)
    hints.add(2)
    eventually(lambda: "hint not sent account=2" in caplog.text)


def test_hints_go_where_the_task_listens():
    from algo.tasks import advance_account

    assert (advance_account.name, advance_account.queue) == ("algo.tasks.advance_account", "orders")


# --- order streams -------------------------------------------------------------------------------------------------


class FakeOrderStream:
    """Tells what it is given, then ends, or waits to be stopped."""

    name = "nobitex"

    def __init__(self, events: Collection[Any] = (), *, ends: bool = False, fails: bool = False) -> None:
        self.events, self.ends, self.fails = events, ends, fails
        self.stopped = False

    async def run(self, sink: Sink, stopping: asyncio.Event) -> None:
        for event in self.events:
            sink(event)
        if self.fails:
            raise LookupError("a defect")
        if not self.ends:
            await stopping.wait()
            self.stopped = True


class Heard(Hints):
    def __init__(self) -> None:
        self.accounts: list[tuple[int, list[str]]] = []

    def add(self, account_id: int, orders: Iterable[str] = ()) -> None:
        self.accounts.append((account_id, list(orders)))


@pytest.fixture
def account(db) -> Any:
    return make_account(provider="nobitex", api_key="ab" * 20)


def playing(stream: FakeOrderStream | None, script: Callable[[OrderStreams], Any]) -> tuple[list[Any], list[int]]:
    """Run `script` over the streams of accounts; (accounts hinted at with orders named, accounts a stream was made
    for)."""
    heard, made = Heard(), []

    def stream_of(account: Any) -> Any:
        made.append(account.pk)
        return stream

    async def play() -> None:
        streams = OrderStreams(stream_of, heard)
        await script(streams)
        await streams.stop(1.0)

    asyncio.run(play())
    return heard.accounts, made


async def soon() -> None:
    await asyncio.sleep(0.02)


HINT = OrderHint("BTCIRT", "C1", "7", at(1))


def test_every_hint_and_every_return_asks_for_a_look(account):
    stream = FakeOrderStream([up(0), HINT, down(1)])

    async def script(streams: OrderStreams) -> None:
        streams.want([account])
        streams.want([account])
        await soon()

    hinted, made = playing(stream, script)
    assert (hinted, made) == ([(account.pk, []), (account.pk, ["7"])], [account.pk])
    assert stream.stopped


def test_a_refused_key_is_not_tried_again_until_it_changes(account):
    async def script(streams: OrderStreams) -> None:
        for _ in range(3):
            streams.want([account])
            await soon()
        account.set_api_key("cd" * 20)
        streams.want([account])
        await soon()

    _, made = playing(FakeOrderStream([StreamState(False, "refused", at(0))], ends=True), script)
    assert made == [account.pk] * 2


def test_an_exchange_without_order_streams_is_asked_once(account):
    async def script(streams: OrderStreams) -> None:
        streams.want([account])
        streams.want([account])

    assert playing(None, script) == ([], [account.pk])


def test_an_account_without_anything_live_is_left_alone_again(account):
    stream = FakeOrderStream()

    async def script(streams: OrderStreams) -> None:
        streams.want([account])
        await soon()
        streams.want([])
        await soon()
        assert stream.stopped
        streams.want([account])

    assert playing(stream, script)[1] == [account.pk] * 2


def test_a_key_that_cannot_be_one_costs_only_its_hints(account):
    heard = Heard()

    def stream_of(account: Any) -> Any:
        raise AuthFailed("no key")

    async def play() -> None:
        streams = OrderStreams(stream_of, heard)
        streams.want([account])
        streams.want([account])
        await streams.stop(1.0)

    asyncio.run(play())


# --- market streams ------------------------------------------------------------------------------------------------


def test_a_stream_that_fails_by_a_defect_is_started_again(monkeypatch):
    from algo.live import streaming

    monkeypatch.setattr(streaming, "AGAIN_SECONDS", 0.01)
    runs = []

    async def play() -> None:
        stopping = asyncio.Event()

        async def run(stopping: asyncio.Event) -> None:
            runs.append(1)
            if len(runs) < 3:
                raise LookupError("a defect")
            stopping.set()

        await asyncio.wait_for(_kept("wallex", run, stopping), 2)

    asyncio.run(play())
    assert len(runs) == 3


def test_the_settings_know_where_the_streams_are():
    assert (settings.WALLEX_WS_URL, settings.NOBITEX_WS_URL) == ("", "")
