"""Log lines, for people (`line`) and for programs (`json`): both say what the work belongs to, and neither a secret."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import Any

from algo.trail import current
from providers.redaction import redact, redact_tree


class Lines(logging.Formatter):
    """Text. What the message does not say of its trail is added behind it: `… request_id=4f1c deal=7`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s%(trail)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        ids = current()
        record.trail = "".join(f" {name}={redact(str(ids[name]))}" for name in ids if f"{name}=" not in record.message)
        return super().formatMessage(record)


def json_lines() -> logging.Formatter:
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message` with its promised prefix, the trail, whatever
    a caller put in `extra`, and `exception`."""
    from structlog.processors import EventRenamer, JSONRenderer  # noqa: PLC0415 - takes its time, and not all need it
    from structlog.stdlib import ExtraAdder, ProcessorFormatter  # noqa: PLC0415

    return ProcessorFormatter(
        foreign_pre_chain=[_who_and_when, ExtraAdder(), _with_trail, _with_traceback],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            EventRenamer("message"),
            _without_secrets,
            JSONRenderer(ensure_ascii=False, default=str),
        ],
    )


def _who_and_when(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record: logging.LogRecord = line["_record"]
    at = logging.Formatter.formatTime(_plain, record, "%Y-%m-%dT%H:%M:%S")
    return {
        "time": f"{at}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        **line,
        "process": record.process,
        "thread": record.threadName,
    }


def _with_trail(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**line, **current()}


def _with_traceback(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """As the filter left it: it has formatted and masked it already where it stands on the handler."""
    record: logging.LogRecord = line["_record"]
    info = line.pop("exc_info", None)
    if record.exc_text or info:
        line["exception"] = record.exc_text or _plain.formatException(info)
    return line


def _without_secrets(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    told: MutableMapping[str, Any] = redact_tree(line)
    return told


_plain = logging.Formatter()
_plain.converter = time.gmtime
