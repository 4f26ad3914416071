"""One paper exchange for the tests of `advance`; every test opens accounts of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.execution.bench import World


@pytest.fixture(scope="package")
def exchange(tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("exchange")).running() as world:
        yield world


@pytest.fixture
def world(exchange, db) -> World:
    """The exchange with every price back at 100 and a deep book."""
    exchange.feed.depth = type(exchange.feed.depth)(100)
    exchange.clock.step(60)
    for pair in exchange.feed.specs:
        exchange.feed.set(pair, type(exchange.feed.depth)(100))
    return exchange
