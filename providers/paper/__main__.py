"""`python -m providers.paper`: run the paper exchange as its own process."""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import socket
import sqlite3
import sys
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path

from providers.clock import Clock, clock_from_env
from providers.paper import coins
from providers.paper.app import build_app, build_control_app
from providers.paper.engine import Exchange
from providers.paper.faces.connections import Connections
from providers.paper.faces.control import open_account
from providers.paper.feeds.base import Feed, FeedError
from providers.paper.feeds.replay import ReplayFeed
from providers.paper.feeds.synthetic import SyntheticFeed
from providers.paper.serving import ControlServer, listen_on_loopback, serve
from providers.paper.store import Store


class UsageError(Exception):
    """The command line cannot be followed; the message says what to do."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m providers.paper", description="A simulated Wallex and Nobitex.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="where orders, balances and the seed are kept")
    parser.add_argument("--feed", choices=("synthetic", "replay", "mirror"), default="synthetic")
    parser.add_argument("--seed", type=int, help="of the synthetic prices; kept in the data directory")
    parser.add_argument(
        "--coins",
        type=int,
        help=f"of the synthetic market, each in USDT and in toman: {coins.REAL} (default) to {coins.MOST}, those beyond"
        f" {coins.REAL} made up; kept in the data directory, where it may only grow",
    )
    parser.add_argument("--replay-file", type=Path, help="candles: time,open,high,low,close,volume (CSV, gzip allowed)")
    parser.add_argument("--pair", default="BTC/USDT", help="the pair in the replay file")
    parser.add_argument("--mirror-nobitex-url", help="base URL of the exchange whose prices are mirrored")
    parser.add_argument("--mirror-wallex-url", help="base URL of the exchange whose prices are mirrored")
    parser.add_argument("--accounts", type=Path, help="JSON list of accounts to open")
    parser.add_argument("--allow-remote", action="store_true", help="listen on an address that is not loopback")
    parser.add_argument(
        "--control-port", type=int, help="where testers inject faults; 127.0.0.1 only; needs PAPER_CONTROL_TOKEN"
    )
    parser.add_argument("--no-rate-limits", action="store_true", help="do not count requests")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 after a stop by signal, 2 with one sentence on stderr when it cannot start."""
    options = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    token = os.environ.get("PAPER_CONTROL_TOKEN")
    try:
        listening = _control_socket(options.control_port, token)
        exchange = prepare(options)
    except (UsageError, FeedError) as exc:
        sys.stderr.write(f"paper exchange: {exc}\n")
        return 2
    connections = Connections()
    limits = not options.no_rate_limits
    app = build_app(exchange, control_token=token, rate_limits=limits, connections=connections)
    control = ControlServer(build_control_app(app, token), listening) if listening and token else None
    serve(app, connections, options.host, options.port, control)
    return 0


def _control_socket(port: int | None, token: str | None) -> socket.socket | None:
    if port is None:
        return None
    if not token:
        raise UsageError("--control-port needs PAPER_CONTROL_TOKEN in the environment: the secret its callers send.")
    try:
        return listen_on_loopback(port)
    except (OSError, OverflowError) as exc:
        raise UsageError(f"the control port {port} cannot be used: {exc}; choose another --control-port.") from exc


def prepare(options: argparse.Namespace) -> Exchange:
    """Open the store, the feed and the accounts. Raises `UsageError` or `FeedError`."""
    if not options.allow_remote and not _is_loopback(options.host):
        raise UsageError(f"{options.host} is not a loopback address; add --allow-remote if that is meant.")
    try:
        options.data_dir.mkdir(parents=True, exist_ok=True)
        rows = json.loads(options.accounts.read_text(), parse_float=Decimal) if options.accounts else []
    except (OSError, ValueError) as exc:
        raise UsageError(f"{options.accounts or options.data_dir} cannot be used: {exc}.") from exc
    store = _store(options)
    clock = clock_from_env()
    exchange = Exchange(_feed(options, store, clock), clock, store)
    for row in rows:
        try:
            open_account(exchange, row)
        except (AttributeError, ValueError) as exc:
            raise UsageError(f"{options.accounts.name}: {exc}.") from exc
    return exchange


def _store(options: argparse.Namespace) -> Store:
    """The data directory belongs to one process and one feed: another feed has another past."""
    try:
        store = Store(options.data_dir / "paper.sqlite3")
        kept = store.meta().get("feed")
        played = f"{options.replay_file.resolve()} as {options.pair}" if options.replay_file else ""
        asked = f"{options.feed} {played}".strip()
        if kept not in (None, asked):
            raise UsageError(f"this data directory was begun with the feed '{kept}'; use another --data-dir.")
        store.save({}, {"feed": asked})
    except sqlite3.Error as exc:
        raise UsageError(f"{options.data_dir} cannot be used: {exc}. Is another paper exchange using it?") from exc
    return store


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _feed(options: argparse.Namespace, store: Store, clock: Clock) -> Feed:
    if options.coins is not None and options.feed != "synthetic":
        raise UsageError(f"--coins is of the synthetic market; --feed {options.feed} brings its own.")
    if options.feed == "replay":
        if options.replay_file is None:
            raise UsageError("--feed replay needs --replay-file FILE.")
        return ReplayFeed(options.replay_file, options.pair)
    if options.feed == "mirror":
        from providers.paper.feeds.mirror import mirror_feed  # noqa: PLC0415 - the real clients are needed only here

        return mirror_feed(options.mirror_nobitex_url, options.mirror_wallex_url, clock)
    return _synthetic(options.seed, options.coins, store)


def _synthetic(asked: int | None, coin_count: int | None, store: Store) -> SyntheticFeed:
    """The kept seed and price moves; another seed would change a past that orders have lived through."""
    meta = store.meta()
    kept = meta.get("seed")
    if kept is not None and asked is not None and int(kept) != asked:
        raise UsageError(f"this data directory was begun with seed {kept}; use that, or another --data-dir.")
    seed = int(kept) if kept is not None else secrets.randbelow(2**31) if asked is None else asked
    count = _coins(coin_count, int(meta.get("coins", coins.REAL)))
    store.save({}, {"seed": str(seed), "coins": str(count)})
    nudges = [(int(at), str(pair), float(shift)) for at, pair, shift in json.loads(meta.get("nudges", "[]"))]
    return SyntheticFeed(seed, nudges, coins=count)


def _coins(asked: int | None, kept: int) -> int:
    """How many are traded; never fewer than before, for orders may name them."""
    try:
        coins.made_up(asked if asked is not None else kept)
    except ValueError as exc:
        raise UsageError(f"--coins: {exc}.") from exc
    if asked is not None and asked < kept:
        raise UsageError(f"this data directory has {kept} coins, perhaps in orders; use as many or another --data-dir.")
    return asked if asked is not None else kept


if __name__ == "__main__":
    sys.exit(main())
