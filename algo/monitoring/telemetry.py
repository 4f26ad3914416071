"""Errors to Sentry and traces to an OpenTelemetry collector: only where the environment names one, and masked by the
same rules as the log. Their libraries are not even imported otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings

from algo.trail import current
from algo.version import VERSION, code_version
from providers.redaction import redact, redact_tree, register_secret

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

logger = logging.getLogger("algo.telemetry")

SECONDS = 2.0  # that the end of a process may wait for a receiver
_started: set[str] = set()


def telemetry_start() -> None:
    """Once in each process; safe to call again. A receiver that is away costs log lines, nothing else."""
    if settings.SENTRY_DSN and "sentry" not in _started:
        _started.add("sentry")
        sentry_start(settings.SENTRY_DSN)
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT and "otel" not in _started:
        _started.add("otel")
        traces_start(settings.OTEL_EXPORTER_OTLP_ENDPOINT)


# --- Sentry -----------------------------------------------------------------------------------------------------------


def sentry_start(dsn: str) -> None:
    """What stood in local variables, in requests' bodies and cookies, and who the user is, is never collected."""
    import sentry_sdk  # noqa: PLC0415 - takes a third of a second

    register_secret(dsn)
    sentry_sdk.init(
        dsn=dsn,
        release=f"algo_trade@{code_version()}",
        environment=settings.EXCHANGE_ENVIRONMENT,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        shutdown_timeout=SECONDS,
        before_send=_masked_event,
        before_send_transaction=_masked_event,
        before_breadcrumb=_masked,
    )


def _masked_event(event: Any, hint: Mapping[str, Any]) -> Any:
    """With the ids of what it belongs to; the whole of it masked."""
    event["tags"] = {**(event.get("tags") or {}), **{name: str(value) for name, value in current().items()}}
    return _masked(event, hint)


def _masked(told: Any, hint: Mapping[str, Any]) -> Any:
    return redact_tree(told)


# --- OpenTelemetry ----------------------------------------------------------------------------------------------------


def traces_start(endpoint: str) -> None:
    """Requests, tasks, calls to exchanges and statements become spans. The variables of OpenTelemetry itself
    (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER …) hold as well."""
    from opentelemetry import trace  # noqa: PLC0415 - as above
    from opentelemetry.instrumentation.celery import CeleryInstrumentor  # noqa: PLC0415
    from opentelemetry.instrumentation.django import DjangoInstrumentor  # noqa: PLC0415
    from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor  # noqa: PLC0415
    from opentelemetry.instrumentation.requests import RequestsInstrumentor  # noqa: PLC0415

    trace.set_tracer_provider(_tracing(endpoint))
    # behind our first two: a span begins when the request has its id, and probes are none
    os.environ.setdefault("OTEL_PYTHON_DJANGO_MIDDLEWARE_POSITION", "2")
    DjangoInstrumentor().instrument()
    CeleryInstrumentor().instrument()
    RequestsInstrumentor().instrument()
    Psycopg2Instrumentor().instrument(skip_dep_check=True)  # the statement, never its parameters


def _tracing(endpoint: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult  # noqa: PLC0415

    class Trailing(SpanProcessor):
        """Writes on each span what it belongs to."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            span.set_attributes({f"algo.{name}": str(value) for name, value in current().items()})

    class Masked(SpanExporter):
        """What leaves is a copy of each span, masked."""

        def __init__(self, exporter: SpanExporter) -> None:
            self._exporter = exporter

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return self._exporter.export([masked_span(span) for span in spans])

        def shutdown(self) -> None:
            self._exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return self._exporter.force_flush(timeout_millis)

    names = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "algo_trade"), "service.version": VERSION}
    provider = TracerProvider(resource=Resource.create(names))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=SECONDS)
    provider.add_span_processor(Trailing())
    provider.add_span_processor(BatchSpanProcessor(Masked(exporter)))
    return provider


def masked_span(span: ReadableSpan) -> ReadableSpan:
    """The same span without secrets in its name, attributes, events and status."""
    from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415
    from opentelemetry.trace import Status  # noqa: PLC0415

    events = [
        Event(redact(each.name), redact_tree(dict(each.attributes or {})), each.timestamp) for each in span.events
    ]
    return ReadableSpan(
        name=redact(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=redact_tree(dict(span.attributes or {})),
        events=events,
        links=span.links,
        kind=span.kind,
        instrumentation_scope=span.instrumentation_scope,
        status=Status(span.status.status_code, redact(span.status.description) if span.status.description else None),
        start_time=span.start_time,
        end_time=span.end_time,
    )
