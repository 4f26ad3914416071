"""The one shape of every error below /api/v1/: RFC 9457, with a code for programs and every single error named."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views import defaults
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from rest_framework import exceptions, serializers, status
from rest_framework.renderers import JSONRenderer

PREFIX = "/api/v1/"
MEDIA_TYPE = "application/problem+json"
NOTHING_HERE = _("There is nothing here, or it is not yours to see.")
OUR_FAULT = _(
    "Something went wrong on our side; it is in the log. Whether what was asked for was done "
    "is not known: look before asking again."
)


class TooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"
    default_detail = _("The request is too large. Nothing was changed.")


class ErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="For programs: stable, as `required` or `not_found`.")
    detail = serializers.CharField(help_text="For people.")
    attr = serializers.CharField(
        allow_null=True,
        help_text="The field or parameter it is about, with a dot for what lies deeper (`parameters.rsi_period`); "
        "`non_field_errors` for several at once; null where it is about none.",
    )


class ProblemSerializer(serializers.Serializer[Any]):
    """What every error is answered with, as `application/problem+json` (RFC 9457)."""

    type = serializers.CharField(help_text="`about:blank`: the status says what kind of problem it is, `code` which.")
    title = serializers.CharField(help_text="The name of the status.")
    status = serializers.IntegerField(min_value=400, max_value=599, help_text="The status of the answer.")
    detail = serializers.CharField(help_text="What happened, in a sentence.")
    code = serializers.CharField(
        help_text="For programs: `validation_error` where input is wrong (see `errors`), else that of the one error."
    )
    errors = ErrorSerializer(many=True)  # type: ignore[assignment]


class ProblemRenderer(JSONRenderer):
    media_type = MEDIA_TYPE


class ProblemFormatter(ExceptionFormatter):
    """From an exception to the shape."""

    def run(self) -> dict[str, Any]:
        errors = [{"code": each.code, "detail": each.detail, "attr": each.attr} for each in self.get_errors()]
        if not errors:
            return problem(self.exc.status_code, code=str(self.exc.default_code), detail=str(self.exc.default_detail))
        if isinstance(self.exc, exceptions.ValidationError):
            return problem(self.exc.status_code, code="validation_error", detail=_summed_up(errors), errors=errors)
        code, detail = str(errors[0]["code"]), str(errors[0]["detail"])
        return problem(self.exc.status_code, code=code, detail=detail, errors=errors)


class ProblemHandler(ExceptionHandler):
    """Every error of a view, rendered as a problem whatever else the view renders."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        match exc:
            case Http404():
                return exceptions.NotFound(NOTHING_HERE)
            case PermissionDenied():
                return exceptions.PermissionDenied(str(exc) or None)
            case RequestDataTooBig():
                return TooLarge()
            case SuspiciousOperation() | UnreadablePostError():
                return exceptions.ParseError(gettext("The request cannot be read. Nothing was changed."))
            case _:
                return exc

    def convert_unhandled_exceptions(self, exc: Exception) -> exceptions.APIException:
        if isinstance(exc, exceptions.APIException):
            return exc
        return exceptions.APIException(OUR_FAULT, code="internal_error")

    def get_response(self, exc: exceptions.APIException, data: dict[str, Any]) -> Any:
        if request := self.context.get("request"):
            as_problem(request)
        return super().get_response(exc, data)


def as_problem(request: Any) -> None:
    """What answers `request` is rendered as a problem."""
    request.accepted_renderer, request.accepted_media_type = ProblemRenderer(), MEDIA_TYPE


def problem(
    status_code: int, *, code: str, detail: str, errors: list[dict[str, Any]] | None = None, attr: str | None = None
) -> dict[str, Any]:
    """The shape, of one error unless several are given."""
    return {
        "type": "about:blank",
        "title": gettext(HTTPStatus(status_code).phrase),
        "status": status_code,
        "detail": detail,
        "code": code,
        "errors": errors or [{"code": code, "detail": detail, "attr": attr}],
    }


def problem_response(status_code: int, *, code: str, detail: Any, attr: str | None = None) -> HttpResponse:
    """For where no view is at work: middleware, and Django's own handlers."""
    body = ProblemRenderer().render(problem(status_code, code=code, detail=str(detail), attr=attr))
    return HttpResponse(body, status=status_code, content_type=MEDIA_TYPE)


def _summed_up(errors: list[dict[str, Any]]) -> str:
    if len(errors) != 1:
        return gettext("%(errors)s things are wrong with the request: see `errors`. Nothing was changed.") % {
            "errors": len(errors)
        }
    (only,) = errors
    named = only["attr"] not in (None, "non_field_errors")
    return f"{only['attr']}: {only['detail']}" if named else only["detail"]


# Django's own pages, for what fails outside of a view: a refused host, a header, an answer that cannot be rendered.


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if not request.path_info.startswith(PREFIX):
        return defaults.bad_request(request, exception)
    return problem_response(400, code="parse_error", detail=gettext("The request cannot be read. Nothing was changed."))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if not request.path_info.startswith(PREFIX):
        return defaults.permission_denied(request, exception)
    return problem_response(403, code="permission_denied", detail=gettext("That is not allowed. Nothing was changed."))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if not request.path_info.startswith(PREFIX):
        return defaults.page_not_found(request, exception)
    return problem_response(404, code="not_found", detail=NOTHING_HERE)


def server_error(request: HttpRequest) -> HttpResponseBase:
    if not request.path_info.startswith(PREFIX):
        return defaults.server_error(request)
    return problem_response(500, code="internal_error", detail=OUR_FAULT)
