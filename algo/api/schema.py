"""How the OpenAPI document tells of errors: one component, the statuses that each operation can answer with."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, cast

from drf_spectacular.plumbing import force_instance
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from drf_standardized_errors.openapi import AutoSchema
from rest_framework import serializers

from algo.api.deprecation import deprecations
from algo.api.idempotency import HEADER, REPLAYED, InProgress, KeyOfAnother
from algo.api.problems import MEDIA_TYPE, NOTHING_HERE, OUR_FAULT, ProblemSerializer, problem
from algo.api.query import FIELDS, list_parameter

BODIES = ("POST", "PUT", "PATCH")
# what each status means, an example's code and detail
STATUSES = {
    "400": ("What was sent is wrong: `errors` says where and why. Nothing was changed.", None, None),
    "401": (
        "Nobody is logged in, or the token is wrong, ended or expired.",
        "not_authenticated",
        "Authentication credentials were not provided.",
    ),
    "403": (
        "It is not yours to do. Nothing was changed.",
        "permission_denied",
        "You do not have permission to perform this action.",
    ),
    "404": ("There is no such thing, or it is not yours to see.", "not_found", NOTHING_HERE),
    "405": ("Not a method of this address: see `Allow`.", "method_not_allowed", 'Method "PUT" not allowed.'),
    "406": (
        "None of the types in `Accept` is offered.",
        "not_acceptable",
        "Could not satisfy the request Accept header.",
    ),
    "409": (
        "A request with the same `Idempotency-Key` has no answer yet: ask again after `Retry-After` seconds.",
        InProgress.default_code,
        "A request with this key has no answer yet: it runs, or it was cut off.",
    ),
    "413": ("The body is larger than 1 MiB.", "too_large", "The request is too large. Nothing was changed."),
    "415": (
        "The body is of a type that is not read.",
        "unsupported_media_type",
        'Unsupported media type "text/plain" in request.',
    ),
    "422": (
        "The `Idempotency-Key` was used for another address or body. Nothing was done.",
        KeyOfAnother.default_code,
        KeyOfAnother.default_detail,
    ),
    "429": (
        "Too many requests: ask again after `Retry-After` seconds.",
        "throttled",
        "Request was throttled. Expected available in 12 seconds.",
    ),
    "500": ("Our fault; what became of it is in the log.", "internal_error", OUR_FAULT),
}


def told(status: int, description: str = "", *, code: str, detail: str, attr: str | None = None) -> OpenApiResponse:
    """An error of an operation, with an example: for `extend_schema(responses={409: told(409, …)})`."""
    return OpenApiResponse(ProblemSerializer, description=description, examples=[_example(status, code, detail, attr)])


KEY = OpenApiParameter(
    HEADER,
    {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[!-~]+$"},
    OpenApiParameter.HEADER,
    description="Sent again with the same key within 24 hours, the request is answered as it was the first time "
    f"(`{REPLAYED}: true`) and acts once. A UUID is a good one.",
)


IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    str,
    OpenApiParameter.HEADER,
    description="The `ETag` of an answer: where it did not change, 304 without a body.",
)
UNCHANGED = {"description": "What `If-None-Match` names did not change."}
_TEXT, _SECONDS = {"type": "string"}, {"type": "integer", "minimum": 0}
HEADERS = {
    "401": {"WWW-Authenticate": {"schema": _TEXT, "required": True, "description": "How to log in: `Token`."}},
    "405": {"Allow": {"schema": _TEXT, "required": True, "description": "The methods there are."}},
    "429": {"Retry-After": {"schema": _SECONDS, "required": True, "description": "Seconds until it is worth a try."}},
    "503": {"Retry-After": {"schema": _SECONDS, "description": "Seconds until it is worth a try."}},
}
ETAG = {"ETag": {"schema": _TEXT, "required": True, "description": "For `If-None-Match`."}}
OF_ROWS = {"list": "A list of {}", "retrieve": "One of the {}", "create": "", "partial_update": "", "destroy": ""}


class ProblemAutoSchema(AutoSchema):
    """Errors are problems, of their own media type; a POST takes a key; what is read has a tag, and fewer fields where
    they are asked for."""

    def get_override_parameters(self) -> list[Any]:
        more = [KEY] if self._takes_key() else []
        if self.method == "GET":
            more.append(IF_NONE_MATCH)
        if self._is_sparse():
            more.append(self._fields())
        return [*super().get_override_parameters(), *more]

    def get_operation_id(self) -> str:
        """`deals_close` for an act, where the framework says `deals_close_create`."""
        found, action = str(super().get_operation_id()), getattr(self.view, "action", None)
        if action in OF_ROWS or (action is None and hasattr(self.view, "get")):
            return found
        return found.removesuffix("_create").removesuffix("_retrieve").removesuffix("_list")

    def get_summary(self) -> str:
        if words := OF_ROWS.get(getattr(self.view, "action", None) or ""):
            return words.format(self._tokenize_path()[-1].replace("-", " "))
        return re.split(r"[.:;]\s", f"{self.get_description()} ".replace("\n", " "), maxsplit=1)[0].strip().rstrip(".")

    def _is_sparse(self) -> bool:
        return self.method == "GET" and getattr(self.view, "reads_rows", False)

    def _fields(self) -> OpenApiParameter:
        names = list(force_instance(cast(Any, self.view).get_serializer_class()).fields)
        told = list_parameter(FIELDS, names, "Only these fields, separated by commas. All of them unless asked.")
        return OpenApiParameter(
            FIELDS, told["schema"], description=told["description"], style=told["style"], explode=told["explode"]
        )

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        found = super()._get_response_bodies(direction)
        return {**found, "304": UNCHANGED} if self.method == "GET" and direction == "response" else found

    def _get_response_headers_for_code(self, status_code: str, direction: Any = "response") -> Any:
        found = super()._get_response_headers_for_code(status_code, direction)
        more: Any = ETAG if self.method == "GET" and status_code == "200" else HEADERS.get(status_code, {})
        return {**found, **more}

    def map_parsers(self) -> list[Any]:
        """Login reads a form too, for a line of curl; who makes a client from this needs one way to send a body."""
        return ["application/json"]

    def is_deprecated(self) -> bool:
        whole = any(not mark.parameters for mark in deprecations(self.view, self.method))
        return whole or bool(super().is_deprecated())

    def _get_parameters(self) -> list[dict[str, Any]]:
        ending = {name for mark in deprecations(self.view, self.method) for name in mark.parameters}
        return [each | ({"deprecated": True} if each["name"] in ending else {}) for each in super()._get_parameters()]

    def _takes_key(self) -> bool:
        return self.method == "POST" and bool(getattr(self.view, "idempotent", False))

    def _get_response_for_code(
        self, serializer: Any, status_code: str, media_types: Any = None, direction: str = "response"
    ) -> Any:
        inner = serializer.response if isinstance(serializer, OpenApiResponse) else serializer
        if isinstance(force_instance(inner), ProblemSerializer):
            media_types = [MEDIA_TYPE]
        return super()._get_response_for_code(serializer, status_code, media_types, direction)

    def _get_error_response_serializer(self, status_code: str) -> Any:
        description, code, detail = STATUSES[status_code]
        if status_code == "400":
            return OpenApiResponse(ProblemSerializer, description=description, examples=[self._wrong_input()])
        return told(int(status_code), description, code=str(code), detail=str(detail))

    def _get_error_response_examples(self) -> list[OpenApiExample]:
        return []  # each answer brings its own

    def _wrong_input(self) -> OpenApiExample:
        body = self.get_request_serializer() if self.method in BODIES else None
        serializer = force_instance(body)
        required = (
            [name for name, field in serializer.fields.items() if field.required]
            if isinstance(serializer, serializers.Serializer)
            else []
        )
        if not required:
            return _example(400, "parse_error", "JSON parse error - Expecting value: line 1 column 1 (char 0)", None)
        return _example(400, "required", "This field is required.", required[0])

    def _should_add_http403_error_response(self) -> bool:
        return self._should_add_http401_error_response()  # roles, and the form token of a session

    def _should_add_http404_error_response(self) -> bool:
        return any(parameter["in"] == "path" for parameter in self._get_parameters())

    def _should_add_http415_error_response(self) -> bool:
        return self.method in BODIES and super()._should_add_http415_error_response()

    def _should_add_error_response(self, responses: dict[str, Any], status_code: str) -> bool:
        if status_code == "413" and self.method not in BODIES:
            return False
        if status_code in ("409", "422"):
            return status_code not in responses and self._takes_key()
        return bool(super()._should_add_error_response(responses, status_code))


def _example(status: int, code: str, detail: str, attr: str | None) -> OpenApiExample:
    outer, sentence = ("validation_error", f"{attr}: {detail}") if attr else (code, detail)
    errors = [{"code": code, "detail": detail, "attr": attr}]
    return OpenApiExample(HTTPStatus(status).phrase, value=problem(status, code=outer, detail=sentence, errors=errors))


def leave_out(result: Any, **_: Any) -> Any:
    """For the document as a whole: where fields can be left out none of a row is sure to be there, and an answer that
    many operations give stands there once."""
    components = result["components"]
    shared = components.setdefault("responses", {})
    for operation in (each for path in result["paths"].values() for each in path.values()):
        if any(parameter["name"] == FIELDS for parameter in operation.get("parameters", ())):
            _row_of(operation, components["schemas"]).pop("required", None)
        for status, answer in operation["responses"].items():
            if MEDIA_TYPE in answer.get("content", ()):
                name = f"Problem{status}"
                if json.dumps(shared.setdefault(name, answer)) == json.dumps(answer):
                    operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return result


def _row_of(operation: Any, schemas: Any) -> Any:
    """The component of the rows that an operation lists, or of its one row."""
    found = operation["responses"]["200"]["content"]["application/json"]["schema"]
    component = schemas[found["$ref"].rpartition("/")[2]]
    rows = component["properties"].get("results")
    return component if rows is None else schemas[rows["items"]["$ref"].rpartition("/")[2]]
