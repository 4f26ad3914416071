"""Every page is written for who reads it."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils import translation
from django.utils.cache import patch_vary_headers

from algo.localised import Reader, reading
from algo.selectors.preferences import preference_of, reader_from, reader_of

API, ENDPOINTS = "/api/", "/api/v1/"


class WrittenForItsReader:
    """After authentication. The language of a page: the user's choice, else the cookie of the language switch, else
    what the browser asks for, else English; calendar, digits, zone and theme are the user's or those of the language.

    The API is for programs: its words are in the language its request asks for (`Accept-Language`), else English, and
    nothing else of an answer changes. A page that calls it by its session is answered in the page's language."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(settings.STATIC_URL):
            return self.get_response(request)
        who = _of_the_api(request) if request.path_info.startswith(API) else _of_the_page(request)
        with reading(who):
            response = self.get_response(request)
        response.headers.setdefault("Content-Language", who.language)
        patch_vary_headers(response, ("Accept-Language", "Cookie"))
        return response


def _of_the_page(request: HttpRequest) -> Reader:
    chosen = preference_of(request.user)
    request.theme = chosen.theme  # type: ignore[attr-defined]
    return reader_from(chosen, translation.get_language_from_request(request))


def _of_the_api(request: HttpRequest) -> Reader:
    if not request.path_info.startswith(ENDPOINTS):
        return Reader()  # the document of the API is in English
    asked = translation.get_language_from_request(request)
    if settings.SESSION_COOKIE_NAME in request.COOKIES and "HTTP_AUTHORIZATION" not in request.META:
        asked = reader_of(request.user, asked).language
    return Reader(language=asked)
