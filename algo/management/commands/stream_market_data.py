"""manage.py stream_market_data: listen to the exchanges' streams and pass on what they tell."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any, cast

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from algo import exchanges
from algo.exchanges import CLOCK, account_provider, public_provider
from algo.live.board import Board
from algo.live.join import join_other_processes
from algo.live.market_feed import WRITE_TIMEOUT, FeedWriter
from algo.live.redis_link import connect
from algo.live.stored_candles import StoredFirst
from algo.live.streaming import Doors, Streaming
from algo.models import Account
from providers.interface import ExchangeProvider
from providers.provider_factory import KNOWN_PROVIDERS, create_market_stream, create_order_stream
from providers.streams import MarketStream, OrderStream

STOP_SECONDS = 1.8


class Command(BaseCommand):
    help = "Feed books, trades and candles of the markets in use to Redis, and their prices to the guardian."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--provider", nargs="+", choices=KNOWN_PROVIDERS, default=KNOWN_PROVIDERS, help="which exchanges (all)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        join_other_processes()
        asyncio.run(_listen(tuple(options["provider"])))


async def _listen(providers: tuple[str, ...]) -> None:
    stopping = asyncio.Event()
    streaming = Streaming(providers, CLOCK, Doors(_market_stream, _order_stream, _writer))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, stopping)
    await streaming.run(stopping)


def _stop(stopping: asyncio.Event) -> None:
    """A call that hangs in a thread must not hold up the end: nothing here is worth waiting for."""
    stopping.set()
    last = threading.Timer(STOP_SECONDS, os._exit, (0,))
    last.daemon = True
    last.start()


def _market_stream(name: str) -> MarketStream | None:
    rest = cast(ExchangeProvider, StoredFirst(public_provider(name), name, CLOCK))  # all of it that a stream reads
    return create_market_stream(name, base_url=exchanges.base_url(name), rest=rest, clock=CLOCK, ws_url=_ws_url(name))


def _order_stream(account: Account) -> OrderStream | None:
    name = account.provider
    return create_order_stream(
        name, base_url=exchanges.base_url(name), rest=account_provider(account), clock=CLOCK, ws_url=_ws_url(name)
    )


def _ws_url(name: str) -> str | None:
    return getattr(settings, f"{name.upper()}_WS_URL", "") or None


def _writer(board: Board) -> FeedWriter:
    return FeedWriter(board, connect(settings.REDIS_URL, WRITE_TIMEOUT), CLOCK)
