"""How long pages take over a full database: `python -m benchmarks.scale --json`.

Fills PostgreSQL (the embedded one; `--keep FOLDER` keeps it, and finds it filled the next time) with a million deals,
three million orders, five million candles and what belongs to them, starts the web server as the container does, and
asks with eight clients at once for every list of the API in each of its orders, rows, filters, and every change list of
the admin. Exit code 1 where a 95th percentile misses its target. In milliseconds: API 100, performance 300, admin 500.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CLIENTS = 8
REQUESTS = 160
ACCOUNTS, CONFIGS = 10, 40
BEGIN = "timestamptz '2024-01-01'"
TARGETS = {"api": 100.0, "performance": 300.0, "admin": 500.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, rows in (("deals", 1_000_000), ("orders", 3_000_000), ("candles", 5_000_000)):
        parser.add_argument(f"--{name}", type=int, default=rows, help=f"how many {name} (default {rows})")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"of each address (default {REQUESTS})")
    parser.add_argument("--only", default="", help="addresses that contain this")
    parser.add_argument("--keep", type=Path, help="a folder for the database")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    with database(asked.keep):
        filled = fill(asked.deals, asked.orders, asked.candles)
        with web_server() as port:
            pages = [each for each in addresses() if asked.only in each[1]]
            for first in {each[0]: each for each in pages}.values():
                measure(port, *first, 8 * CLIENTS)  # every process loads its code with its first requests: not counted
            rows = [measure(port, *each, asked.requests) for each in pages]
    missed = [row for row in rows if not row["met"]]
    if asked.json:
        print(json.dumps({"filled": filled, "clients": CLIENTS, "pages": rows, "missed": len(missed)}, indent=2))
    else:
        print(json.dumps(filled))
        for row in rows:
            mark = "" if row["met"] else "  MISSED"
            print(f"{row['p50']:8.1f} {row['p95']:8.1f} ms  {row['who']:7} {row['address']}{mark}")
    sys.exit(1 if missed else 0)


@contextlib.contextmanager
def database(keep: Path | None) -> Iterator[None]:
    """Django with all tables, on a server that is stopped at the end."""
    from launcher.embedded import PostgreSQL, ensure_test_servers, stop_test_servers, wait_until
    from launcher.processes import child_environment, spawn, stop

    with contextlib.ExitStack() as cleanup:
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            postgres, log = PostgreSQL(keep.resolve() / "pg", durable=False), keep / "postgres.log"
            cleanup.callback(postgres.forget)
            postgres.place()
            postgres.prepare(log)
            server = spawn(postgres.command(), log=log, env=child_environment(), death_signal=signal.SIGINT)
            cleanup.callback(stop, server, signum=signal.SIGINT, seconds=30)
            wait_until(postgres.ready, server, name="PostgreSQL", log=log)
            os.environ["DATABASE_URL"] = postgres.url
        cleanup.callback(stop_test_servers)
        ensure_test_servers()
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.scale_settings"
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        cleanup.callback(connections.close_all)
        call_command("migrate", verbosity=0)
        yield


def fill(deals: int, orders: int, candles: int) -> dict[str, Any]:
    """Rows in proportion, without triggers and checks of keys; nothing where the database is filled already."""
    from django.db import connection

    from algo.models import Deal
    from algo.services.performance import performance_rebuild

    began = time.perf_counter()
    if not Deal.objects.exists():
        people()
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            for statement in statements(deals, orders, candles):
                cursor.execute(statement)
            cursor.execute("SET session_replication_role = DEFAULT")
            cursor.execute("VACUUM ANALYZE")
    filling = time.perf_counter() - began
    began = time.perf_counter()
    days = performance_rebuild()
    counted = time.perf_counter() - began
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE algo_dealday")
        cursor.execute("SELECT pg_size_pretty(pg_database_size(current_database()))")
        size = cursor.fetchone()[0]
    return {
        "deals": deals,
        "orders": orders,
        "candles": candles,
        "seconds": round(filling, 1),
        "size": size,
        "day_rows": days,
        "rebuild_seconds": round(counted, 1),
    }


def people() -> None:
    """A trader with four of the accounts, an Admin, markets, strategies."""
    from django.contrib.auth.models import Group, User

    from algo.models import Account, Market, StrategyConfig
    from algo.selectors.rights import Role

    trader = User.objects.create_user("trader", is_staff=True)
    trader.groups.add(Group.objects.get(name=Role.TRADER.value))
    boss = User.objects.create_superuser("boss")
    grids = {"tick_size": "0.01", "step_size": "0.000001", "maker_fee_rate": "0.001", "taker_fee_rate": "0.001"}
    now = datetime.now(UTC)
    markets = [
        Market.objects.create(
            provider="wallex",
            symbol=f"{base}{quote}",
            base=base,
            quote=quote,
            pair=f"{base}/{'IRT' if quote == 'TMN' else quote}",
            market_band="0.01",
            refreshed_at=now,
            **grids,
        )
        for base in ("BTC", "ETH", "XRP", "SOL", "DOGE")
        for quote in ("USDT", "TMN")
    ]
    accounts = [
        Account.objects.create(name=f"account {number}", owner=trader if number < 4 else boss, provider="wallex")
        for number in range(ACCOUNTS)
    ]
    for number in range(CONFIGS):
        market = markets[number % len(markets)]
        StrategyConfig.objects.create(
            name=f"strategy {number:02}",
            strategy="BreakoutStrategy",
            account=accounts[number // 4],
            market=market,
            data_market=market,
            status="running",
        )


def statements(deals: int, orders: int, candles: int) -> Iterator[str]:
    """One INSERT for each table. Deal `i` is of strategy `i % CONFIGS`; each has a signal, a decision, two fills."""
    from algo.models import Candle, Deal, DealEvent, Decision, Fill, Market, Order, OrderEvent, Signal, StrategyConfig

    config = f"(SELECT min(id) FROM {StrategyConfig._meta.db_table}) + i % {CONFIGS}"
    bar = f"{BEGIN} + (i / {CONFIGS}) * interval '30 minutes'"
    end = f"{bar} + interval '5 minutes' + (i % 17) * interval '1 minute'"
    won = "(i % 5 < 3)"
    series = f"FROM generate_series(1, {deals}) AS i"
    joined = f"FROM generate_series(1, {{}}) AS i JOIN {StrategyConfig._meta.db_table} c ON c.id = {config}"
    side = "CASE WHEN i % 2 = 0 THEN 'BUY' ELSE 'SELL' END"
    yield insert(
        Signal,
        series,
        id="i",
        config_id=config,
        bar_open_at=bar,
        created_at=f"{bar} + interval '1 second'",
        side="'BUY'",
        reason="'breakout'",
        confidence="0.8",
        price="50000",
        indicators="""'{"rsi": "61.2", "volume_ratio": "1.7", "ema_fast": "50010.1"}'""",
    )
    yield insert(
        Signal,
        f"FROM generate_series(1, {deals // 4}) AS i",
        id=f"{deals} + i",
        config_id=config,
        bar_open_at=bar,
        created_at=f"{bar} + interval '2 seconds'",
        side="'SELL'",
        reason="'momentum'",
        confidence="0.7",
        price="50000",
        indicators="""'{"rsi": "38.9"}'""",
        denial_code="'side_not_allowed'",
        denial_message="'The strategy may only buy.'",
    )
    yield insert(
        Decision,
        series,
        id="i",
        config_id=config,
        bar_open_at=bar,
        decided_at=f"{bar} + interval '1 second'",
        outcome="'entered'",
        journal="""'{"conditions": {"breakout": true, "volume": true}, "rsi": "61.2"}'""",
    )
    yield insert(
        Deal,
        joined.format(deals),
        id="i",
        config_id="c.id",
        account_id="c.account_id",
        market_id="c.market_id",
        signal_id="i",
        bar_open_at=bar,
        side="'BUY'",
        status="'CLOSED'",
        rules="""'{"stop_loss_percent": "0.3", "take_profit_percent": "0.6"}'""",
        protection_mode="3",
        planned_quantity="0.01",
        planned_price="50000",
        initial_stop_price="49850",
        stop_price="49850",
        target_price="50300",
        entry_price="50000",
        entry_quantity="0.01",
        exit_price=f"CASE WHEN {won} THEN 50300 ELSE 49850 END",
        exit_quantity="0.01",
        fees_quote="1",
        profit=f"CASE WHEN {won} THEN 2 ELSE -2.5 END",
        close_reason=f"CASE WHEN {won} THEN 'take_profit' WHEN i % 5 = 3 THEN 'stop_loss' ELSE 'trailing_stop' END",
        unprotected_seconds="0.4",
        created_at=bar,
        opened_at=f"{bar} + interval '2 seconds'",
        closed_at=end,
    )
    deal = f"(i - 1) % {deals} + 1"
    leg = f"(i - 1) / {deals} + 1"
    of_deal = f"FROM generate_series(1, {{}}) AS i JOIN {Deal._meta.db_table} d ON d.id = {deal}"
    yield insert(
        Order,
        of_deal.format(orders),
        id="i",
        deal_id="d.id",
        account_id="d.account_id",
        market_id="d.market_id",
        role=f"(ARRAY['ENTRY', 'STOP', 'TARGET', 'EXIT'])[({leg} - 1) % 4 + 1]",
        leg=leg,
        client_order_id="'BENCH' || i",
        exchange_order_id="'X' || i",
        side=side,
        type="'LIMIT'",
        quantity="0.01",
        price="50000",
        status="'FILLED'",
        filled_quantity="0.01",
        average_price="50000",
        raw="""'{"status": "FILLED", "executedQty": "0.01"}'""",
        created_at=f"d.created_at + ({leg}) * interval '1 second'",
        closed_at="d.closed_at",
    )
    yield insert(
        Fill,
        f"{of_deal.format(min(2 * deals, orders))} JOIN {Order._meta.db_table} o ON o.id = i",
        id="i",
        account_id="d.account_id",
        order_id="o.id",
        trade_id="'T' || i",
        price="50000",
        quantity="0.01",
        fee="0.5",
        fee_asset="'USDT'",
        executed_at="o.created_at",
    )
    yield insert(
        OrderEvent,
        f"FROM generate_series(1, {orders}) AS i JOIN {Order._meta.db_table} o ON o.id = i",
        id="i",
        order_id="o.id",
        at="o.closed_at",
        from_status="'OPEN'",
        to_status="'FILLED'",
    )
    yield insert(
        DealEvent,
        of_deal.format(2 * deals),
        id="i",
        deal_id="d.id",
        at="d.closed_at",
        kind="'status'",
        from_status="'OPEN'",
        to_status="'CLOSED'",
    )
    yield insert(
        Candle,
        f"FROM generate_series(0, {candles} - 1) AS i",
        id="i + 1",
        market_id=f"(SELECT min(id) FROM {Market._meta.db_table}) + i % 10",
        resolution="'1'",
        open_time=f"{BEGIN} + (i / 10) * interval '1 minute'",
        open="50000",
        high="50010",
        low="49990",
        close="50005",
        volume="1.5",
    )


def insert(model: Any, source: str, **columns: str) -> str:
    """An INSERT of all columns: what is not given has the model's default, or is null."""
    for field in model._meta.concrete_fields:
        if field.column not in columns and not field.generated and not field.null:
            columns[field.column] = _literal(field)
    names = ", ".join(f'"{name}"' for name in columns)
    return f"INSERT INTO {model._meta.db_table} ({names}) SELECT {', '.join(columns.values())} {source}"


