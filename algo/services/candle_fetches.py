"""Candles that people ask for: fetched by workers a few pages at a time, so that neither the calls that live strategies
need nor a worker is taken for long."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from itertools import islice

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils.translation import gettext

from algo.localised import digits
from algo.models import UNFINISHED_RUNS, CandleFetch, Market, RunStatus
from algo.selectors.candles import candles_coverage
from algo.selectors.rights import may_fetch_candles
from algo.sentences import sentence
from algo.services.audit import Actor
from algo.services.candle_checks import UnitJump
from algo.services.candles import candles_fetch_range, pages_of
from algo.services.refused import Refused
from providers.budgets import no_waiting
from providers.clock import Clock
from providers.errors import CircuitOpen, ProviderError, RateLimited
from providers.interface import ExchangeProvider
from providers.types import Resolution

logger = logging.getLogger("algo.candles")

MOST_CANDLES = 100_000  # of one fetch: 200 pages, some five minutes
MOST_UNFINISHED = 5  # of one user
PAGES = 4  # at a time: with PACE_SECONDS, at most 48 calls a minute (contract: nobitex allows 120 of them)
PACE_SECONDS = 5.0
LEASE_SECONDS = 90.0  # of a worker over its pages: longer than they may take
MOST_TRIES = 8  # in a row, over about ten minutes
LONGEST_WAIT_SECONDS = 300.0

ProviderOf = Callable[[str], ExchangeProvider]


class FetchRefused(Refused):
    """Nothing was asked of anybody."""


@transaction.atomic
def candle_fetch_request(
    market: Market, resolution: Resolution, *, start: datetime, end: datetime, by: Actor, at: datetime
) -> CandleFetch:
    """Ask for the candles with start <= open_time < end; workers begin within seconds. What is stored is not fetched
    again. The same request that is still under way is given back. Raises FetchRefused, and PermissionDenied for a
    Viewer."""
    if by.user is not None and not may_fetch_candles(by.user):
        raise PermissionDenied(gettext("Only a Trader or an Admin may have candles fetched. Nothing was asked for."))
    end = min(end, at)
    if start >= end:
        raise FetchRefused(gettext("It must lie before the end of the period and in the past."), "from")
    if (end - start) / resolution.duration > MOST_CANDLES:
        raise FetchRefused(
            gettext(
                "That is more than %(most_candles)s candles. Choose a shorter period or longer candles, "
                "or run it in a shell with: manage.py fetch_ohlcv"
            )
            % {"most_candles": digits(f"{MOST_CANDLES:,}")},
            "from",
        )
    unfinished = CandleFetch.objects.filter(status__in=UNFINISHED_RUNS)
    wanted = {"market": market, "resolution": resolution.value, "start": start}
    if same := unfinished.filter(**wanted, end__gte=end).first():
        return same
    if by.user is not None and unfinished.filter(requested_by=by.user).count() >= MOST_UNFINISHED:
        raise FetchRefused(
            gettext("%(most_unfinished)s of your fetches are still under way. Ask again when one is done.")
            % {"most_unfinished": MOST_UNFINISHED}
        )
    return CandleFetch.objects.create(**wanted, end=end, requested_by=by.user, reached=start, due_at=at, created_at=at)


def candle_fetches_work(provider_of: ProviderOf, clock: Clock) -> CandleFetch | None:
    """Fetch the next pages of the request that has waited longest; None where none is due. Called every PACE_SECONDS,
    and safe to call by many at once."""
    fetch = _claim(clock)
    if fetch is None:
        return None
    try:
        _fetch_pages(fetch, provider_of(fetch.market.provider), clock)
    except UnitJump as exc:
        _finish(fetch, RunStatus.FAILED, clock, error=f"{sentence(str(exc))} Candles fetched so far are kept.")
    except CircuitOpen as exc:
        _failed(fetch, exc, clock, wait=exc.retry_after)
    except RateLimited as exc:  # no failure: others need the calls, or the exchange wants a pause
        fetch.tries, fetch.error = 0, sentence(str(exc))[:400]
        _wait(fetch, exc.retry_after, clock)
    except ProviderError as exc:
        _failed(fetch, exc, clock)
    return fetch


@transaction.atomic
def _claim(clock: Clock) -> CandleFetch | None:
    now = clock.now()
    due = CandleFetch.objects.filter(status__in=UNFINISHED_RUNS, due_at__lte=now).order_by("due_at", "id")
    fetch = due.select_for_update(skip_locked=True, of=("self",)).select_related("market").first()
    if fetch is None:
        return None
    if fetch.tries >= MOST_TRIES:  # neither pages came nor an answer: its worker failed each time, and the log says why
        _finish(fetch, RunStatus.FAILED, clock, error=f"Its workers failed {MOST_TRIES} times; their log tells more.")
        return None
    fetch.status, fetch.due_at, fetch.tries = RunStatus.RUNNING, now + clock.wall(LEASE_SECONDS), fetch.tries + 1
    fetch.save(update_fields=["status", "due_at", "tries"])
    return fetch


def _fetch_pages(fetch: CandleFetch, provider: ExchangeProvider, clock: Clock) -> None:
    resolution = Resolution(fetch.resolution)
    gaps = candles_coverage(fetch.market, resolution, fetch.reached, fetch.end).gaps
    pages = list(islice(pages_of(gaps, resolution), PAGES))
    for start, end in pages:
        got = candles_fetch_range(
            fetch.market, resolution, provider, start=start, end=end, now=clock.now(), sleep=no_waiting
        )
        fetch.new, fetch.reached, fetch.tries, fetch.error = fetch.new + got.new, end, 0, ""
    if len(pages) < PAGES:
        missing = candles_coverage(fetch.market, resolution, fetch.start, fetch.end).missing
        _finish(fetch, RunStatus.DONE, clock, reached=fetch.end, missing=missing, tries=0, error="")
    else:
        _wait(fetch, PACE_SECONDS, clock)


def _wait(fetch: CandleFetch, seconds: float, clock: Clock) -> None:
    fetch.due_at = clock.now() + clock.wall(min(max(seconds, PACE_SECONDS), LONGEST_WAIT_SECONDS))
    fetch.save(update_fields=["due_at", "reached", "new", "tries", "error"])


def _failed(fetch: CandleFetch, why: ProviderError, clock: Clock, *, wait: float = 0.0) -> None:
    """Tried again later, until it has failed too often."""
    logger.warning("candles not fetched fetch=%s try=%s why=%s", fetch.pk, fetch.tries, why)
    if fetch.tries >= MOST_TRIES:
        text = f"{sentence(str(why))} Given up after {MOST_TRIES} tries. Candles fetched so far are kept; ask later."
        _finish(fetch, RunStatus.FAILED, clock, error=text)
        return
    fetch.error = sentence(str(why))[:400]
    _wait(fetch, max(wait, PACE_SECONDS * 2**fetch.tries), clock)


def _finish(fetch: CandleFetch, status: RunStatus, clock: Clock, *, error: str, **values: object) -> None:
    done = {"status": status, "finished_at": clock.now(), "error": error[:400], "new": fetch.new, **values}
    for name, value in done.items():
        setattr(fetch, name, value)
    fetch.save(update_fields=list(done))
