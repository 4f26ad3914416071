"""Decisions: from stored candles to signal and journal, and the whole round from the close of a candle.

`decision.N` takes N running strategies over 50 markets whose candles are stored, tells the workers to run strategies
through the public task, and waits until every one has its row in the journal; 2 worker processes, books from the
stream's feed as in production. `decision.round` is what happens at the close of every minute: beat, candles by REST,
books from the feed, 1,000 strategies; told from the close to the last row in the journal. What the exchange was asked
meanwhile is counted in its own log.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.live import floors as bare
from benchmarks.live.measure import PER_SECOND, SECONDS, Figure, Options
from benchmarks.live.platform import Platform, cpu_seconds, wait_for
from launcher.supervisor import Service

NAME = "decision"
MARKETS, ACCOUNTS, PROCESSES = 50, 5, 2
SIZES = (10, 100, 1_000, 5_000)
ROUND = 1_000
ROUND_SECONDS = 5.0  # from the close of the candle to the last row of the journal
CANDLE_REQUESTS, BOOK_REQUESTS = 51, 50
MOST_GROWTH = 1.1  # a strategy among 5,000 against one among 1,000: nothing, and a tenth for noise
PEER_STEP_MS = 6.0  # freqtrade 2026.9, its own step for one pair of 500 candles with the same indicators
STEP_CANDLES = 500
ENOUGH_TIME = 60.0  # left in a candle before a timed round of stored ones begins
FINAL_AFTER = 8.0  # after its close, a candle is stored for certain
LONGEST_ROUND, LONGEST_PASS = 45.0, 150.0
TICK_SECONDS = 5.0  # between two looks for closed candles, as the schedule has it
BUDGET_SECONDS = 60.0
CANDLE_PATH, BOOK_PATHS = "/market/udf/history", ("/v1/depth", "/v3/orderbook/", "/v2/depth")


def run(platform: Platform, floors: bare.Floors, options: Options) -> list[Figure]:
    desk = Desk(platform, options)
    figures = [desk.step()]
    stored = list(desk.stored())
    figures += [figure for pair, _ in stored for figure in pair]
    figures.append(growth([(speed, size) for (speed, _), size in stored]))
    return [*figures, *desk.whole_round()]


# 40 versions as traders would run them: faster and slower averages, shorter and longer breakouts, with momentum signals
# and without. On the simulated markets about one candle in seven is a signal, as with the default parameters on
# recorded minutes of BTCUSDT and ETHUSDT (15 %); the defaults themselves would say twice as much here.
PARAMETER_SETS = [
    {
        "ema_fast_period": fast,
        "ema_slow_period": slow,
        "breakout_period": breakout,
        "momentum_atr": momentum,
        "trade_cooldown_minutes": 0,
        "max_daily_trades": 1000,
        "max_open_deals": 100,
    }
    for fast, slow in ((4, 11), (5, 13), (6, 17), (8, 21), (9, 26))
    for breakout in (20, 25, 30, 40)
    for momentum in (0.5, 20)
]


class Desk:
    """Strategies, and the processes that let them decide."""

    def __init__(self, platform: Platform, options: Options) -> None:
        from benchmarks.live import world

        self.platform, self.options, self.world = platform, options, world
        self.pairs = world.markets()[:MARKETS]
        self.accounts = [world.open_account(platform, f"trader{number}") for number in range(ACCOUNTS)]
        self.sizes = [size for size in SIZES if not options.quick or size <= 1_000]
        self.round = options.size(ROUND, 200)
        self.before_decide: list[Callable[[], None]] = []  # called when all is set up, before the clock starts

    # --- the step alone ---

    def step(self) -> Figure:
        """What is computed for one strategy on one market, in this process, with nothing stored or sent."""
        from algo.strategies import BreakoutStrategy, Candles
        from algo.strategies.interface import MarketData
        from benchmarks.walk import random_walk

        data, strategy = MarketData(Candles(**random_walk(STEP_CANDLES))), BreakoutStrategy()

        def once() -> float:
            began = time.perf_counter()
            strategy.execute(data)
            strategy.explain(data)
            return time.perf_counter() - began

        once()
        rounds = tuple(statistics.median(once() for _ in range(200)) for _ in range(self.options.rounds))
        what = f"decide and explain one strategy over {STEP_CANDLES} candles (freqtrade 2026.9: {PEER_STEP_MS:g} ms)"
        peer = {"freqtrade_ms": PEER_STEP_MS, "times_quicker": PEER_STEP_MS / 1e3 / statistics.median(rounds)}
        return Figure("decision.step", what, SECONDS, rounds, target=0.001, floor=bare.PYTHON, detail=peer)

    # --- candles stored ---

    def stored(self) -> Iterator[tuple[tuple[Figure, Figure], int]]:
        """For each number of strategies, how many a second and what processor time one costs."""
        configs = self.prepare(max(self.sizes))
        with self.workers(self.platform.worker("decide", "strategies", PROCESSES)) as services:
            for size in self.sizes:
                self.choose(configs[:size])
                yield self._stored(size, services), size
        self.choose([])

    def prepare(self, size: int) -> list[int]:
        """So many strategies whose candles are stored; their ids. The stream listens to every market for good."""
        from algo.models import StrategyConfig
        from providers.types import Resolution

        configs = self.world.strategies(
            size, self.accounts, self.pairs, PARAMETER_SETS, resolution=Resolution.M5, is_running=False
        )
        self.world.candles(self.pairs, Resolution.M5)
        keepers = self.world.strategies(
            len(self.pairs), self.accounts[:1], self.pairs, PARAMETER_SETS[:1], name="keeper", resolution=Resolution.D1
        )
        ids = [config.pk for config in keepers]
        StrategyConfig.objects.filter(pk__in=ids).update(last_bar_at=datetime.now(UTC))  # not due for days
        return [config.pk for config in configs]

    def choose(self, ids: list[int]) -> None:
        """These run, and no other of the five-minute strategies."""
        from algo.models import StrategyConfig

        ours = StrategyConfig.objects.filter(resolution="5")
        ours.update(status="stopped")
        ours.filter(pk__in=ids).update(status="running")

    def _stored(self, size: int, workers: tuple[Service, ...]) -> tuple[Figure, Figure]:
        self.decide(size)  # versions are looked up once, numbers compiled
        taken, costs = [], []
        for _ in range(self.options.rounds):
            before: dict[str, float] = {}
            self.before_decide = [lambda before=before: before.update(self.cpu(workers))]  # type: ignore[misc]
            taken.append(self.decide(size))
            costs.append({name: after - before[name] for name, after in self.cpu(workers).items()})
        self.before_decide = []
        outcomes = _outcomes()
        rounds = tuple(size / seconds for seconds in taken)
        detail = {"seconds": taken, "outcomes": outcomes, "markets": len(self.pairs)}
        detail["ms_of_a_strategy"] = 1e3 * statistics.median(taken) / size
        what = f"{size:,} strategies over {min(size, len(self.pairs))} markets, candles stored"
        return Figure(f"decision.{size}", what, PER_SECOND, rounds, floor=bare.INSERT, detail=detail), _processor_time(
            size, what, costs
        )

    def decide(self, size: int) -> float:
        """Seconds until every running strategy has a row in the journal for its newest closed candle."""
        from algo.models import Decision, StrategyConfig
        from algo.tasks import run_strategies

        _away_from_the_close()
        self.forget()
        self.world.candles(self.pairs)
        StrategyConfig.objects.filter(status="running", resolution="5").update(last_bar_at=None)
        for each in self.before_decide:
            each()
        began = time.perf_counter()
        run_strategies.delay()
        ticks = 1
        while Decision.objects.count() < size:
            seconds = time.perf_counter() - began
            if seconds > LONGEST_PASS:
                raise RuntimeError(f"{Decision.objects.count()} of {size} decided after {seconds:.0f} s")
            if seconds > ticks * TICK_SECONDS:  # as beat does: messages that waited too long were dropped
                run_strategies.delay()
                ticks += 1
            time.sleep(0.01)
        return time.perf_counter() - began

    # --- the whole round ---

    def whole_round(self) -> list[Figure]:
        """From the close of a minute to the last row of the journal, everything as in production."""
        from providers.types import Resolution

        self.forget()
        self.world.strategies(self.round, self.accounts, self.pairs, PARAMETER_SETS, name="minute")
        self.world.candles(self.pairs, Resolution.M1)
        time.sleep(BUDGET_SECONDS)  # before anybody asks for candles: the download has spent the calls of a minute
        self._as_if_running()
        rounds: list[dict[str, Any]] = []
        worker = self.platform.worker("decide", "strategies", PROCESSES)
        with self.workers(worker, self.platform.service("beat")) as workers:
            self._next_round(workers)
            for _ in range(self.options.rounds):
                rounds.append(self._next_round(workers))
        waits = [each["seconds"] for each in rounds]
        what = f"{self.round:,} strategies decided and journalled, from the close of the candle"
        detail = {"rounds": rounds}
        return [
            Figure(
                "decision.round", what, SECONDS, tuple(waits), target=ROUND_SECONDS, floor=bare.CELERY, detail=detail
            ),
            _counted("decision.candle_requests", "candle requests of a round", rounds, "candles", CANDLE_REQUESTS),
            _counted("decision.book_requests", "book requests of a round", rounds, "books", BOOK_REQUESTS),
        ]

    def _as_if_running(self) -> None:
        """Every strategy has seen the newest candle that is closed. Begun anew between two closes, each market would be
        asked for twice within a minute, and the call budget of candles needs a quarter of an hour to get over that."""
        from algo.models import StrategyConfig

        minute = datetime.fromtimestamp(time.time() // 60 * 60, UTC)
        StrategyConfig.objects.filter(resolution="1").update(last_bar_at=minute - timedelta(minutes=1))

    def _next_round(self, workers: tuple[Service, ...]) -> dict[str, Any]:
        from algo.models import Decision

        closed = datetime.fromtimestamp((time.time() // 60 + 1) * 60, UTC)
        bar = closed - timedelta(minutes=1)
        time.sleep(max((closed - datetime.now(UTC)).total_seconds(), 0))
        known, before = self.platform.last_request(), self.cpu(workers)
        rows = Decision.objects.filter(bar_open_at=bar)
        with suppress(RuntimeError):  # a round that does not end before the next candle shows as so many seconds
            wait_for("the round", lambda: rows.count() >= self.round, seconds=LONGEST_ROUND, every=0.02)
        seconds = (datetime.now(UTC) - closed).total_seconds()
        cpu = {name: round(after - before[name], 3) for name, after in self.cpu(workers).items()}
        asked = self.platform.requests_since(known)
        return {
            "seconds": seconds,
            "decided": rows.count(),
            "candles": sum(each["path"] == CANDLE_PATH for each in asked),
            "books": sum(each["path"].startswith(BOOK_PATHS) for each in asked),
            "refused": sum(each["status"] == 429 for each in asked),
            "other": dict(Counter(_group(each["path"]) for each in asked)),
            "outcomes": _outcomes(bar),
            "cpu_seconds": cpu,
        }

    # --- processes ---

    @contextmanager
    def workers(self, *services: Service) -> Iterator[tuple[Service, ...]]:
        """These, and the stream of the exchange that trades."""
        with self.platform.processes(self.platform.service("stream_wallex"), *services) as running:
            self._wait_for_books()
            yield running

    def _wait_for_books(self) -> None:
        """The stream has told a book of every market that is traded."""
        from django.conf import settings

        from algo.exchanges import CLOCK
        from algo.live.market_feed import FeedReader
        from algo.live.redis_link import connect
        from algo.models import StrategyConfig

        reader = FeedReader(connect(settings.REDIS_URL, 1.0), CLOCK)
        running = StrategyConfig.objects.filter(status="running")
        symbols = set(running.values_list("market__symbol", flat=True))
        is_told: Callable[[], bool] = lambda: all(reader.book("wallex", symbol) for symbol in symbols)  # noqa: E731
        wait_for("books from the stream", is_told, every=0.2)

    def cpu(self, services: tuple[Service, ...]) -> dict[str, float]:
        servers = (self.platform.server(name) for name in ("postgres", "valkey", "paper"))
        return {each.name: cpu_seconds(each) for each in (*services, *servers)}

    def forget(self) -> None:
        """No decision, signal or deal, as on the first day."""
        with self.platform.database() as connection, connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")  # the ledger's own triggers refuse, and rightly
            cursor.execute("TRUNCATE algo_decision, algo_signal, algo_deal, algo_order CASCADE")


def _processor_time(size: int, what: str, costs: list[dict[str, float]]) -> Figure:
    """Of workers and PostgreSQL for one strategy: what a busy neighbour hardly changes."""
    rounds = tuple((cost["worker-decide"] + cost["postgres"]) / size for cost in costs)
    told = {name: round(statistics.median(cost[name] for cost in costs), 3) for name in costs[0]}
    detail = {"cpu_seconds_of_all": told}
    what = f"processor time of one of {what}: workers and PostgreSQL"
    return Figure(f"decision.{size}.processor", what, SECONDS, rounds, floor=bare.PYTHON, detail=detail)


def _away_from_the_close() -> None:
    """Wait where a candle is about to close, or has closed so lately that it does not count as final yet."""
    seconds = 300
    if (left := seconds - time.time() % seconds) < ENOUGH_TIME:
        time.sleep(left)
    time.sleep(max(FINAL_AFTER - time.time() % seconds, 0))


def growth(stored: list[tuple[Figure, int]]) -> Figure:
    """What one strategy costs among the most, over what it costs among a fifth of them or less."""
    (fewer, small), (most, large) = stored[-2:]
    rounds = tuple(few / many for few, many in zip(fewer.rounds, most.rounds, strict=True))
    what = f"cost of one strategy among {large:,} over its cost among {small:,}"
    return Figure("decision.growth", what, "x", rounds, target=MOST_GROWTH)


def _counted(name: str, what: str, rounds: list[dict[str, Any]], field: str, most: int) -> Figure:
    return Figure(name, what, "count", tuple(float(each[field]) for each in rounds), target=float(most))


def _outcomes(bar: datetime | None = None) -> dict[str, int]:
    from algo.models import Decision

    rows = Decision.objects.all() if bar is None else Decision.objects.filter(bar_open_at=bar)
    return dict(Counter(rows.values_list("outcome", flat=True)))


def _group(path: str) -> str:
    return path if path in ("/v1/depth", CANDLE_PATH) else "/".join(path.split("/")[:4])
