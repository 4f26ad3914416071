"""No secret in a log line: one place that knows the secrets in use and the shapes that secrets have."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_SHAPES = re.compile(
    r"(?i)((?:authorization|x-api-key|nobitex-key|nobitex-signature|api[-_]?key|token|secret|password|signature)"
    r"[\"']?\s*[:=]\s*[\"']?(?:(?:token|bearer|basic)\s+)?)([^\s\"',}&]+)"
)
_NAMES = re.compile(r"(?i)authorization|cookie|api[-_]?key|nobitex-(?:key|signature)|token|secret|passw|signature")
_known: set[str] = set()


def register_secret(value: str | None) -> None:
    """From now on `value` is masked wherever it would appear. Values under six characters are too common to mask."""
    if value and len(value) >= 6:
        _known.add(value)


def redact(text: str) -> str:
    """`text` with every known secret, and whatever follows a name like `api_key=`, masked."""
    for secret in sorted(_known, key=len, reverse=True):  # a copy: other threads register; a key before its part
        text = text.replace(secret, MASK)
    return _SHAPES.sub(lambda match: match.group(1) + MASK, text)


def redact_tree(value: Any) -> Any:
    """The same of whatever JSON can hold: texts and keys masked, and all that stands under a name of a secret."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            redact(str(name)): MASK if each and _NAMES.search(str(name)) and _is_text(each) else redact_tree(each)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_tree(each) for each in value]
    return value


def _is_text(value: Any) -> bool:
    return not isinstance(value, bool | int | float | Mapping)


class RedactingFilter(logging.Filter):
    """Masks secrets in messages, arguments and tracebacks before any handler sees them."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True
