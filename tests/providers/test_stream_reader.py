"""The line of REST reads behind a stream: nobody waits for ever, however often the others are asked for again."""

from __future__ import annotations

import asyncio

from providers.errors import RateLimited
from providers.stream_feed import RestReader
from providers.stream_link import StreamTiming


def read_in_order(names: str, *, refused: int = 0, most: int = 12) -> list[str]:
    """What is read when every read makes all `names` be asked for again, as a reconnect does; the first `refused`
    calls are refused for calling too often."""
    reads: list[str] = []
    calls = 0

    async def play() -> None:
        reader = RestReader(StreamTiming(rest_pause=0.0))
        enough = asyncio.Event()

        def call(name: str) -> str:
            nonlocal calls
            calls += 1
            if calls <= refused:
                raise RateLimited("too often", retry_after=0.01)
            return name

        def done(name: str) -> None:
            reads.append(name)
            ask_all()
            if len(reads) >= most:
                enough.set()

        def ask_all() -> None:
            for name in names:
                reader.ask(name, lambda name=name: call(name), done, order=1)

        ask_all()
        running = asyncio.create_task(reader.run())
        await asyncio.wait_for(enough.wait(), 5)
        running.cancel()

    asyncio.run(play())
    return reads


def test_who_is_asked_for_again_keeps_his_place_in_the_line():
    assert read_in_order("abcd", most=8) == list("abcdabcd")


def test_who_was_refused_is_the_next_again():
    assert read_in_order("abc", refused=2, most=3) == list("abc")
