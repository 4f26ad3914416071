"""Errors and traces leave for a receiver on loopback, over real HTTP: with what they belong to, without a secret."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from textwrap import dedent

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.paper.world import ROOT

KNOWN, SHAPED = "CanaryKnown0123456789", "CanaryShaped9876543210"


class Receiver:
    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.received.append((self.path, body))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def all_bytes(self) -> bytes:
        return b"\n".join(body for _, body in self.received)


@contextmanager
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    try:
        yield found
    finally:
        found.stop()


def run(script: str, **env: str) -> str:
    """`script` in a process of its own, after Django was set up as every process does it."""
    whole = "import django; django.setup()\n" + dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", whole], cwd=ROOT, env=os.environ | {"ENV_FILE": ""} | env,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_an_address_no_library_is_even_loaded():
    told = run("import sys; print([name for name in sys.modules if name.startswith(('sentry_sdk', 'opentelemetry'))])")
    assert told.strip() == "[]"


@pytest.mark.e2e
def test_an_error_is_reported_with_its_trail_and_without_secrets():
    with receiver() as sentry:
        run(
            f"""
            import logging, sentry_sdk
            from algo.trail import trail
            from providers.redaction import register_secret
            register_secret("{KNOWN}")
            log = logging.getLogger("algo.deals")
            with trail(request_id="4f1c2d3e4a5b", deal=7):
                log.info("a crumb with {KNOWN}", extra={{"token": "{SHAPED}"}})
                api_key = "{KNOWN}"
                try:
                    raise ValueError(f"refused {{api_key}} api_key={SHAPED}")
                except ValueError:
                    log.exception("account=%s failed with key %s", 3, api_key, extra={{"api_key": "{SHAPED}"}})
                sentry_sdk.set_context("request", {{"Authorization": "Bearer {SHAPED}", "note": ["{KNOWN}"]}})
                sentry_sdk.capture_message("secret: {SHAPED}")
            sentry_sdk.flush(5)
            """,
            SENTRY_DSN=f"http://public@{sentry.place}/1",
        )
        events = [json.loads(body.splitlines()[2]) for path, body in sentry.received if path == "/api/1/envelope/"]
        everything = sentry.all_bytes().decode()
    assert len(events) == 2
    assert events[0]["tags"] == {"request_id": "4f1c2d3e4a5b", "deal": "7"}
    assert events[0]["exception"]["values"][0]["type"] == "ValueError"
    frames = events[0]["exception"]["values"][0]["stacktrace"]["frames"]
    assert not any("vars" in frame for frame in frames)
    assert "***" in everything
    assert KNOWN not in everything
    assert SHAPED not in everything


@pytest.mark.e2e
def test_a_request_becomes_a_span_with_its_id_and_without_secrets():
    with receiver() as collector:
        run(
            f"""
            import requests
            from django.test import Client
            from opentelemetry import trace
            from providers.redaction import register_secret
            register_secret("{KNOWN}")
            Client().get("/health/live")
            Client().get("/nothing/here?api_key={SHAPED}&x={KNOWN}", headers={{"X-Request-ID": "4f1c2d3e4a5b"}})
            requests.get("http://{collector.place}/orders?token={SHAPED}", timeout=5)
            with trace.get_tracer("ours").start_as_current_span("decide {KNOWN}") as span:
                span.set_attribute("api_key", "{SHAPED}")
                span.set_attribute("numbers", [1, 2])
                span.add_event("sent with {KNOWN}", {{"secret": "{SHAPED}"}})
                span.record_exception(ValueError("password={SHAPED}"))
            trace.get_tracer_provider().force_flush()
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{collector.place}",
        )
        sent = [body for path, body in collector.received if path == "/v1/traces"]
    spans = [
        span
        for body in sent
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    names = [span.name for span in spans]
    assert "decide ***" in names
    assert len(names) == 3, names  # a probe is none
    [request] = [span for span in spans if span.kind == 2]  # of a server
    attributes = {each.key: each.value.string_value for each in request.attributes}
    assert attributes["algo.request_id"] == "4f1c2d3e4a5b"
    assert any("***" in value for value in attributes.values())
    everything = b"\n".join(sent).decode(errors="replace")
    assert KNOWN not in everything
    assert SHAPED not in everything


@pytest.mark.e2e
def test_receivers_that_are_away_keep_nothing_from_its_work():
    told = run(
        """
        import logging
        logging.getLogger("algo").error("nobody hears this")
        from django.test import Client
        print(Client().get("/health/live").status_code)
        """,
        SENTRY_DSN="http://public@127.0.0.1:9/1",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert told.strip() == "200"
