"""The proof that streams lose nothing: `python -m tests.streams --minutes 10 --symbols 20 --disconnects 10`.

Real processes: a paper exchange, PostgreSQL, a Redis, and `manage.py stream_market_data` once for each exchange. Every
connection is cut at even intervals. Afterwards every minute must stand in the feed of every market exactly once, as
the exchange's REST tells it. Prints one JSON object; exit code 1 when anything is missing, doubled or different.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PROVIDERS = ("nobitex", "wallex")
SAMPLE_SECONDS = 0.25
MINUTE = timedelta(minutes=1)
START_SECONDS, SETTLE_SECONDS = 60.0, 45.0

Market = tuple[str, str]  # provider, symbol


@dataclass
class Ages:
    """Seconds since each market's price was last proven, as a worker (Redis) and the guardian (PostgreSQL) see it."""

    redis: dict[Market, list[float]] = field(default_factory=lambda: defaultdict(list))
    quotes: dict[Market, list[float]] = field(default_factory=lambda: defaultdict(list))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--symbols", type=int, default=20, help="markets at each exchange")
    parser.add_argument("--disconnects", type=int, default=10)
    options = parser.parse_args(argv)

    from launcher.embedded import ensure_test_servers

    ensure_test_servers()  # before Django reads its settings
    import django

    django.setup()
    with tempfile.TemporaryDirectory(prefix="algo-streams-") as folder:
        report = prove(Path(folder), options.minutes, options.symbols, options.disconnects)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0 if report["ok"] else 1


def prove(folder: Path, minutes: float, symbols: int, disconnects: int) -> dict[str, Any]:
    from django.core.management import call_command

    from tests.paper.world import running

    call_command("migrate", "--noinput", verbosity=0)
    with running(folder, "--seed", "11", "--no-rate-limits") as server:
        markets = set_up(server.url, symbols)
        with both_streams(folder, server):
            began = until_fresh(markets, folder)
            ages, cut = watch(server, markets, minutes, disconnects)
            ended = datetime.now(UTC).replace(second=0, microsecond=0)
            settled = until_closed(markets, began, ended)
            report = judge(server.url, markets, began, ended) | {"settled_after_seconds": settled}
        report |= {"disconnects": disconnects, "connections_cut": cut, "minutes": minutes, "reconnects": reconnects()}
    report["book_age_seconds"] = summary(ages.redis)
    report["quote_age_seconds"] = summary(ages.quotes)
    for row in report["markets"]:
        row["book_age_seconds"] = spread(ages.redis[row["provider"], row["symbol"]])
    return report


# --- the world -----------------------------------------------------------------------------------------------------


def client(url: str, provider: str) -> Any:
    from providers.provider_factory import create_provider

    return create_provider(provider, base_url=f"{url}/{provider}")


def set_up(url: str, symbols: int) -> list[Market]:
    """Strategies on the first markets that both exchanges have; each reads its own exchange's candles."""
    from algo.models import Market as MarketRow
    from algo.models import StrategyConfig
    from algo.services.markets import markets_refresh
    from tests.factories import make_account, make_config

    StrategyConfig.objects.all().delete()
    for provider in PROVIDERS:
        markets_refresh(client(url, provider), now=datetime.now(UTC))
    pairs = [set(MarketRow.objects.filter(provider=name).values_list("pair", flat=True)) for name in PROVIDERS]
    chosen = sorted(set.intersection(*pairs))[:symbols]
    assert len(chosen) == symbols, f"the paper exchanges share only {len(chosen)} pairs"
    for provider in PROVIDERS:
        account = make_account(provider=provider)
        for market in MarketRow.objects.filter(provider=provider, pair__in=chosen):
            make_config(account=account, market=market, data_market=market)
    rows = MarketRow.objects.filter(provider__in=PROVIDERS, pair__in=chosen)
    return list(rows.values_list("provider", "symbol"))


@contextmanager
def both_streams(folder: Path, server: Any) -> Iterator[None]:
    from tests.execution.processes import environment, started

    env = environment(server)
    with ExitStack() as stack:
        for provider in PROVIDERS:
            (folder / provider).mkdir()
            words = ("manage.py", "stream_market_data", "--provider", provider)
            stack.enter_context(started(folder / provider, *words, env=env))
        yield


def reader() -> Any:
    from django.conf import settings

    from algo.exchanges import CLOCK
    from algo.live.market_feed import FeedReader
    from algo.live.redis_link import connect

    return FeedReader(connect(settings.REDIS_URL, 2.0), CLOCK)


def until_fresh(markets: list[Market], folder: Path) -> datetime:
    """Wait until every market has a fresh book; the minute that runs then is the first that counts."""
    from tests.execution.processes import said

    feed, deadline = reader(), time.monotonic() + START_SECONDS
    while late := [market for market in markets if (age := book_age(feed, market)) is None or age > 5]:
        if time.monotonic() > deadline:
            sys.stderr.write("\n".join(said(folder / provider)[-2000:] for provider in PROVIDERS))
            raise SystemExit(f"no fresh book within {START_SECONDS:g} s: {late[:5]} … ({len(late)})")
        time.sleep(0.2)
    return datetime.now(UTC).replace(second=0, microsecond=0)