def _literal(field: Any) -> str:
    value = field.get_default()
    if isinstance(value, dict | list):
        return f"'{json.dumps(value)}'"
    return str(value) if isinstance(value, int) else f"'{value}'"


@contextlib.contextmanager
def web_server() -> Iterator[int]:
    """gunicorn as the container starts it; yields its port."""
    from launcher.processes import free_port

    port = free_port()
    words = ["--config", "algo_trade/serving.py", "--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
    argv = [sys.executable, "-m", "gunicorn", "algo_trade.wsgi", *words]
    server = subprocess.Popen(argv, env=os.environ | {"ALLOWED_HOSTS": "127.0.0.1", "LOG_LEVEL": "ERROR"})
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if ask(http.client.HTTPConnection("127.0.0.1", port, timeout=10), "/api/v1/system/health", {})[0]:
                    break
            time.sleep(0.2)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def addresses() -> list[tuple[str, str, str, dict[str, str]]]:
    """Kind, address, whose, headers."""
    from django.contrib import admin
    from django.contrib.auth.models import User
    from django.test import Client

    from algo.api.urls import router
    from algo.models import StrategyConfig, TokenScope
    from algo.selectors.rights import scope_allowed, scope_covers
    from algo.services.audit import SHELL
    from algo.services.tokens import token_give

    users = {name: User.objects.get(username=name) for name in ("trader", "boss")}
    now = datetime.now(UTC)
    found: list[tuple[str, str, str, dict[str, str]]] = []
    owned = StrategyConfig.objects.filter(account__owner=users["trader"]).earliest("pk")
    places = {"market": owned.market_id, "strategy": owned.pk}
    for name, user in users.items():
        allowed = scope_allowed(user)
        headers = {"Authorization": f"Token {token_give(user, by=SHELL, now=now, at=now, scope=allowed)[1]}"}
        for prefix, view, _ in router.registry:
            said = view.scope_needed
            if not scope_covers(allowed, said if isinstance(said, TokenScope) else TokenScope.READ):
                continue
            found.append(("api", f"/api/v1/{prefix}", name, headers))
            terms = [sign + column for column in view.ordering_fields for sign in ("", "-")]
            found += [("api", f"/api/v1/{prefix}?ordering={term}", name, headers) for term in terms]
            row = view.queryset.model.objects.order_by("-id").filter(**_of_trader(view.queryset.model)).first()
            if row is not None:
                found.append(("api", f"/api/v1/{prefix}/{row.pk}", name, headers))
        found += [("api", f"/api/v1/{words.format(**places)}", name, headers) for words in FILTERED]
        pages = ("strategies", "markets", "days", "equity", "equity?period=month", "risk", "risk?from=2026-11-01")
        found += [("performance", f"/api/v1/performance/{page}", name, headers) for page in pages]
    browser = Client()
    browser.force_login(users["boss"])
    cookies = {"Cookie": "; ".join(f"{key}={value.value}" for key, value in browser.cookies.items())}
    found.append(("admin", "/admin/", "boss", cookies))
    for model in admin.site._registry:
        found.append(("admin", f"/admin/{model._meta.app_label}/{model._meta.model_name}/", "boss", cookies))
    return found


FILTERED = (
    "deals?status=OPEN",
    "deals?status=CLOSED",
    "deals?market=BTCUSDT",
    "deals?config=7",
    "deals?account=2",
    "deals?account=2&closed_before=2024-03-01T00:00:00Z",
    "deals?closed_after=2025-03-01T00:00:00Z",
    "deals?profit_min=2",
    "orders?market=BTCTMN",
    "orders?account=2",
    "orders?status=FILLED",
    "orders?role=STOP",
    "orders?deal=99",
    "fills?deal=99",
    "fills?executed_before=2024-03-01T00:00:00Z",
    "signals?denied=true",
    "signals?denied=false",
    "signals?denial_code=side_not_allowed",
    "signals?config=7",
    "markets/{market}/candles?resolution=1",
    "markets/{market}/candles?resolution=1&limit=5000",
    "markets/{market}/candles?resolution=1&from=2024-06-01T00:00:00Z",
    "markets/{market}/candles?resolution=1&from=2024-06-01T00:00:00Z&limit=5000&format=csv",
    "markets/{market}/candles/coverage?resolution=1&from=2024-01-01T00:00:00Z&to=2024-02-01T00:00:00Z",
    "strategies/{strategy}/versions",
    "decisions?outcome=entered",
    "decisions?outcome=error",
    "decisions/counts",
)


def _of_trader(model: Any) -> dict[str, Any]:
    from algo.selectors.visible import ACCOUNT_OF

    path = ACCOUNT_OF.get(model)
    return {f"{path.removeprefix('pk')}__owner__username".lstrip("_"): "trader"} if path else {}


def ask(wire: http.client.HTTPConnection, address: str, headers: dict[str, str]) -> tuple[int, float]:
    began = time.perf_counter()
    wire.request("GET", address, headers=headers)
    answer = wire.getresponse()
    answer.read()
    return answer.status, (time.perf_counter() - began) * 1000


def measure(port: int, kind: str, address: str, who: str, headers: dict[str, str], requests: int) -> dict[str, Any]:
    """`requests` of one address by eight clients at once, each on one connection; in milliseconds."""
    warm = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    first = ask(warm, address, headers)
    warm.close()
    if first[1] > 10 * TARGETS[kind]:
        requests = CLIENTS

    def client(_: int) -> list[tuple[int, float]]:
        wire = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            return [ask(wire, address, headers) for _ in range(max(requests // CLIENTS, 1))]
        finally:
            wire.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [answer for of_client in pool.map(client, range(CLIENTS)) for answer in of_client]
    times = sorted(milliseconds for _, milliseconds in answers)
    codes = sorted({code for code, _ in answers})
    p95 = times[min(int(0.95 * len(times)), len(times) - 1)]
    return {
        "kind": kind,
        "address": address,
        "who": who,
        "codes": codes,
        "p50": round(times[len(times) // 2], 1),
        "p95": round(p95, 1),
        "met": p95 < TARGETS[kind] and set(codes) <= {200, 302},  # the switch of the system has no list of its own
    }


if __name__ == "__main__":
    main()
