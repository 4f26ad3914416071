"""How live updates fare with many pages open: `python -m benchmarks.live_updates --clients 200 --minutes 5 --json`.

With `--web` each page is a whole dashboard, as a browser has it: one web process, started as `./run` starts it, gives
it `/` and what its JavaScript asks for at first; then it listens, and asks for `/dashboard/state` again after a fill,
as seldom and as scattered as the page's own code does (`calmly` in `ask.js`), and every 30 seconds. Measured too: from
a fill to the answer that has it, and the memory of the web process.

Starts PostgreSQL, Valkey and one process `live`, opens that many streams, books fills and moves orders as a busy
platform does, and publishes quotes and candles of three markets as the streams do. Every page is told everything.
Measured: from the commit of a fill to its frame at each page; from a quote to its frame (it waits half a second at
most, on purpose); the memory of `live`, after the first fifth and at the end; and what the note of a change adds to an
order's update. Exit code 1 where a target is missed: 95 of 100 fills at a page within 2 s, memory grown by less than
5 MB, an update of an order dearer by less than 5 per cent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.scale import database

# As the page has it: algo/static/algo/dashboard/main.js.
STATE_WAIT, STATE_SPREAD, STATE_REST, LOOK_EVERY = 0.3, 1.2, 5.0, 30.0
WARM_UP_GROWTH_MB = 20.0  # of a web process: its threads and caches fill within the first minutes
USERS_PAGES = 20  # as many as one user may open
FILLS_A_SECOND = 5.0
QUOTES_A_SECOND = 10.0  # of each market: as often as a stream writes
SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")
DELAY_SECONDS, GROWTH_MB, DEARER_PERCENT = 2.0, 5.0, 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=200, help="pages open at once (default 200)")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (default 3)")
    parser.add_argument("--updates", type=int, default=10_000, help="timed updates of orders (default 10,000)")
    parser.add_argument("--web", action="store_true", help="with one web process, and all that a page asks it for")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    with database(None):
        world = people(asked.clients)
        told: dict[str, Any] = {"clients": asked.clients, "minutes": asked.minutes}
        if asked.updates:
            told["noting"] = noting(world["order"], asked.updates)
        with (
            web_process() if asked.web else contextlib.nullcontext() as web,
            live_process() as (port, pid),
            busy(world),
        ):
            told |= asyncio.run(listen(port, pid, world["cookies"], asked.minutes * 60, web))
    told["missed"] = missed(told, asked.clients)
    print(json.dumps(told, indent=2) if asked.json else told)
    sys.exit(1 if told["missed"] else 0)


def missed(told: dict[str, Any], clients: int) -> list[str]:
    targets = {
        "every page was open and stayed open": told["pages"] == clients and told["ended"] == 0,
        "every fill came to every page": told["fills_told"] == told["fills_booked"] * clients,
        f"95 of 100 fills within {DELAY_SECONDS} s": told["fill_seconds"]["p95"] < DELAY_SECONDS,
        f"memory grown by less than {GROWTH_MB} MB": told["memory_mb"]["growth"] < GROWTH_MB,
        f"an order dearer by less than {DEARER_PERCENT} %": told.get("noting", {}).get("percent", 0) < DEARER_PERCENT,
    }
    if web := told.get("web"):
        targets |= {
            "the web process answered everything": web["failed"] == 0,
            f"memory of the web process grown by less than {WARM_UP_GROWTH_MB} MB": web["memory_mb"]["growth"]
            < WARM_UP_GROWTH_MB,
        }
    return [target for target, is_met in targets.items() if not is_met]


def people(clients: int) -> dict[str, Any]:
    """An account that all users may look at, an order on it, markets, and a cookie for each page."""
    from django.contrib.auth.models import User
    from django.test import Client

    from algo.models import Account, Deal, Market, Order, StrategyConfig

    users = [User.objects.create_user(f"user{number}") for number in range(-(-clients // USERS_PAGES))]
    account = Account.objects.create(name="main", owner=users[0], provider="wallex")
    account.viewers.set(users[1:])
    rules = {"tick_size": "0.01", "step_size": "0.000001", "maker_fee_rate": "0.001", "taker_fee_rate": "0.001"}
    now = datetime.now(UTC)
    markets = [
        Market.objects.create(
            provider="wallex", symbol=symbol, base=symbol[:3], quote="USDT", pair=f"{symbol[:3]}/USDT",
            market_band="0.01", refreshed_at=now, **rules,
        )
        for symbol in SYMBOLS
    ]  # fmt: skip
    config = StrategyConfig.objects.create(
        name="one", strategy="BreakoutStrategy", account=account, market=markets[0], data_market=markets[0]
    )
    deal = Deal.objects.create(
        config=config, account=account, market=markets[0], side="BUY", status="PLANNED", protection_mode=3,
        bar_open_at=now, planned_quantity="1000000", planned_price="50000", initial_stop_price="49850",
        stop_price="49850", target_price="50300", created_at=now,
    )  # fmt: skip
    order = Order.objects.create(
        deal=deal, account=account, market=markets[0], role="entry", leg=1, client_order_id="B1", side="BUY",
        type="MARKET", quantity="1000000", created_at=now,
    )  # fmt: skip
    cookies = []
    for user in users:
        browser = Client()
        browser.force_login(user)
        cookies += [f"sessionid={browser.cookies['sessionid'].value}"] * USERS_PAGES
    return {
        "order": order,
        "markets": [market.pk for market in markets],
        "cookies": [(cookie, ",".join(str(market.pk) for market in markets)) for cookie in cookies[:clients]],
    }


# --- what noting costs ------------------------------------------------------------------------------------------------


def noting(order: Any, count: int) -> dict[str, Any]:
    """What a note adds to one update, by the database's own clock and without anything around it, in turns so that a
    machine whose speed changes does not decide; and what the platform spends on moving an order, a transaction each."""
    from django.db import connection

    loop = (
        f"DO $$ BEGIN FOR n IN 1..{count} LOOP UPDATE algo_order SET reason = n WHERE id = {order.pk}; END LOOP; END $$"
    )
    bare: dict[bool, list[float]] = {True: [], False: []}
    with connection.cursor() as cursor:
        for turn in range(10):
            noted = bool(turn % 2)
            cursor.execute(f"ALTER TABLE algo_order {'ENABLE' if noted else 'DISABLE'} TRIGGER live_changed")
            cursor.execute("VACUUM algo_order")
            began = time.perf_counter()
            cursor.execute(loop)
            bare[noted].append(1e6 * (time.perf_counter() - began) / count)
            cursor.execute("TRUNCATE algo_livechange")
    added = min(bare[True]) - min(bare[False])
    moved = 1e6 * move(order, count // 10) / (count // 10)
    return {
        "updates": count,
        "note_microseconds": round(added, 1),
        "bare_update_microseconds": round(min(bare[False]), 1),
        "move_microseconds": round(moved, 1),
        "percent": round(100 * added / moved, 1),
    }


def move(order: Any, count: int) -> float:
    """Seconds for so many changes of an order with its event, as the platform writes them."""
    from django.db import transaction

    from algo.models import Order, OrderEvent

    began = time.perf_counter()
    for number in range(count):
        with transaction.atomic():
            Order.objects.filter(pk=order.pk, status=order.status).update(reason=f"{number}")
            OrderEvent.objects.create(order=order, at=order.created_at, to_status=order.status, reason="benchmark")
    return time.perf_counter() - began


# --- a busy platform --------------------------------------------------------------------------------------------------

_booked: dict[str, float] = {}  # the fill's trade id, and when it was committed


@contextlib.contextmanager
def busy(world: dict[str, Any]) -> Iterator[None]:
    stopping = threading.Event()
    work = [
        threading.Thread(target=book, args=(world["order"], stopping), daemon=True),
        threading.Thread(target=publish, args=(stopping,), daemon=True),
    ]
    for thread in work:
        thread.start()
    yield
    stopping.set()
    for thread in work:
        thread.join(5)


_may_book = threading.Event()


def book(order: Any, stopping: threading.Event) -> None:
    from django.db import connection

    from algo.models import Fill, Order

    number = 0
    while not stopping.wait(1 / FILLS_A_SECOND):
        if not _may_book.is_set():
            continue
        number += 1
        Order.objects.filter(pk=order.pk).update(reason=f"{number}")
        now = datetime.now(UTC)
        Fill.objects.create(
            account_id=order.account_id, order=order, trade_id=f"t{number}", price=Decimal(50_000),
            quantity=Decimal("0.001"), executed_at=now, booked_at=now,
        )  # fmt: skip
        _booked[f"t{number}"] = time.monotonic()
    connection.close()


def publish(stopping: threading.Event) -> None:
    from django.conf import settings

    from algo.live.market_feed import key
    from algo.live.redis_link import connect

    server, number = connect(settings.REDIS_URL, 1.0), 0
    while not stopping.wait(1 / QUOTES_A_SECOND):
        number += 1
        at = int(time.time() * 1000)
        price = f"{50_000 + number % 1_000}"
        quote = {"type": "quote", "bid": price, "ask": f"{price}.5", "last": price, "imbalance": "1.25", "at": at}
        candle = [at - at % 60_000, price, price, price, price, f"{number}"]
        running = {"type": "candle", "resolution": "1", "candle": candle, "closed": False}
        for symbol in SYMBOLS:
            server.publish(key("wallex", symbol), json.dumps(quote))
            server.publish(key("wallex", symbol), json.dumps(running))


@contextlib.contextmanager
def live_process() -> Iterator[tuple[int, int]]:
    from launcher.processes import free_port

    port = free_port()
    words = [sys.executable, "-m", "algo_trade.live", "--port", str(port)]
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "algo_trade.settings", "LIVE_CONNECTIONS": "5000"}
    process = subprocess.Popen(words, env=env)
    try:
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextlib.contextmanager
def web_process() -> Iterator[tuple[int, int]]:
    """One process with eight threads, as the launcher has it: its port, and the process that answers."""
    from launcher.processes import free_port

    port = free_port()
    words = ["-m", "gunicorn", "algo_trade.wsgi", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"]
    words += ["--workers", "1", "--threads", "8", "--no-control-socket", "--log-level", "warning"]
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "algo_trade.settings"}
    master = subprocess.Popen([sys.executable, *words], env=env)
    try:
        deadline = time.monotonic() + 120
        while not (worker := Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()):
            if time.monotonic() > deadline:
                raise SystemExit("the web process did not start within two minutes")
            time.sleep(0.2)
        yield port, int(worker[0])
    finally:
        master.send_signal(signal.SIGTERM)
        master.wait(20)


class Web:
    """What the pages asked the web process for, and how long it took."""

    def __init__(self, port: int, pid: int) -> None:
        self.port, self.pid, self.failed = port, pid, 0
        self.seconds: dict[str, list[float]] = {}
        self.since_fill: list[float] = []

    async def ask(self, path: str, cookie: str) -> bytes:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {cookie}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200 "):
            self.failed += 1
        self.seconds.setdefault(path.partition("?")[0], []).append(time.monotonic() - began)
        return answer

    async def loads(self, cookie: str) -> None:
        """What a page asks for when it is opened, but for its files, which browsers keep."""
        page = await self.ask("/", cookie)
        chosen = page.partition(b'id="drawn"')[2].partition(b'value="')[2].partition(b'"')[0].decode()
        first = ["/api/v1/deals?status=OPEN", "/api/v1/signals", "/dashboard/quotes", "/dashboard/state"]
        first += [f"/dashboard/charts/{chosen}", "/dashboard/equity?span=day&currency=USDT"]
        await asyncio.gather(*(self.ask(path, cookie) for path in first))

    async def follows(self, page: Page, cookie: str) -> None:
        """Asks for the state again as the page's own code does."""
        last = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(page.heard.wait(), LOOK_EVERY)
            due = max(time.monotonic() + STATE_WAIT + random.random() * STATE_SPREAD, last + STATE_REST)
            await asyncio.sleep(due - time.monotonic())
            page.heard.clear()
            first, page.first_fill, last = page.first_fill, None, time.monotonic()
            await self.ask(f"/dashboard/state?after={page.place}", cookie)
            if first is not None:
                self.since_fill.append(time.monotonic() - first)

    def figures(self, memory: list[float]) -> dict[str, Any]:
        return {
            "answers": {path: len(each) for path, each in sorted(self.seconds.items())},
            "failed": self.failed,
            "state_seconds": figures(self.seconds.get("/dashboard/state", [])),
            "fill_to_state_seconds": figures(self.since_fill),
            "memory_mb": grown(memory),
        }


