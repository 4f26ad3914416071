"""What docs/live-updates.md says is so."""

from __future__ import annotations

import re

from algo.api.live import _READ, MOST_MARKETS
from algo.live.updates import follower, hub, prices, relay, server
from algo.live.updates.events import HELLO, RESET, SYSTEM
from algo.services.live_changes import KEPT
from algo_trade.env import Env
from tests.paper.world import ROOT

TEXT = (ROOT / "docs" / "live-updates.md").read_text()


def test_every_event_has_its_row():
    table = TEXT.partition("| event | data |")[2].partition("\n\n")[0]
    named = {name for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == {name for name, _ in _READ.values()} | {HELLO, RESET, SYSTEM, "quote", "candle"}


def test_the_numbers_are_those_of_the_code():
    said = [
        f"{MOST_MARKETS} at most",
        f"{Env.model_fields['LIVE_CONNECTIONS_OF_USER'].default} connections of one user",
        f"503 ({Env.model_fields['LIVE_CONNECTIONS'].default} in one process",
        f"more than {follower.MOST_CAUGHT_UP:,} events, or {relay.KEPT_EVENTS:,} for everybody",
        f"{hub.MOST_WAITING:,} events wait for it",
        f"the {KEPT:,} newest changes",
        f"{server.RETRY_MS[0] // 1000} to {server.RETRY_MS[1] // 1000} seconds later",
    ]
    assert [words for words in said if words not in TEXT] == []
    assert (server.ALIVE_SECONDS, server.RECHECK_SECONDS, relay.KEPT_SECONDS) == (10, 60, 5)
    assert (prices.TELL_SECONDS, relay.COLLECT_SECONDS) == (0.5, 0.1)
