"""`Idempotency-Key`: a POST sent again with the same key is answered again, and acts once.

Kept are definite answers: what was done, and what was refused for what was sent. Refusals for who asks, of too many
requests, and our own failures are not: the same key then acts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any

from django.http import Http404, QueryDict
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.problems import as_problem
from algo.localised import moment
from algo.models import KeptAnswer
from algo.services.idempotency import KeyReused, StillRunning, answer_claim, answer_keep, answer_release

logger = logging.getLogger(__name__)

HEADER, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,64}")
_UNDECIDED = {401, 403, 408, 425, 429}


class KeyOfAnother(APIException):
    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"
    default_detail = _(
        "This key was used for another request: another address or body. Nothing was done. A new act takes a new key."
    )


class InProgress(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "idempotency_in_progress"

    def __init__(self, free_at: Any, now: Any) -> None:
        super().__init__(
            gettext(
                "A request with this key has no answer yet: it runs, or it was cut off. Nothing more was "
                "done. Ask again in a moment; from %(free_at)s UTC on the key is free again, and who "
                "uses it then acts: look first whether the act was done."
            )
            % {"free_at": moment(free_at)}
        )
        self.wait = max(1, min(5, ceil((free_at - now).total_seconds())))


class Idempotent:
    """Before the framework's class. Every POST takes a key; a view whose answers hold secrets says
    `idempotent = False`: they are kept nowhere."""

    idempotent: bool = True

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        key = request.headers.get(HEADER)
        handler = getattr(self, "post", None)
        if request.method == "POST" and self.idempotent and key is not None and handler is not None:
            vars(self)["post"] = partial(once, self, checked(key), handler)  # whoever asks has been let in by now


def once(
    view: Any, key: str, handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any
) -> Response:
    """The kept answer of the key, or what `handler` answers, which is kept. Raises KeyOfAnother, InProgress."""
    now = timezone.now()
    try:
        claimed = answer_claim(request.user, key, fingerprint(request), now)
    except KeyReused as exc:
        raise KeyOfAnother from exc
    except StillRunning as exc:
        raise InProgress(exc.free_at, now) from exc
    if claimed.status is not None:
        return replayed(claimed, request)
    kept = False
    try:
        response = _answered(view, handler, request, *args, **kwargs)
        kept = is_definite(response.status_code)
    finally:
        if not kept:
            answer_release(claimed)
    if kept:
        body = "" if response.data is None else JSONRenderer().render(response.data).decode()
        answer_keep(claimed, status=response.status_code, body=body)
    return response


def _answered(view: Any, handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any) -> Response:
    """With refusals as answers, as the framework makes them."""
    try:
        return handler(request, *args, **kwargs)
    except (APIException, Http404) as exc:
        refused: Response = view.handle_exception(exc)
        return refused


def checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ParseError(
            gettext("%(header)s must be 1 to 64 visible ASCII characters, as a UUID is. Nothing was done.")
            % {"header": HEADER}
        )
    return key


def fingerprint(request: Request) -> str:
    """Of what the request asks for: the same body in another order or spacing is the same."""
    data: Any = request.data
    if isinstance(data, QueryDict):
        data = {name: data.getlist(name) for name in data}
    address = request.get_full_path().rstrip("/")
    asked = json.dumps([request.method, address, data], sort_keys=True, default=str)
    return hashlib.sha256(asked.encode()).hexdigest()


def is_definite(code: int) -> bool:
    return code < 500 and code not in _UNDECIDED


def replayed(kept: KeptAnswer, request: Request) -> Response:
    """The answer that was given, once more."""
    data = json.loads(kept.body) if kept.body else None
    response = Response(data, status=kept.status, headers={REPLAYED: "true"})
    if response.status_code >= 400:
        response.exception = True
        as_problem(request)
    return response
