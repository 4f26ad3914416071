"""What every answer of the API carries, whoever wrote it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers

from algo.api.problems import PREFIX


class AnswersOfTheApi:
    """Kept by nobody but who asked, and asked for again each time: with the `ETag` of an answer in `If-None-Match`, an
    unchanged one is 304 without a body. What was written is not kept at all."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not re.fullmatch("[ -~]*", request.META.get("HTTP_AUTHORIZATION", "")):
            request.META["HTTP_AUTHORIZATION"] = ""  # no token of ours: as if none were sent
        response = self.get_response(request)
        if not request.path_info.startswith(PREFIX):
            return response
        patch_vary_headers(response, ("Accept", "Authorization", "Cookie"))
        if request.method not in ("GET", "HEAD"):
            patch_cache_control(response, no_store=True)
            return response
        patch_cache_control(response, private=True, no_cache=True)
        if response.status_code != 200 or not isinstance(response, HttpResponse):
            return response
        etag = f'W/"{hashlib.sha256(response.content).hexdigest()[:32]}"'
        response["ETag"] = etag
        return get_conditional_response(request, etag=etag, response=response) or response