# --- the run -------------------------------------------------------------------------------------------------------


def book_age(feed: Any, market: Market) -> float | None:
    found = feed.book(*market)
    return None if found is None else max((datetime.now(UTC) - found.book.as_of).total_seconds(), 0.0)


def watch(server: Any, markets: list[Market], minutes: float, disconnects: int) -> tuple[Ages, int]:
    """Sample ages for so long, and cut every connection at even intervals."""
    feed, ages, cut = reader(), Ages(), 0
    began = time.monotonic()
    due = [began + minutes * 60 * (number + 0.5) / disconnects for number in range(disconnects)]
    samples = 0
    while time.monotonic() < began + minutes * 60:
        if due and time.monotonic() >= due[0]:
            due.pop(0)
            answer = server.control("POST", "/streams/disconnect", json={})
            assert answer.status_code == 200, answer.text
            cut += answer.json()["disconnected"]
        for market in markets:
            if (age := book_age(feed, market)) is not None:
                ages.redis[market].append(age)
        if samples % round(1 / SAMPLE_SECONDS) == 0:
            sample_quotes(ages)
        samples += 1
        time.sleep(max(began + samples * SAMPLE_SECONDS - time.monotonic(), 0.0))
    return ages, cut


def sample_quotes(ages: Ages) -> None:
    from algo.models import MarketQuote

    rows = MarketQuote.objects.values_list("market__provider", "market__symbol", "as_of")
    now = datetime.now(UTC)
    for provider, symbol, as_of in rows:
        ages.quotes[provider, symbol].append(max((now - as_of).total_seconds(), 0.0))


def reconnects() -> dict[str, int]:
    feed = reader()
    return {name: health.reconnects for name in PROVIDERS if (health := feed.health(name)) is not None}


# --- the verdict ---------------------------------------------------------------------------------------------------


def closed(feed: Any, market: Market, start: datetime, end: datetime) -> list[Any]:
    from providers.types import Resolution

    return [each for each in feed.closed_run(*market, Resolution.M1) if start <= each.open_time < end]


def until_closed(markets: list[Market], start: datetime, end: datetime) -> float:
    """Wait for the last minute: the exchange is asked a little after its end, one market after the other. Returns how
    long that took."""
    feed, began = reader(), time.monotonic()
    minutes = (end - start) // MINUTE
    while time.monotonic() < began + SETTLE_SECONDS:
        late = [market for market in markets if len(closed(feed, market, start, end)) < minutes]
        if not late:
            break
        time.sleep(0.5)
    return round(time.monotonic() - began, 1)


def judge(url: str, markets: list[Market], start: datetime, end: datetime) -> dict[str, Any]:
    feed = reader()
    clients = {provider: client(url, provider) for provider in PROVIDERS}
    rows = [verdict(feed, clients[market[0]], market, start, end) for market in markets]
    totals = {name: sum(row[name] for row in rows) for name in ("gaps", "repeated", "different")}
    return {"ok": not any(totals.values()), "closed_minutes": (end - start) // MINUTE, **totals, "markets": rows}


def verdict(feed: Any, rest: Any, market: Market, start: datetime, end: datetime) -> dict[str, Any]:
    """Every minute of [start, end) once in the feed, and equal to what REST says now."""
    from providers.types import Resolution

    told = closed(feed, market, start, end)
    truth = {each.open_time: each for each in patiently(lambda: rest.candles(market[1], Resolution.M1, start, end))}
    minutes = [start + number * MINUTE for number in range((end - start) // MINUTE)]
    times = [each.open_time for each in told]
    return {
        "provider": market[0],
        "symbol": market[1],
        "gaps": len(set(minutes) - set(times)),
        "first_gap": next((str(minute) for minute in minutes if minute not in times), None),
        "repeated": len(times) - len(set(times)),
        "different": sum(truth.get(each.open_time) != each for each in told),
    }


def patiently(ask: Any) -> Any:
    """The client keeps to the exchange's limits, also here."""
    from providers.errors import RateLimited

    while True:
        try:
            return ask()
        except RateLimited as exc:
            time.sleep(max(exc.retry_after, 0.5))


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {"samples": 0, "p50": math.nan, "p99": math.nan, "max": math.nan}
    return {
        "samples": len(ordered),
        "p50": round(ordered[len(ordered) // 2], 3),
        "p99": round(ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)], 3),
        "max": round(ordered[-1], 3),
    }


def summary(ages: dict[Market, list[float]]) -> dict[str, dict[str, float]]:
    return {
        provider: spread([age for market, values in ages.items() if market[0] == provider for age in values])
        for provider in PROVIDERS
    }


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")
    sys.exit(main())
