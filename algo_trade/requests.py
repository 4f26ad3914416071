"""Requests whose charset is no text encoding."""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest


class _ReadAsText:
    """Django takes any codec for a charset, and fails beneath every handler with those that yield no text (`hex`,
    `zlib`): such a request is read as UTF-8."""

    _encoding: str | None

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]
        except LookupError:
            self._encoding = None


class TextRequest(_ReadAsText, WSGIRequest): ...


class TextASGIRequest(_ReadAsText, ASGIRequest): ...