class Page:
    """What one page knows: its place in the stream, and the first fill that its figures do not have yet."""

    def __init__(self) -> None:
        self.heard, self.place = asyncio.Event(), ""
        self.first_fill: float | None = None


# --- the pages --------------------------------------------------------------------------------------------------------


class Pages:
    """What all pages were told, and when."""

    def __init__(self) -> None:
        self.open = 0
        self.ended = 0
        self.fills: list[float] = []  # seconds since the commit
        self.quotes: list[float] = []
        self.bytes = 0
        self.seen: dict[str, list[float]] = {}

    async def listen(self, port: int, cookie: str, markets: str, page: Page) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET /live/events?markets={markets} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\n\r\n"
        writer.write(request.encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise SystemExit(f"not let in: {status.decode().strip()}")
        self.open += 1
        try:
            while line := await reader.readline():
                self.bytes += len(line)
                if line.startswith(b"id: "):
                    page.place = line[4:].decode().strip()
                if line.startswith(b'data: {"id":') and b'"trade_id":"t' in line:
                    trade = line.partition(b'"trade_id":"')[2].partition(b'"')[0].decode()
                    self.seen.setdefault(trade, []).append(time.monotonic())
                    page.first_fill = page.first_fill or _booked.get(trade)
                    page.heard.set()
                elif line.startswith(b'data: {"market":') and b'"imbalance"' in line:
                    at = datetime.fromisoformat(json.loads(line[6:])["at"].replace("Z", "+00:00"))
                    self.quotes.append(time.time() - at.timestamp())
        finally:
            self.ended += 1
            writer.close()


async def listen(
    port: int, pid: int, cookies: list[tuple[str, str]], seconds: float, web_at: tuple[int, int] | None
) -> dict[str, Any]:
    await up(port)
    pages, began = Pages(), time.monotonic()
    single = [Page() for _ in cookies]
    web = Web(*web_at) if web_at else None
    if web:
        await up(web.port)
        began = time.monotonic()
        await asyncio.gather(*(web.loads(cookie) for cookie, _ in cookies))
    tasks = [
        asyncio.create_task(pages.listen(port, cookie, markets, page))
        for (cookie, markets), page in zip(cookies, single, strict=True)
    ]
    if web:
        tasks += [
            asyncio.create_task(web.follows(page, cookie)) for (cookie, _), page in zip(cookies, single, strict=True)
        ]
    while pages.open < len(cookies):
        if failed := next((task for task in tasks if task.done() and task.exception()), None):
            raise SystemExit(str(failed.exception()))
        await asyncio.sleep(0.05)
    opened = time.monotonic() - began
    _may_book.set()
    memory: list[float] = []
    of_web: list[float] = []
    cpu_before, began = cpu_seconds(pid), time.monotonic()
    while time.monotonic() - began < seconds:
        await asyncio.sleep(min(1.0, seconds))
        memory.append(resident_mb(pid))
        if web:
            of_web.append(resident_mb(web.pid))
    cpu = (cpu_seconds(pid) - cpu_before) / (time.monotonic() - began)
    _may_book.clear()
    await asyncio.sleep(3)
    ended = pages.ended
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    fills = [max(at - _booked[trade], 0.0) for trade, times in pages.seen.items() for at in times]
    more = {"web": web.figures(of_web)} if web else {}
    return {
        **more,
        "pages": pages.open,
        "ended": ended,
        "seconds_to_open_all": round(opened, 2),
        "fills_booked": len(_booked),
        "fills_told": len(fills),
        "fill_seconds": figures(fills),
        "quotes_told": len(pages.quotes),
        "quote_seconds": figures(pages.quotes),
        "megabytes_told": round(pages.bytes / 1e6, 1),
        "processor_share": round(cpu, 3),
        "memory_mb": grown(memory),
        "load_average": round(os.getloadavg()[0], 1),
    }


async def up(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
    raise SystemExit("live did not start within a minute")


def figures(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {"p50": 0.0, "p95": float("inf"), "p99": 0.0, "max": 0.0}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    named = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(seconds)}
    return {name: round(value, 3) for name, value in named.items()}


def grown(memory: list[float]) -> dict[str, float]:
    """Of a look a second: after the first fifth, and at the end."""
    fifth = max(len(memory) // 5, 1)
    settled, at_end = statistics.median(memory[fifth : 2 * fifth] or memory), statistics.median(memory[-fifth:])
    told = {"at_first": memory[0], "settled": settled, "at_end": at_end, "growth": at_end - settled}
    return {name: round(value, 1) for name, value in told.items()}


def resident_mb(pid: int) -> float:
    """Of the process' own memory: what it shares with its files is not counted."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
