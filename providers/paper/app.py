"""The paper exchange as one ASGI application: `/wallex`, `/nobitex`, `/paper`; and the loop that moves the market."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from providers.clock import calls_factor
from providers.paper.engine import Exchange
from providers.paper.faces.common import JSON, RateLimiter
from providers.paper.faces.connections import Connections
from providers.paper.faces.control import Door
from providers.paper.faces.control_api import ControlApi
from providers.paper.faces.nobitex import NobitexFace
from providers.paper.faces.nobitex_stream import NobitexStream
from providers.paper.faces.seam import Seam
from providers.paper.faces.stream_hub import StreamHub
from providers.paper.faces.wallex import WallexFace
from providers.paper.faces.wallex_stream import WallexStream
from providers.paper.ledger import LedgerError

logger = logging.getLogger(__name__)

_BEAT = 0.1  # seconds of wall time between two looks at the market


def build_app(
    exchange: Exchange,
    *,
    control_token: str | None = None,
    rate_limits: bool = True,
    connections: Connections | None = None,
) -> Starlette:
    """The application; closes the exchange at shutdown.

    `app.state` has the parts: `exchange`, `faults` (its plan), `seam` (with the request log), `streams`. Without
    `connections` (in process) a dropped connection is a ConnectionAbortedError of the call.
    """
    limiter = RateLimiter(enabled=rate_limits, factor=calls_factor())
    streams = StreamHub(exchange)
    venues = Starlette(
        routes=[
            Mount(
                "/wallex", routes=[*WallexStream(exchange, streams).routes(), *WallexFace(exchange, limiter).routes()]
            ),
            Mount(
                "/nobitex",
                routes=[*NobitexStream(exchange, streams).routes(), *NobitexFace(exchange, limiter).routes()],
            ),
        ],
        exception_handlers={HTTPException: _gateway_error},
    )
    venues.router.redirect_slashes = False
    seam = Seam(venues, exchange, close=connections.close) if connections else Seam(venues, exchange)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        running = [asyncio.create_task(_beat(exchange)), asyncio.create_task(streams.run())]
        yield
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        exchange.close()

    app = Starlette(
        routes=[Mount("/paper", routes=Door(exchange, control_token).routes()), Mount("/", app=seam)],
        lifespan=lifespan,
    )
    app.state.seam = seam
    app.state.streams = streams
    app.state.exchange = exchange
    app.state.faults = exchange.faults
    return app


def build_control_app(app: Starlette, token: str) -> Starlette:
    """The tester's door to an application of `build_app`, for a loopback port of its own."""
    api = ControlApi(app.state.exchange, token, app.state.seam.log, app.state.streams)
    return Starlette(routes=[Mount("/paper", routes=api.routes())], exception_handlers={HTTPException: _no_such_page})


async def _no_such_page(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    return JSON({"error": f"{request.method} {request.url.path} is not part of the control API"}, status)


async def _gateway_error(request: Request, exc: Exception) -> Response:
    """Addresses that do not exist answer as Wallex' gateway does (wallex 1.3); Nobitex has its own page."""
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    return JSON({"message": exc.detail if isinstance(exc, HTTPException) else "Server Error"}, status)


async def _beat(exchange: Exchange) -> None:
    """Stops trigger and limits fill while nobody asks."""
    while True:
        await asyncio.sleep(_BEAT)
        try:
            exchange.advance()
        except LedgerError:
            logger.critical("the books do not balance: nothing more is kept, the exchange stops", exc_info=True)
            signal.raise_signal(signal.SIGTERM)
            return
        except Exception:  # one failed look at a feed must not stop the market for good
            logger.exception("the market could not be moved; trying again")
